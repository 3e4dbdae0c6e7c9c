"""Connections are kept between transactions, and nothing of one transaction is seen by the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from sigmasight_pipeline.storage import connections
from sigmasight_pipeline.storage.connections import KeptConnections


@pytest.fixture
def kept(database_url: str) -> Iterator[KeptConnections]:
    made = KeptConnections(database_url)
    yield made
    made.close()


def backend(kept: KeptConnections) -> int:
    """The server process of the connection a transaction gets."""
    with kept.transaction() as connection:
        return connection.info.backend_pid


def end(database_url: str, process: int) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (process,))


def test_a_connection_is_used_again(kept: KeptConnections) -> None:
    assert len({backend(kept) for _ in range(5)}) == 1


def test_a_connection_is_lent_to_one_transaction_at_a_time(kept: KeptConnections) -> None:
    together = threading.Barrier(4, timeout=20)

    def work(_number: int) -> int:
        with kept.transaction() as connection:
            together.wait()
            return connection.info.backend_pid

    with ThreadPoolExecutor(4) as pool:
        first, again = set(pool.map(work, range(4))), set(pool.map(work, range(4)))
    assert len(first) == 4
    assert again == first


def test_a_connection_the_server_ended_is_replaced(kept: KeptConnections, database_url: str) -> None:
    old = backend(kept)
    end(database_url, old)
    assert backend(kept) != old


def test_a_connection_unused_for_long_is_replaced(kept: KeptConnections, monkeypatch: pytest.MonkeyPatch) -> None:
    old = backend(kept)
    monkeypatch.setattr(connections, "KEPT_SECONDS", 0.0)
    assert backend(kept) != old


def test_an_error_rolls_back_and_gives_the_connection_up(kept: KeptConnections) -> None:
    with kept.transaction() as connection:
        connection.execute("CREATE TABLE t (x int PRIMARY KEY)")
        old = connection.info.backend_pid

    def fail(statement: str) -> None:
        with kept.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (1)")
            connection.execute(statement)

    with pytest.raises(psycopg.errors.UniqueViolation):
        fail("INSERT INTO t VALUES (1)")
    with kept.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
        assert connection.info.backend_pid != old


def test_an_error_in_the_commit_is_raised_and_writes_nothing(kept: KeptConnections) -> None:
    with kept.transaction() as connection:
        connection.execute("CREATE TABLE t (x int UNIQUE DEFERRABLE INITIALLY DEFERRED)")

    def fail() -> None:
        with kept.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (1), (1)")

    with pytest.raises(psycopg.errors.UniqueViolation):
        fail()
    with kept.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_nothing_of_a_transaction_is_left_to_the_next(kept: KeptConnections) -> None:
    with kept.transaction() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("SELECT set_config('sigmasight.writer', 'pipeline', true)")
        old = connection.info.backend_pid
    with kept.transaction() as connection:
        assert connection.info.backend_pid == old
        connection.execute("CREATE TABLE t (x int)")
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
        assert connection.execute("SELECT current_setting('sigmasight.writer', true)").fetchone() == ("",)


def test_closing_ends_what_is_kept(kept: KeptConnections, database_url: str) -> None:
    old = backend(kept)
    kept.close()
    with psycopg.connect(database_url) as connection:
        # the server needs a moment to notice
        asked = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        for _ in range(200):
            if connection.execute(asked, (old,)).fetchone() == (0,):
                return
    pytest.fail("the connection is still open")
