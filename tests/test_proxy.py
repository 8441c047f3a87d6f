"""The proxy of the outage tests does to a connection what its methods say."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from tests.fix_proxy import TcpProxy


def test_passes_and_refuses_and_passes_again(database: str, proxy: TcpProxy) -> None:
    """Connections pass until the cut, are refused while it lasts, and pass when it is over."""
    with psycopg.connect(proxy.conninfo(database)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(proxy.conninfo(database))

    proxy.restore()

    with psycopg.connect(proxy.conninfo(database)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_reset_leaves_the_door_open(database: str, proxy: TcpProxy) -> None:
    """A reset ends open connections, and new ones pass at once."""
    first = psycopg.connect(proxy.conninfo(database))
    proxy.reset()
    with pytest.raises(psycopg.OperationalError), first:
        first.execute("SELECT 1")

    with psycopg.connect(proxy.conninfo(database)) as second:
        assert second.execute("SELECT 1").fetchone() == (1,)


def test_blackhole_accepts_and_does_not_answer(database: str, proxy: TcpProxy) -> None:
    """In a black hole a query waits, and is answered when the network is back."""
    with psycopg.connect(proxy.conninfo(database)) as connection:
        proxy.blackhole()
        answers: list[object] = []
        query = threading.Thread(
            target=lambda: answers.append(connection.execute("SELECT 1").fetchone())
        )
        query.start()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(proxy.conninfo(database), connect_timeout=2)
        assert answers == []

        proxy.restore()
        query.join(5)

        assert answers == [(1,)]


def test_cut_of_a_blackhole_ends_what_waits(database: str, proxy: TcpProxy) -> None:
    """A cut during a black hole ends the connections that hang in it."""
    connection = psycopg.connect(proxy.conninfo(database))
    proxy.blackhole()
    proxy.cut()

    with pytest.raises(psycopg.OperationalError), connection:
        connection.execute("SELECT 1")


def test_delay_slows_every_answer(database: str, proxy: TcpProxy) -> None:
    """With a delay of 50 ms a round trip takes 100 ms or more."""
    with psycopg.connect(proxy.conninfo(database), autocommit=True) as connection:
        proxy.delay_s = 0.05
        before = time.monotonic()
        connection.execute("SELECT 1")

        assert time.monotonic() - before >= 0.1


def test_cut_commit_reply_leaves_the_commit(database: str, proxy: TcpProxy) -> None:
    """The client sees a lost connection although the server has committed."""
    with psycopg.connect(database, autocommit=True) as direct:
        direct.execute("CREATE TABLE note (number int)")
        connection = psycopg.connect(proxy.conninfo(database))
        connection.execute("INSERT INTO note VALUES (1)")
        proxy.cut_next_commit_reply()
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
        connection.close()

        assert direct.execute("SELECT number FROM note").fetchall() == [(1,)]
