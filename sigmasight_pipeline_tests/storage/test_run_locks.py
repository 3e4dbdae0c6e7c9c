"""The right to compute sessions: one run has it, all or nothing, until its connection ends however it ends."""

from __future__ import annotations

from datetime import date

import psycopg

from sigmasight_pipeline.sessions import calendar
from sigmasight_pipeline.storage.run_locks import HOLDER, BookLock, SessionLocks, computing

JANUARY = calendar().between(date(2024, 1, 2), date(2024, 1, 31))


def test_sessions_are_of_one_run_at_a_time_and_of_nobody_after_it(database_url: str) -> None:
    with SessionLocks(database_url, "first-run") as first, SessionLocks(database_url, "second-run") as second:
        assert first.take(JANUARY[:10]) == []
        assert second.take(JANUARY[9:]) == ["run first-ru"]
        assert second.take(JANUARY[10:]) == [], "what was refused before was given back as a whole"
        assert computing(database_url) == ["run first-ru", "run second-r"]
        with SessionLocks(database_url, "third") as third:
            assert third.take(JANUARY) == ["run first-ru", "run second-r"]
            assert third.take([]) == []
    with SessionLocks(database_url, "third") as third:
        assert third.take(JANUARY) == []
    assert computing(database_url) == []


def test_a_run_that_asks_in_vain_keeps_nothing_of_what_was_free(database_url: str) -> None:
    with (
        SessionLocks(database_url, "first") as first,
        SessionLocks(database_url, "second") as second,
        SessionLocks(database_url, "third") as third,
    ):
        assert first.take(JANUARY[5:6]) == []
        assert second.take(JANUARY) == ["run first"]
        assert third.take(JANUARY[:5]) == []


def test_the_server_gives_back_what_a_killed_run_had(database_url: str) -> None:
    with SessionLocks(database_url, "killed") as killed, SessionLocks(database_url, "next") as following:
        assert killed.take(JANUARY) == []
        with psycopg.connect(database_url, autocommit=True) as other:
            ended = other.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = %s",
                (f"{HOLDER}killed",),
            ).fetchall()
        assert ended == [(True,)]
        assert following.take(JANUARY) == []


def test_runs_share_the_books_and_who_changes_them_has_them_alone(database_url: str) -> None:
    with (
        SessionLocks(database_url, "first") as first,
        SessionLocks(database_url, "second") as second,
        SessionLocks(database_url, "applies") as applies,
        BookLock(database_url, "import of my.csv") as command,
    ):
        assert first.take(JANUARY[:5]) == []
        assert second.take(JANUARY[5:]) == [], "they read the same books"
        assert command.take() == ["run first", "run second"]
        assert applies.take_books() == ["run first", "run second"]
    with SessionLocks(database_url, "later") as later, BookLock(database_url, "import of my.csv") as command:
        assert command.take() == []
        assert computing(database_url) == ["import of my.csv"]
        assert later.take(JANUARY[:1]) == ["import of my.csv"]
        assert later.take_books() == ["import of my.csv"]
        with SessionLocks(database_url, "own") as own:
            with command.in_hand():
                assert own.take_books() == [], "what the command itself runs does not wait for it"
                assert own.take(JANUARY[:1]) == []
            assert later.take(JANUARY[:1]) == ["import of my.csv", "run own"]
    with SessionLocks(database_url, "later") as later:
        assert later.take(JANUARY[:1]) == []
