"""The example of the README runs as it stands, with and without what it could use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "host.py"


def run_example(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run examples/host.py with every path inside ``folder`` and no database that answers."""
    ours = {
        "MONITORING_DB": "host=127.0.0.1 port=1 dbname=nobody connect_timeout=1",
        "MONITORING_AUDIO_PATH": str(folder / "audio"),
        "MONITORING_SPOOL_PATH": str(folder / "spool"),
        "MONITORING_METRICS_TARGETS_PATH": str(folder / "targets"),
        "MONITORING_METRICS_PORT": "0",
        "XDG_STATE_HOME": str(folder / "state"),
    }
    kept = {name: value for name, value in os.environ.items() if "MONITORING" not in name}
    return subprocess.run(
        [sys.executable, str(EXAMPLE)],
        cwd=folder,
        env=kept | ours | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_example_keeps_everything_without_a_database(tmp_path: Path) -> None:
    """Without a database the example ends well, with its sound on disk and its rows spooled."""
    done = run_example(tmp_path)

    assert done.returncode == 0, done.stderr
    assert "wait in the spool" in done.stdout
    assert "Traceback" not in done.stderr
    taps = {path.parent.name for path in (tmp_path / "audio").glob("*/*/St_3_3333/*/*.wav")}
    assert {"PRE", "POST"} == taps
    assert list((tmp_path / "spool").glob("*/*.batch"))


def test_example_leaves_nothing_when_monitoring_is_off(tmp_path: Path) -> None:
    """With MONITORING_ENABLED=false the call is played in full and nothing is written."""
    done = run_example(tmp_path, MONITORING_ENABLED="false")

    assert done.returncode == 0, done.stderr
    assert "played" in done.stdout
    assert "nothing was kept" in done.stdout
    assert "" == done.stderr
    assert [] == list(tmp_path.iterdir())


def test_readme_shows_the_example() -> None:
    """Every line of the README's Python block stands in examples/host.py, in the same order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    shown = [line for line in textwrap.dedent(block).splitlines() if line.strip()]
    source = EXAMPLE.read_text(encoding="utf-8").splitlines()
    rest = iter(line.strip() for line in source)

    missing = [line for line in shown if line.strip() not in rest]

    assert [] == missing
