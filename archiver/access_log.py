"""The access log: who got which sound. A row is durable before the first byte of sound leaves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

import psycopg

from archiver.segments import Place


class AccessKind(StrEnum):
    """What somebody wanted with sound."""

    LISTEN = "listen"
    DOWNLOAD = "download"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Access:
    """One answer with sound.

    Attributes:
        token_name: Name of the token; ``local`` or ``link`` for those without one.
        role: Role that allowed it.
        place: Which tap; tap ``DELTA`` for what the station took away.
        from_ts: Start of the segment or range.
        to_ts: Its end.
        first_byte: First byte of the file that is sent.
        last_byte: Last byte of the file that is sent.
        kind: What for.
        client_hash: Keyed hash of the client's address.
    """

    token_name: str
    role: str
    place: Place
    from_ts: datetime
    to_ts: datetime
    first_byte: int
    last_byte: int
    kind: AccessKind
    client_hash: str


def record(connection: psycopg.Connection, access: Access) -> None:
    """Write one row; it counts when the connection's transaction is committed.

    Raises:
        psycopg.Error: It could not be written: no sound may leave.
    """
    values = asdict(access)
    place = values.pop("place")
    connection.execute(
        "INSERT INTO audio_access (token_name, role, trace_id, station_key, tap, from_ts, to_ts, "
        "first_byte, last_byte, kind, client_hash) VALUES (%(token_name)s, %(role)s, "
        "%(trace_id)s, %(station)s, %(tap)s, %(from_ts)s, %(to_ts)s, %(first_byte)s, "
        "%(last_byte)s, %(kind)s, %(client_hash)s)",
        values | place,
    )
