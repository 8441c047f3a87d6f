"""All alerts: here what callers hear; in ``own_alerts`` what the monitoring says of itself."""

from __future__ import annotations

from functools import partial

from dashboards.alert import Alert, Group, Limit, Severity, Unit
from dashboards.conditions import (
    loudest,
    loudest_in_call,
    samples_lost,
    samples_lost_in_call,
    silent_beside_speech,
    silent_beside_speech_in_call,
    sustained,
    sustained_in_call,
)
from dashboards.links import STATION
from dashboards.own_alerts import OWN_ALERTS
from dashboards.thresholds import Direction, prometheus, threshold

_ABOVE, _BELOW = Direction.ABOVE, Direction.BELOW
_call = partial(Alert, group=Group.CALLS, dashboard=STATION, labels=("station", "tap"), hold_s=30)

CALL_ALERTS = (
    _call(
        name="CallClipping",
        severity=Severity.WARNING,
        summary="{station} {tap} clips: {value} of the samples of a frame",
        description="Peaks are cut off at full scale in more than half of the last minute.",
        condition=sustained("pcm.clipping_ratio", _ABOVE),
        search=sustained_in_call("pcm.clipping_ratio", _ABOVE),
        limit=Limit.of(prometheus("pcm.clipping_ratio")),
        window_s=60,
        unit=Unit.SHARE,
        metric="pcm.clipping_ratio",
    ),
    _call(
        name="CallLimiting",
        severity=Severity.WARNING,
        summary="{station} {tap} limits: {value} of the samples are held down",
        description="The limiter works all the time, so that speech loses its dynamics.",
        condition=sustained("pair.limited_ratio", _ABOVE),
        search=sustained_in_call("pair.limited_ratio", _ABOVE),
        limit=Limit.of(prometheus("pair.limited_ratio")),
        window_s=60,
        unit=Unit.SHARE,
        metric="pair.limited_ratio",
    ),
    _call(
        name="CallSpeechLost",
        severity=Severity.CRITICAL,
        summary="{station} {tap} is choppy: {value} of the speech is missing",
        description="Speech that comes in is silent when it leaves the station: lost syllables.",
        condition=sustained("pair.speech_lost_ratio", _ABOVE),
        search=sustained_in_call("pair.speech_lost_ratio", _ABOVE),
        limit=Limit.of(prometheus("pair.speech_lost_ratio")),
        window_s=60,
        unit=Unit.SHARE,
        metric="pair.speech_lost_ratio",
    ),
    _call(
        name="CallTooLoud",
        severity=Severity.WARNING,
        summary="{station} {tap} is too loud: active level {value}",
        description="The active level of speech leaves no room for its peaks.",
        condition=sustained("pcm.active_level_dbfs", _ABOVE),
        search=sustained_in_call("pcm.active_level_dbfs", _ABOVE),
        limit=Limit.of(prometheus("pcm.active_level_dbfs", _ABOVE)),
        window_s=60,
        unit=Unit.LEVEL,
        metric="pcm.active_level_dbfs",
    ),
    _call(
        name="CallTooQuiet",
        severity=Severity.WARNING,
        summary="{station} {tap} is too quiet: active level {value}",
        description="Speech is too quiet to be understood, by people and by recognisers.",
        condition=sustained("pcm.active_level_dbfs", _BELOW),
        search=sustained_in_call("pcm.active_level_dbfs", _BELOW),
        limit=Limit.of(prometheus("pcm.active_level_dbfs", _BELOW)),
        window_s=60,
        unit=Unit.LEVEL,
        metric="pcm.active_level_dbfs",
    ),
    _call(
        name="CallSlow",
        severity=Severity.WARNING,
        summary="{station} {tap} is slow: a block takes {value}",
        description="The station needs so long for a block that the next one waits for it.",
        condition=sustained("pipe.processing_latency_ms", _ABOVE),
        search=sustained_in_call("pipe.processing_latency_ms", _ABOVE),
        limit=Limit.of(prometheus("pipe.processing_latency_ms")),
        window_s=60,
        unit=Unit.SECONDS,
        metric="pipe.processing_latency_ms",
    ),
    _call(
        name="CallDeadAir",
        severity=Severity.CRITICAL,
        summary="{station} is dead: the loudest frame has {value}",
        description="Calls run, and nothing is to be heard at either tap.",
        condition=loudest,
        search=loudest_in_call,
        limit=Limit.of(threshold("tap.silent_dbfs")),
        window_s=15,
        hold_s=15,
        unit=Unit.LEVEL,
        labels=("station",),
        metric="pcm.rms_dbfs",
    ),
    _call(
        name="CallTapSilent",
        severity=Severity.CRITICAL,
        summary="{station} {tap} is silent while the other tap speaks, {value} louder",
        description="Sound goes in and none comes out, or comes out and none went in.",
        condition=silent_beside_speech,
        search=silent_beside_speech_in_call,
        limit=Limit(_ABOVE, 0.0),
        window_s=15,
        hold_s=15,
        unit=Unit.DECIBELS,
        metric="pcm.rms_dbfs",
    ),
    _call(
        name="CallSamplesLost",
        severity=Severity.WARNING,
        summary="{station} {tap} lost about {value} samples in five minutes",
        description="Audio that was due did not come, came too late, or could not be kept.",
        condition=samples_lost,
        search=samples_lost_in_call,
        limit=Limit(_ABOVE, 0.0),
        window_s=300,
        hold_s=0,
        metric="pipe.frame_drop_ratio",
    ),
)

ALERTS: tuple[Alert, ...] = (*CALL_ALERTS, *OWN_ALERTS)
"""All of them; names are unique."""
