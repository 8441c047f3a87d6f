"""Grafana dashboards as code; the generated dashboards live in this folder too."""
