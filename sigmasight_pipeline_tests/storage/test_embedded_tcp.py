"""The TCP door: closed unless asked for, the same password, any amount of data, clear words where it cannot open."""

from __future__ import annotations

import socket
from pathlib import Path

import psycopg
import pytest

from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.errors import EmbeddedServerError, explain


def test_open_only_inside_the_block(server: EmbeddedServer) -> None:
    with server.serve(0) as url:
        assert url.rpartition("@")[2].startswith("127.0.0.1:")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 41 + 1").fetchone() == (42,)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(url)
    assert server.is_running()


def test_large_results_and_copies_pass(server: EmbeddedServer) -> None:
    size = 20_000_000
    with server.serve(0) as url, psycopg.connect(url) as connection:
        (text,) = connection.execute("SELECT repeat('x', %s)", [size]).fetchone() or ("",)
        assert text == "x" * size
        connection.execute("CREATE TEMP TABLE t (line TEXT)")
        with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
            for number in range(200_000):
                copy.write_row([f"{number:0100d}"])
        assert connection.execute("SELECT count(*), sum(line::bigint) FROM t").fetchone() == (
            200_000,
            sum(range(200_000)),
        )


def test_many_clients_at_once(server: EmbeddedServer) -> None:
    with server.serve(0) as url:
        clients = [psycopg.connect(url) for _ in range(20)]
        try:
            answers = [client.execute("SELECT pg_backend_pid()").fetchone() for client in clients]
        finally:
            for client in clients:
                client.close()
    assert len(set(answers)) == 20


@pytest.mark.parametrize("password", ["", "wrong"])
def test_the_password_is_needed(server: EmbeddedServer, password: str) -> None:
    with server.serve(0) as url:
        other = url.replace(server.address().password, password)
        with pytest.raises(psycopg.OperationalError) as raised:
            psycopg.connect(other)
    assert explain(raised.value, other).reason == "wrong_password"


def test_a_taken_port(server: EmbeddedServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=f"Port {port} of 127.0.0.1 cannot be opened"), server.serve(port):
            pass


def test_no_port_at_all(server: EmbeddedServer) -> None:
    with pytest.raises(EmbeddedServerError, match=r"Port 70000 .* choose another"), server.serve(70000):
        pass


def test_a_server_that_stops_ends_the_connection(home: Path) -> None:
    stopping = EmbeddedServer(home)
    with stopping.serve(0) as url, psycopg.connect(url) as connection:
        connection.execute("SELECT 1")
        stopping.stop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):  # the door is open, but there is nobody behind it
            psycopg.connect(url)
