"""Live side: taps, timeline, analysis, metrics, knobs and the `Monitor` that a host starts."""

from exporter.collector import MonitorCollector
from exporter.hosting import favour_audio
from exporter.monitor import Clocks, Monitor
from exporter.station import Station
from exporter.trace import Trace

__all__ = ["Clocks", "Monitor", "MonitorCollector", "Station", "Trace", "favour_audio"]
