"""Speech for the demo: what the package carries, or recordings that the machine has."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

RECORDED = (
    Path("/usr/share/asterisk/sounds/en_US_f_Allison/demo-congrats.wav"),
    Path("/usr/share/asterisk/sounds/fr_CA_f_June/demo-congrats.wav"),
)
SPOKEN = ("caller_en.flac", "caller_fr.flac")


def demo_speech() -> tuple[Path, Path]:
    """Return English and French speech: Debian's recorded prompts where they are installed."""
    if all(path.exists() for path in RECORDED):
        return RECORDED
    english, french = (Path(str(files("deploy.speech") / name)) for name in SPOKEN)
    return english, french
