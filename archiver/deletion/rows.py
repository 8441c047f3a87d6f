"""Rows of calls: counted and deleted in every table that has them, of whatever migration."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

# Who listened keeps its rows, without the call's name; a hold is taken back by who holds.
_APART = ("audio_access", "trace_holds")
# Tables, not their partitions, in which a row belongs to a call.
_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    AND NOT c.relispartition AND a.attname = 'trace_id' AND NOT a.attisdropped
    AND c.relname <> ALL(%s) AND c.relname !~ '_[0-9]{10}$' ORDER BY c.relname
"""
_OF_CALLS = "SELECT count(*) FROM {} WHERE trace_id = ANY(%s)"
_DELETE = "DELETE FROM {} WHERE trace_id = ANY(%s)"
_NAMES = "SELECT DISTINCT trace_id FROM {} WHERE trace_id IS NOT NULL"


def tables(connection: psycopg.Connection) -> list[str]:
    """Return the tables that have rows of calls."""
    return [name for (name,) in connection.execute(_TABLES, [list(_APART)]).fetchall()]


def count(connection: psycopg.Connection, trace_ids: Sequence[str]) -> dict[str, int]:
    """Return how many rows of calls each table has."""
    found = {name: _scalar(connection, _OF_CALLS, name, trace_ids) for name in tables(connection)}
    accesses = "SELECT count(*) FROM audio_access WHERE trace_id = ANY(%s)"
    row = connection.execute(accesses, [list(trace_ids)]).fetchone()
    return found | {"audio_access": row[0] if row else 0}


def delete(connection: psycopg.Connection, trace_ids: Sequence[str]) -> dict[str, int]:
    """Delete all rows of calls that are in the ledger; the access log loses their names alone."""
    gone: dict[str, int] = {}
    for name in tables(connection):
        statement = sql.SQL(_DELETE).format(sql.Identifier(name))
        gone[name] = connection.execute(statement, [list(trace_ids)]).rowcount
    row = connection.execute("SELECT rename_accesses(%s)", [list(trace_ids)]).fetchone()
    return gone | {"audio_access": row[0] if row else 0}


def names(connection: psycopg.Connection) -> set[str]:
    """Return every call of which there is a row; reads the whole archive."""
    found: set[str] = set()
    for table in tables(connection):
        statement = sql.SQL(_NAMES).format(sql.Identifier(table))
        found |= {name for (name,) in connection.execute(statement)}
    return found


def _scalar(
    connection: psycopg.Connection, statement: str, table: str, trace_ids: Sequence[str]
) -> int:
    text = sql.SQL(statement).format(sql.Identifier(table))
    row = connection.execute(text, [list(trace_ids)]).fetchone()
    return int(row[0]) if row else 0
