"""Live side: taps, timeline, analysis, metrics, knobs and the `Monitor` that a host starts."""

from exporter.collector import MonitorCollector
from exporter.monitor import Clocks, Monitor
from exporter.station import Station
from exporter.trace import Trace

__all__ = ["Clocks", "Monitor", "MonitorCollector", "Station", "Trace"]
