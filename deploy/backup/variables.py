"""The settings of an installation as a file ``.env``: all but secrets, which are named."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from exporter.errors import ConfigError

DATABASE: Final = "MONITORING_DB"
AUDIO_PATH: Final = "MONITORING_AUDIO_PATH"
_SECRET_PARTS: Final = ("password", "sslpassword")
# The name of a file or folder is no secret; what it holds does not come along.
_SECRET_NAME: Final = re.compile(r"(PASSWORD|SECRET|TOKEN|KEY|PASSPHRASE|CREDENTIALS?)$")
_FILE_NAME: Final = re.compile(r"_(FILE|PATH|DIR)$")
_LINE: Final = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")


@dataclass(frozen=True, slots=True)
class Variables:
    """Settings without secrets.

    Attributes:
        values: What may be written down.
        secrets: What has to be filled in by hand; one line for each.
    """

    values: Mapping[str, str]
    secrets: list[str]


def without_secrets(found: Mapping[str, str]) -> Variables:
    """Part settings into what may be written down and the names of secrets."""
    values, secrets = {}, []
    for name, value in found.items():
        if name == DATABASE:
            values[name], left_out = database_without_secrets(value)
            secrets += [f"the {part} in {name}" for part in left_out]
        elif _SECRET_NAME.search(name):
            secrets.append(name)
        else:
            values[name] = value
            if _FILE_NAME.search(name) and _SECRET_NAME.search(_FILE_NAME.sub("", name)):
                secrets.append(f"the file that {name} names: {value}")
    return Variables(values, secrets)


def database_without_secrets(value: str) -> tuple[str, list[str]]:
    """Return a value of MONITORING_DB without passwords, and which it had.

    Raises:
        ConfigError: It is no connection string.
    """
    if "=" not in value and "://" not in value:
        return value, []
    try:
        parts = conninfo_to_dict(value)
    except psycopg.ProgrammingError:
        raise ConfigError(f"{DATABASE} is no connection string that libpq understands") from None
    left_out = [name for name in _SECRET_PARTS if parts.pop(name, None) is not None]
    return make_conninfo("", **parts), left_out


def as_file(variables: Variables, notes: list[str]) -> str:
    """Return the text of a file that a shell, systemd and Docker read alike."""
    lines = [f"# {note}" for note in notes]
    lines += [f"{name}={shlex.quote(value)}" for name, value in variables.values.items()]
    if variables.secrets:
        lines.append("# Secrets are not in a backup. Fill in by hand:")
        lines += [f"#   {secret}" for secret in variables.secrets]
    return "\n".join(lines) + "\n"


def from_file(text: str) -> Variables:
    """Read what `as_file` has written."""
    values, secrets = {}, []
    for line in text.splitlines():
        if found := _LINE.fullmatch(line):
            values[found[1]] = "".join(shlex.split(found[2]))
        elif line.startswith("#   "):
            secrets.append(line[4:])
    return Variables(values, secrets)
