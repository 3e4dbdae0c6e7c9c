"""The hook between assets and whoever shows how far a run has come."""

from __future__ import annotations

import threading
from datetime import date

import pytest

from sigmasight_pipeline.assets.progress import StepDone, listening, report

STEP = StepDone("daily_prices", date(2024, 1, 2), date(2024, 1, 5), 12, 0.5)


def fails(step: StepDone) -> None:
    raise ZeroDivisionError(step)


def test_told_inside_the_block_only() -> None:
    heard: list[StepDone] = []
    report(STEP)
    with listening(heard.append):
        report(STEP)
    report(STEP)
    assert heard == [STEP]


def test_the_inner_listener_hears_and_the_outer_one_returns() -> None:
    outer: list[StepDone] = []
    inner: list[StepDone] = []
    with listening(outer.append):
        with listening(inner.append):
            report(STEP)
        with pytest.raises(ZeroDivisionError), listening(fails):
            report(STEP)
        report(STEP)
    assert (len(outer), len(inner)) == (1, 1)


def test_other_threads_are_not_heard() -> None:
    heard: list[StepDone] = []
    with listening(heard.append):
        other = threading.Thread(target=report, args=(STEP,))
        other.start()
        other.join()
    assert heard == []
