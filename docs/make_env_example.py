"""Writes deploy/.env.example from the README's table of settings; a test compares the two.

``python docs/make_env_example.py`` after a setting was added.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "deploy" / ".env.example"
HEAD = """\
# Settings of monitoring_v2, for systemd's EnvironmentFile= and for `set -a; . FILE`.
# Every setting, commented out, with its default. What is empty has none, or is a secret: secrets
# stand in files of mode 0640 or stricter that the settings ending in _FILE name.
"""
_ROW = re.compile(r"^\| `(MONITORING_\w+)` \| (.*?) \| (.*?) \|$", re.MULTILINE)


def example(readme: str) -> str:
    """Return the text of the example, from the text of the README."""
    blocks = [
        f"# {meaning.replace('`', '')}\n#{name}={_default(shown)}\n"
        for name, shown, meaning in _ROW.findall(readme)
    ]
    return "\n".join([HEAD, *blocks])


def _default(shown: str) -> str:
    """Return the value in backquotes; what stands in brackets describes one that is not fixed."""
    return shown.strip("`") if shown.startswith("`") else ""


if __name__ == "__main__":
    text = example((ROOT / "README.md").read_text(encoding="utf-8"))
    EXAMPLE.write_text(text, encoding="utf-8")
