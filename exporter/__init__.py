"""Live side: taps, timeline, analysis, metrics, knobs and the `Monitor` that a host starts."""

from exporter.monitor import Clocks, Monitor, MonitorCollector
from exporter.station import Station
from exporter.trace import Trace

__all__ = ["Clocks", "Monitor", "MonitorCollector", "Station", "Trace"]
