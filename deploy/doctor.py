"""The doctor: looks at everything that this installation needs, and says what to do."""

from __future__ import annotations

from deploy.checks_database import database_findings
from deploy.checks_host import host_findings
from deploy.checks_privacy import privacy_findings
from deploy.checks_service import service_findings
from deploy.finding import Finding
from exporter.config import Settings


def examine(settings: Settings) -> list[Finding]:
    """Look at settings, database, this machine, privacy, and the service where one is installed."""
    return [
        _enabled(settings),
        *database_findings(settings),
        *host_findings(settings),
        *privacy_findings(settings),
        *service_findings(),
    ]


def _enabled(settings: Settings) -> Finding:
    text = "on" if settings.enabled else "off: nothing is heard; unset MONITORING_ENABLED"
    return Finding("monitoring", settings.enabled, text)
