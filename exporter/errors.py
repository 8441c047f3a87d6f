"""Every error that monitoring_v2 raises to its user.

    MonitoringError
    ├── ConfigError        a setting, station, metric or knob declaration is wrong (start-up)
    ├── KnobError          a knob change is refused (run time)
    ├── MetricError        a value that a host reports is refused (run time, counted and logged)
    ├── TraceError         a trace cannot be started under this id (run time)
    └── NotRunningError    the monitor or the archive is not started

The audio path (``pre``, ``post``, ``process``) raises none of them.
"""


class MonitoringError(Exception):
    """Base of all errors of this project."""


class ConfigError(MonitoringError):
    """A setting is wrong; the message names its key and value."""


class KnobError(MonitoringError):
    """A knob change is refused; the message names the key, the value and what would be valid."""


class MetricError(MonitoringError):
    """A reported value is refused; the message names the key, the value and what is valid."""


class TraceError(MonitoringError):
    """A trace cannot be started; the message names its id."""


class NotRunningError(MonitoringError):
    """The service is not started, so that it cannot do what was asked."""
