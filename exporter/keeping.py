"""What is kept of a call from a sample on: the station's recording, consent and pauses together.

The least that any of them allows is what counts. A :class:`Keep` travels through the tap's queue
like a knob change, so that it counts from a sample and not from a moment. Nothing here does I/O:
the real-time modules use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from exporter.errors import TraceError
from exporter.model import Cause, Consent, Recording, allowance

KEPT = {
    Recording.AUDIO: "audio and numbers are",
    Recording.NUMBERS: "numbers are, audio is not",
    Recording.OFF: "nothing is",
}
"""What people read of how much is kept."""
_ORDER = (Recording.OFF, Recording.NUMBERS, Recording.AUDIO)


class Keep(NamedTuple):
    """What is kept of the samples that follow.

    Attributes:
        has_audio: Whether the audio is.
        is_measured: Whether numbers are made of it.
        is_archived: Whether a bucket of nothing else goes to the archive.
        cause: Of the gap that stands for audio that is not kept.
    """

    has_audio: bool = True
    is_measured: bool = True
    is_archived: bool = True
    cause: Cause = Cause.DISABLED

    @property
    def is_paused(self) -> bool:
        """Whether the host has paused: time goes on, and nothing of it is known."""
        return self.is_archived and not self.is_measured


@dataclass(slots=True)
class Keeping:
    """What a call allows, as the host says it; read and set from any thread.

    Attributes:
        consent: What the callers agreed to.
        unknown: What is kept while the consent is unknown.
        is_paused: Whether the host has paused the audio.
    """

    consent: Consent = Consent.UNKNOWN
    unknown: Recording = Recording.AUDIO
    is_paused: bool = False

    def of(self, recording: Recording) -> Keep:
        """Return what is kept at a station with this recording, as things stand."""
        allowed = allowance(self.consent, self.unknown)
        level = min(recording, allowed, key=_ORDER.index)
        # What the operator has switched off is off whatever the callers say.
        cause = Cause.DISABLED if level is recording else Cause.MASKED
        if level is Recording.OFF:
            return Keep(has_audio=False, is_measured=False, is_archived=False, cause=cause)
        if self.is_paused:
            return Keep(has_audio=False, is_measured=False, cause=Cause.MASKED)
        return Keep(has_audio=level is Recording.AUDIO, cause=cause)


def checked_consent(value: str) -> Consent:
    """Return a consent by its name; TraceError for any other word."""
    if value not in tuple(Consent):
        raise TraceError(f"consent {value!r} is none of {', '.join(Consent)}")
    return Consent(value)
