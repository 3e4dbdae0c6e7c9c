"""The server's log: bounded while the server runs, and its last lines at hand."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from sigmasight_pipeline.storage import embedded_cluster
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.embedded_cluster import LOG_TAIL_LINES, log_tail, rotate_log


def test_log_is_bounded_while_the_server_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 20_000
    monkeypatch.setattr(embedded_cluster, "MAX_LOG_BYTES", limit)
    server = EmbeddedServer(home)
    server.start()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for number in range(3):
            connection.execute("DO $$ BEGIN FOR i IN 1..400 LOOP RAISE LOG 'a line to fill the log'; END LOOP; END $$")
            assert server.log_file.stat().st_size > limit
            EmbeddedServer(home).start()  # any process that joins
            assert server.log_file.stat().st_size == 0
            connection.execute(f"DO $$ BEGIN RAISE LOG 'after rotation {number}'; END $$".encode())
            assert f"after rotation {number}" in server.log_file.read_text()
    before = server.log_file.with_name("server.log.1")
    assert before.stat().st_size == limit
    assert before.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        ("", ""),
        ("one\n", "one"),
        ("".join(f"{n}\n" for n in range(100)), "\n".join(map(str, range(100 - LOG_TAIL_LINES, 100)))),
        ("x" * 1_000_000 + "\nlast\n", None),
    ],
)
def test_log_tail(tmp_path: Path, text: str, tail: str | None) -> None:
    log = tmp_path / "log"
    assert log_tail(log) == ""
    log.write_text(text)
    rotate_log(log)
    shown = log_tail(log)
    assert shown == tail if tail is not None else (shown.endswith("\nlast") and len(shown) < 20_000)
