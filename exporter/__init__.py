"""Live side: taps, timeline, analysis, metrics, knobs and the `Monitor` that a host starts.

These names are imported when they are first asked for: most commands need the vocabulary alone,
and loading the analysis takes long.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.collector import MonitorCollector
    from exporter.hosting import favour_audio
    from exporter.monitor import Clocks, Monitor
    from exporter.station import Station
    from exporter.trace import Trace

__all__ = ["Clocks", "Monitor", "MonitorCollector", "Station", "Trace", "favour_audio"]

_MODULES = {
    "Clocks": "monitor",
    "Monitor": "monitor",
    "MonitorCollector": "collector",
    "Station": "station",
    "Trace": "trace",
    "favour_audio": "hosting",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
