#!/bin/sh
# The command with the settings of the services of this machine, where the user may read them.
set -eu
root=${0%/usr/local/bin/monitoring}
[ "$root" != "$0" ] || root=""
settings=$root/etc/monitoring
if [ -r "$settings/monitoring.env" ]; then
    set -a
    # shellcheck disable=SC1091 # made by the installation
    . "$settings/monitoring.env"
    set +a
fi
if [ -z "${MONITORING_CONFIG:-}" ] && [ -r "$settings/monitoring.config.json" ]; then
    export MONITORING_CONFIG="$settings/monitoring.config.json"
fi
exec "$root/opt/monitoring/venv/bin/python" -m deploy.cli "$@"
