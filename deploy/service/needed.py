"""Prints those entries of a lock file, with their hashes, that a report of pip names.

``python needed.py LOCK REPORT``; the report is that of ``pip install --dry-run --report``. It runs
in an environment that has nothing yet, so it uses the standard library alone.
"""

# ruff: noqa: INP001 - a script
from __future__ import annotations

import json
import re
import sys
from pathlib import Path


def needed(lock: str, report: str, own: str) -> str:
    """Return the entries that a report names, but not that of the project's own package.

    A name may have several, for one Python or another. One that has none is missed by pip, which
    then refuses to install anything.
    """
    names = {_normal(item["metadata"]["name"]) for item in json.loads(report)["install"]} - {own}
    entries = re.findall(r"^[A-Za-z0-9][^\n]*\n(?:[ \t].*\n)*", lock, re.MULTILINE)
    return "".join(e for e in entries if _normal(re.split(r"[=\[ ;]", e, maxsplit=1)[0]) in names)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    lock_, report_ = (Path(argument).read_text(encoding="utf-8") for argument in sys.argv[1:])
    print(needed(lock_, report_, own="monitoring-v2"), end="")
