"""The right to compute sessions: one run has it, all or nothing, until its connection ends however it ends."""

from __future__ import annotations

from datetime import date

import psycopg

from sigmasight_pipeline.sessions import calendar
from sigmasight_pipeline.storage.run_locks import HOLDER, SessionLocks, computing

JANUARY = calendar().between(date(2024, 1, 2), date(2024, 1, 31))


def test_sessions_are_of_one_run_at_a_time_and_of_nobody_after_it(database_url: str) -> None:
    with SessionLocks(database_url, "first-run") as first, SessionLocks(database_url, "second-run") as second:
        assert first.take(JANUARY[:10]) == []
        assert second.take(JANUARY[9:]) == ["first-ru"]
        assert second.take(JANUARY[10:]) == [], "what was refused before was given back as a whole"
        assert computing(database_url) == ["first-ru", "second-r"]
        with SessionLocks(database_url, "third") as third:
            assert third.take(JANUARY) == ["first-ru", "second-r"]
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
        assert second.take(JANUARY) == ["first"]
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
