#!/bin/sh
# Runs once, when PostgreSQL makes its folder: the role that Grafana logs in with. What it may read
# is granted by the archive's migrations.
set -eu

psql --set ON_ERROR_STOP=1 --set password="$MONITORING_READER_PASSWORD" \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE monitoring_reader LOGIN PASSWORD :'password';
SQL
