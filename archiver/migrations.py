"""Database, roles and schema: made once, moved forward by numbered files, never backward."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib.resources import files

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from archiver.comments import text_of
from exporter.errors import MonitoringError

OWNER = "monitoring_owner"
WRITER = "monitoring_writer"
READER = "monitoring_reader"
RETENTION = "monitoring_retention"
DRILLDOWN = "monitoring_drilldown"
ERASURE = "monitoring_erasure"

_ROLES = (
    f"CREATE ROLE {OWNER} NOLOGIN",
    f"CREATE ROLE {WRITER} LOGIN",
    f"CREATE ROLE {READER} LOGIN",
    f"CREATE ROLE {RETENTION} LOGIN",
    f"CREATE ROLE {DRILLDOWN} LOGIN",
    f"CREATE ROLE {ERASURE} LOGIN",
)
_VIEWS = (
    "archived_calls, v_tap_buckets, v_metrics, v_segments, v_gaps, v_knob_snapshots, "
    "v_knob_events, v_health, v_defects, v_batches, call_list, bucket_wide"
)
# What panels call (sql/005_panels.sql); they read views and no more than who calls them.
_PANELS = (
    "data_status, reconciliation, archive_processes, archive_rate, archive_sizes, audio_growth, "
    "trace_stations, stations_between, trace_search, worst_buckets, trace_timeline, "
    "bucket_detail, gap_list, defect_timeline, health_timeline, knobs_in_force, knob_changes, "
    "knob_impact_metrics, knob_impact, knob_verdicts"
)
# What the drill-down reads beside the views: paths of files, and who may ask.
_READ = (
    "traces, tap_buckets_5s, metrics_agg_5s, audio_segments_5s, knob_snapshots_5s, knob_events, "
    "gaps, schema_migrations, call_totals, access_tokens"
)
# What each role may do; the writer neither deletes nor defines, the reader sees views alone, the
# drill-down writes the access log alone, and nobody else sees that or the tokens.
_GRANTS = f"""
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO {WRITER}, {READER}, {RETENTION};
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {WRITER};
REVOKE INSERT, UPDATE ON schema_migrations FROM {WRITER};
GRANT EXECUTE ON FUNCTION ensure_partitions, withdraw_audio TO {WRITER};
REVOKE SELECT, UPDATE ON phone_numbers FROM {WRITER};
GRANT SELECT ON {_VIEWS} TO {READER};
GRANT EXECUTE ON FUNCTION {_PANELS} TO {READER};
GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA public TO {RETENTION};
ALTER ROLE {READER} SET statement_timeout = '10s';
ALTER ROLE {READER} SET jit = off;
REVOKE ALL ON access_tokens, audio_access, listens FROM {WRITER}, {RETENTION};
GRANT USAGE ON SCHEMA public TO {DRILLDOWN};
GRANT SELECT ON {_VIEWS}, {_READ} TO {DRILLDOWN};
GRANT INSERT ON audio_access TO {DRILLDOWN};
ALTER ROLE {DRILLDOWN} SET statement_timeout = '10s';
"""  # noqa: S608 - constants of this module
# Nobody but the owner sees the keys of the ledger, holds, or lets go. Erasure deletes rows of calls
# and reads what it counts; of the access log it sees calls alone.
_DELETION = "trace_holds, deletions, orphan_walks, erasure_keys, erasures, erased_traces"
_DELETION_GRANTS = f"""
REVOKE ALL ON {_DELETION} FROM {WRITER}, {RETENTION};
GRANT SELECT ON trace_holds, erasures TO {RETENTION};
GRANT SELECT, INSERT, UPDATE, DELETE ON deletions, orphan_walks TO {RETENTION};
GRANT SELECT ON deletions TO {DRILLDOWN};
GRANT EXECUTE ON FUNCTION erased_among TO {WRITER}, {RETENTION};
GRANT EXECUTE ON FUNCTION forget_accesses TO {RETENTION};
GRANT USAGE ON SCHEMA public TO {ERASURE};
GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA public TO {ERASURE};
REVOKE ALL ON {_DELETION}, access_tokens, audio_access, listens, schema_migrations FROM {ERASURE};
REVOKE DELETE ON applied_batches FROM {ERASURE};
GRANT SELECT ON trace_holds, erasures TO {ERASURE};
GRANT SELECT (trace_id) ON audio_access TO {ERASURE};
GRANT EXECUTE ON FUNCTION erased_among, begin_erasure, finish_erasure, rename_accesses TO {ERASURE};
"""  # noqa: S608 - constants of this module
# The release of PostgreSQL in which being a member and taking the role are two things.
_SET_SINCE = 160_000
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('monitoring_v2.migrations'))"
# Tables, views and their columns, each with its comment; partitions have those of their table.
_DESCRIBED = """
SELECT c.relname, c.relkind = 'v', a.attname,
    CASE WHEN a.attname IS NULL THEN obj_description(c.oid, 'pg_class')
         ELSE col_description(c.oid, a.attnum) END
FROM pg_class c
LEFT JOIN LATERAL (
    SELECT attname, attnum FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT NULL, 0
) a ON true
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
    AND NOT c.relispartition
"""


class MigrationError(MonitoringError):
    """The database cannot be brought to this version; the message says why and what to do."""


class OldSchemaError(psycopg.ProgrammingError):
    """The database's schema is older than this version; the message says what to do."""


