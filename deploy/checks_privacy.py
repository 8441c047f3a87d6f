"""Checks of what protects the people who are heard: what is kept, and the key of their numbers."""

from __future__ import annotations

from deploy.finding import Finding
from exporter.config import Settings, state_directory
from exporter.keeping import KEPT
from exporter.keyfile import KEY_BYTES
from exporter.model import Recording
from exporter.privacy import KEY_FILE, KEY_SETTING


def privacy_findings(settings: Settings) -> list[Finding]:
    """Look at what is kept of a call, and at the key that phone numbers are masked with."""
    return [_consent(settings), _key(settings)]


def _consent(settings: Settings) -> Finding:
    kept, refused = KEPT[settings.consent_unknown], KEPT[Recording.NUMBERS]
    less = [
        f"{spec.key} {spec.recording}"
        for spec in settings.stations.values()
        if spec.recording is not Recording.AUDIO
    ]
    stations = f"; recording: {', '.join(less)}" if less else ""
    return Finding("consent", True, f"unknown: {kept} kept; refused: {refused} kept{stations}")


def _key(settings: Settings) -> Finding:
    path = settings.privacy_key_file or state_directory() / KEY_FILE
    if settings.privacy_key_file is None and not path.exists():
        return Finding("privacy key", True, f"made at the first phone number: {path}")
    try:
        key, mode = path.read_bytes().strip(), path.stat().st_mode
    except OSError as error:
        text = f"{path}: {error.strerror}; name a file that the host can read in {KEY_SETTING}"
        return Finding("privacy key", False, text)
    if len(key) < KEY_BYTES:
        text = f"{path}: shorter than {KEY_BYTES} bytes; make another one"
        return Finding("privacy key", False, text)
    if mode & 0o007:
        text = f"{path}: every user of this machine can read it; chmod 600 it"
        return Finding("privacy key", False, text)
    return Finding("privacy key", True, f"{path}; keep it with the backups: it finds numbers again")
