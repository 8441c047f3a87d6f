"""The settings' example names every setting, with its true default and no secret."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.config import ENVIRONMENT_VARIABLES, load_settings

ROOT = Path(__file__).parents[1]
EXAMPLE = (ROOT / "deploy" / ".env.example").read_text(encoding="utf-8")
VALUES = dict(re.findall(r"^#(MONITORING_\w+)=(.*)$", EXAMPLE, re.MULTILINE))


def test_it_is_what_the_table_of_settings_says() -> None:
    """The file is that of the README's table; `python docs/make_env_example.py` makes it anew."""
    make = runpy.run_path(str(ROOT / "docs" / "make_env_example.py"))

    assert make["example"]((ROOT / "README.md").read_text(encoding="utf-8")) == EXAMPLE


def test_it_names_every_setting_and_sets_none() -> None:
    """None is missing, none is unknown, and as it stands the file changes nothing."""
    assert set(ENVIRONMENT_VARIABLES) == VALUES.keys()
    assert [] == re.findall(r"^[^#\n]", EXAMPLE, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name, value in VALUES.items() if value])
def test_what_it_shows_is_the_default(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a line's comment sign taken away, nothing changes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "monitoring.config.json").write_text("{}")
    plain, shown = load_settings({}), load_settings({name: VALUES[name]})

    # Registries are made anew each time.
    assert plain == replace(shown, registry=plain.registry, metrics=plain.metrics)


def test_it_holds_no_secret() -> None:
    """Keys, tokens and passwords have no value in it."""
    secrets = [name for name in VALUES if re.search("KEY|TOKEN|SECRET|PASS", name)]

    assert secrets
    assert [""] * len(secrets) == [VALUES[name] for name in secrets]
