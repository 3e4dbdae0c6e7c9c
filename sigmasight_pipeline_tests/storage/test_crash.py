"""Writers that are killed, and writers that meet: sessions are whole, and those of one writer, whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.storage.sample_rows import rows, weekdays

PATIENCE = 60.0
"""Seconds after which something that should happen at once is taken not to happen."""

DAYS = weekdays(4)
TABLE = tables.position_values

WRITER = """
import sys, time
from sigmasight_pipeline.storage import copying, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.storage.sample_rows import rows, weekdays

url, where, run = sys.stdin.readline().strip(), sys.argv[1], sys.argv[2]
days = weekdays(4)
frame = rows(tables.position_values, days, 500, seed=int(run), values={"run_id": run})

def stop(*_):
    print("in the middle", flush=True)
    sys.stdin.readline()

if where == "copy":
    copying.ROWS_PER_CHUNK = 300

    class Halting(copying.io.BytesIO):
        made = 0

        def __init__(self):
            super().__init__()
            Halting.made += 1
            if Halting.made == 5:
                stop()

    copying.io = type("io", (), {"BytesIO": Halting})
before_commit = stop if where == "before_commit" else None
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    replace_sessions(Database(url), {tables.position_values: frame}, days, before_commit=before_commit)
"""


class Writer:
    """Another process that replaces the sessions, stopping in the middle where it is told to."""

    def __init__(self, url: str, *, stops: str = "nowhere", run: int, times: int = 1) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, stops, str(run), str(times)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.frame = written_by(run)
        self.say(url)
        self.expect("ready")

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def expect(self, text: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == text

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(PATIENCE) == -signal.SIGKILL


def written_by(run: int) -> pl.DataFrame:
    return rows(TABLE, DAYS, 500, seed=run, values={"run_id": str(run)})


@pytest.fixture
def start(database: Database) -> Iterator[Callable[..., Writer]]:
    """Starts writers on the database; none outlives the test."""
    started: list[Writer] = []

    def begin(**options: object) -> Writer:
        started.append(Writer(database.url, **options))  # type: ignore[arg-type]  # passed on as they are
        return started[-1]

    yield begin
    for writer in started:
        writer.process.kill()
        writer.process.communicate()


def stored(database: Database) -> pl.DataFrame:
    return database.read(TABLE, order_by=["session_date", "position_id"])


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def waiting_writers(database: Database) -> int:
    found = database.query(
        "SELECT count(*) AS n FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'"
    )
    return int(found["n"][0])


@pytest.mark.parametrize("stops", ["copy", "before_commit"])
def test_a_killed_writer_leaves_no_half_session(database: Database, start: Callable[..., Writer], stops: str) -> None:
    old = written_by(0)
    replace_sessions(database, {TABLE: old}, DAYS)
    writer = start(stops=stops, run=1)
    writer.say("go")
    writer.expect("in the middle")
    assert_frame_equal(stored(database), old)  # its delete and its rows are nobody else's yet
    writer.kill()
    # the next writer needs nobody's help: the dead one's transaction and locks end with its connection
    again = start(run=2)
    again.say("go")
    assert again.process.wait(PATIENCE) == 0
    assert_frame_equal(stored(database), again.frame)


def test_a_first_write_that_is_killed_leaves_nothing(database: Database, start: Callable[..., Writer]) -> None:
    writer = start(stops="copy", run=1)
    writer.say("go")
    writer.expect("in the middle")
    writer.kill()
    assert stored(database).is_empty()
    replace_sessions(database, {TABLE: written_by(2)}, DAYS)
    assert_frame_equal(stored(database), written_by(2))


def test_two_processes_replace_the_same_sessions(database: Database, start: Callable[..., Writer]) -> None:
    first, second = start(stops="before_commit", run=1), start(run=2)
    first.say("go")
    first.expect("in the middle")
    second.say("go")
    eventually(lambda: waiting_writers(database) == 1)  # the second waits until the first has committed
    assert stored(database).is_empty()
    first.say("go on")
    assert first.process.wait(PATIENCE) == 0
    assert second.process.wait(PATIENCE) == 0
    assert_frame_equal(stored(database), second.frame)


def test_four_processes_replace_the_same_sessions_again_and_again(
    database: Database, start: Callable[..., Writer]
) -> None:
    writers = [start(run=run, times=5) for run in range(4)]
    for writer in writers:
        writer.say("go")
    seen = set()
    while any(writer.process.poll() is None for writer in writers):
        found = stored(database)
        for (_,), session in found.group_by("session_date"):  # readers only ever see whole sets of one writer
            assert session.height == 500
            assert session["run_id"].n_unique() == 1
        seen |= set(found["run_id"])
    assert [writer.process.returncode for writer in writers] == [0, 0, 0, 0]
    final = stored(database)
    assert_frame_equal(final, written_by(int(final["run_id"][0])))
    assert len(seen) > 1, "the writers did not meet"


def test_overlapping_ranges_of_several_tables_cannot_block_each_other(database: Database) -> None:
    days = weekdays(12)
    both = [TABLE, tables.portfolio_snapshots]
    failures: list[BaseException] = []

    def write(turn: int) -> None:
        try:
            for step in range(5):
                chosen = days[turn : turn + 9][:: 1 if step % 2 else -1]
                order = both if (turn + step) % 2 else both[::-1]
                frames = [(table, rows(table, chosen, 20, seed=turn)) for table in order]
                replace_sessions(Database(database.url), frames, chosen)
        except BaseException as error:  # noqa: BLE001 - handed to the test below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []
    for table in both:
        counts = database.query(f"SELECT session_date, count(*) AS n FROM {table.fullname} GROUP BY 1")
        assert set(counts["n"]) == {20}


def test_writers_of_other_sessions_do_not_wait(database: Database, start: Callable[..., Writer]) -> None:
    writer = start(stops="before_commit", run=1)
    writer.say("go")
    writer.expect("in the middle")
    later = weekdays(2, DAYS[-1])[1:]
    replace_sessions(database, {TABLE: rows(TABLE, later, 5)}, later)  # would hang if it waited
    assert stored(database).height == 5
    writer.say("go on")
    assert writer.process.wait(PATIENCE) == 0
    assert stored(database).height == 2005