@dataclass(slots=True)
class Report:
    """What was done, and what an administrator still has to do.

    Attributes:
        applied: Names of the migrations that were run.
        version: Number of the newest one.
        to_run: Statements that this login may not run.
    """

    applied: list[str] = field(default_factory=list)
    version: int = 0
    to_run: list[str] = field(default_factory=list)


def create_database(conninfo: str) -> bool:
    """Create the database that ``conninfo`` names; False when it is there already.

    Raises:
        psycopg.OperationalError: The server cannot be reached.
    """
    try:
        psycopg.connect(conninfo, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        if "does not exist" not in str(error):
            raise
    else:
        return False
    name = conninfo_to_dict(conninfo).get("dbname") or "monitoring_v2"
    admin = make_conninfo(conninfo, dbname="postgres")
    with psycopg.connect(admin, autocommit=True, connect_timeout=5) as connection:
        create = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0")
        connection.execute(create.format(sql.Identifier(str(name))))
    return True


def migrate(conninfo: str) -> Report:
    """Make roles where that is allowed, run what is missing, describe it, grant rights.

    Raises:
        MigrationError: An applied migration differs from ours, or the database is newer.
    """
    report = Report()
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        connection.execute(_LOCK)
        _make_roles(connection, report)
        _run_missing(connection, report)
        _comment(connection, report)
        _grant(connection, report)
    return report


def make_roles(conninfo: str) -> Report:
    """Make the roles that rights are granted to, where that is allowed; of all databases."""
    report = Report()
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        connection.execute(_LOCK)
        _make_roles(connection, report)
    return report


def may_become(connection: psycopg.Connection, role: str) -> bool:
    """Tell whether this login may take a role; from PostgreSQL 16 on, a member need not."""
    right = "SET" if connection.info.server_version >= _SET_SINCE else "MEMBER"
    row = connection.execute(
        "SELECT pg_has_role(oid, %s) FROM pg_roles WHERE rolname = %s", [right, role]
    ).fetchone()
    return bool(row and row[0])


def version(conninfo: str) -> int:
    """Return the number of the newest migration in a database, 0 when there is none."""
    with psycopg.connect(conninfo, connect_timeout=5) as connection:
        row = connection.execute("SELECT to_regclass('public.schema_migrations')").fetchone()
        if row is None or row[0] is None:
            return 0
        newest = connection.execute("SELECT max(number) FROM schema_migrations").fetchone()
        return int(newest[0] or 0) if newest else 0


def require_schema(connection: psycopg.Connection) -> None:
    """Check that the schema is ours or a later one, which only adds to it.

    An older one may refuse good rows: they had better wait.

    Raises:
        OldSchemaError: It is older.
        psycopg.errors.UndefinedTable: There is no archive.
    """
    row = connection.execute("SELECT max(number) FROM schema_migrations").fetchone()
    found, wanted = (row and row[0]) or 0, shipped()[-1][0]
    if found < wanted:
        raise OldSchemaError(
            f"its schema is at migration {found}, this version needs {wanted}: run "
            "`monitoring db init`"
        )


def shipped() -> list[tuple[int, str, str]]:
    """Return number, name and text of every migration that comes with this version."""
    found = [path for path in files("sql").iterdir() if path.name.endswith(".sql")]
    ordered = sorted(found, key=lambda path: path.name)
    return [(int(path.name[:3]), path.name, path.read_text(encoding="utf-8")) for path in ordered]


def _make_roles(connection: psycopg.Connection, report: Report) -> None:
    for statement in _ROLES:
        name = statement.split()[2]
        known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
        if known is None:
            _try(connection, statement, report)


def _run_missing(connection: psycopg.Connection, report: Report) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text "
        "NOT NULL, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    done: dict[int, str] = dict(
        connection.execute("SELECT number, sha256 FROM schema_migrations").fetchall()
    )
    ours = shipped()
    if done and max(done) > ours[-1][0]:
        raise MigrationError(
            f"the database is at migration {max(done)}, this version knows {ours[-1][0]}; "
            "install the newer version"
        )
    for number, name, text in ours:
        digest = hashlib.sha256(text.encode()).hexdigest()
        if number not in done:
            connection.execute(text.encode())
            connection.execute(
                "INSERT INTO schema_migrations (number, name, sha256) VALUES (%s, %s, %s)",
                [number, name, digest],
            )
            report.applied.append(name)
        elif done[number] != digest:
            raise MigrationError(f"{name} was applied with other content; restore the original")
        report.version = number


def _comment(connection: psycopg.Connection, report: Report) -> None:
    """Say in the database what everything means, where it says something else so far."""
    for relation, is_view, column, known in connection.execute(_DESCRIBED.encode()).fetchall():
        text = text_of(relation, column)
        if text is not None and text != known:
            kind = "COLUMN" if column else "VIEW" if is_view else "TABLE"
            path = sql.Identifier(relation, column) if column else sql.Identifier(relation)
            comment = sql.SQL("COMMENT ON {} {} IS {}").format(sql.SQL(kind), path, text)
            _try(connection, comment.as_string(connection), report)


def _grant(connection: psycopg.Connection, report: Report) -> None:
    for statement in filter(None, map(str.strip, (_GRANTS + _DELETION_GRANTS).split(";"))):
        _try(connection, statement, report)


def _try(connection: psycopg.Connection, statement: str, report: Report) -> None:
    """Run a statement, or note it for somebody with more rights."""
    try:
        with connection.transaction():
            connection.execute(statement.encode())
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject):
        report.to_run.append(statement + ";")
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return  # roles are of all databases: another migration has just made it
