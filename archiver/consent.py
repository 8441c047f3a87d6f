"""What the spool thread knows of consent: whose audio may not be written, or not stay.

The exporter stops at a sample; here it is checked once more, before a file is written. What comes
later than the refusal, such as a bucket that was open then, is not stored either.
"""

from __future__ import annotations

import logging

from archiver.audio import AudioStore
from exporter.model import (
    Consent,
    ConsentChanged,
    Record,
    Recording,
    TraceStarted,
    allowance,
)
from exporter.selfmetrics import Tally

_log = logging.getLogger(__name__)


class Consents:
    """Consent of the calls that run in this process.

    Args:
        audio: Where segments are.
        unknown: What is kept while a call's consent is unknown.
        tally: The own numbers.
    """

    def __init__(self, audio: AudioStore, unknown: Recording, tally: Tally) -> None:
        self._audio = audio
        self._unknown = unknown
        self._tally = tally
        self._known: dict[str, Consent] = {}
        self._withdrawn: dict[str, None] = {}
        self._has_trouble = False

    def follow(self, record: Record) -> None:
        """Learn what a record says of its call's consent."""
        if isinstance(record, TraceStarted | ConsentChanged):
            self._known[record.trace_id] = record.consent
        if isinstance(record, ConsentChanged) and record.consent is Consent.REFUSED:
            self._withdrawn[record.trace_id] = None

    def forget(self, trace_id: str) -> None:
        """Forget a call that is over."""
        self._known.pop(trace_id, None)

    def allows_audio(self, trace_id: str) -> bool:
        """Tell whether audio of this call may be written."""
        consent = self._known.get(trace_id, Consent.UNKNOWN)
        return allowance(consent, self._unknown) is Recording.AUDIO

    def remove_withdrawn(self) -> None:
        """Remove the files of calls that have refused since; what fails is tried again."""
        for trace_id in tuple(self._withdrawn):
            try:
                removed = self._audio.remove_call(trace_id)
            except OSError as error:
                if not self._has_trouble:
                    self._has_trouble = True
                    _log.exception(
                        "cannot remove the audio of call %s below %s (%s), whose callers have "
                        "refused; trying again until it is gone: see who owns the files",
                        trace_id,
                        self._audio.root,
                        error,
                    )
                continue
            del self._withdrawn[trace_id]
            self._has_trouble = False
            self._tally.add("audio_withdrawn_total", by=removed)
