"""The range launcher: how a range is cut and told to Dagster, and what stops it."""

import os
import re
import socket
from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmasight_pipeline import definitions, sessions
from sigmasight_pipeline.assets import catalog, graph, progress
from sigmasight_pipeline.assets.market_data import FIRST_FAILING_SESSION
from sigmasight_pipeline.assets.partitions import session_partitions
from sigmasight_pipeline.operations import jobs
from sigmasight_pipeline.operations.launcher import (
    PROCESS_TAG,
    Chunk,
    Launcher,
    Outcome,
    RangeFailedError,
    before_failing,
    plan_range,
)
from sigmasight_pipeline.storage import tables

CALENDAR = sessions.calendar()
FIRST = date(2024, 1, 2)

WORKED: list[tuple[str, list[str], list[str]]] = []
"""(step, sessions, portfolios) as the assets below were run."""

DAYS = session_partitions(FIRST)
BACKFILL = dg.BackfillPolicy.multi_run(max_partitions_per_run=252)
UNPRICED = "2024-02-06"
"""The session at which the asset `prices` below stops a range, the way market data does."""


class Portfolios(dg.Config):
    portfolios: list[str] = []  # noqa: RUF012  # Dagster's configuration, copied for every run


@dg.asset(partitions_def=DAYS, backfill_policy=BACKFILL)
def prices(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    keys = list(context.partition_keys)
    WORKED.append(("prices", keys, []))
    if UNPRICED in keys:
        raise dg.Failure(f"{UNPRICED} has no prices", metadata={FIRST_FAILING_SESSION: UNPRICED}, allow_retries=False)
    return dg.MaterializeResult()


@dg.asset(partitions_def=DAYS, backfill_policy=BACKFILL, deps=[prices], tags={"filter": "portfolio"})
def values(context: dg.AssetExecutionContext, config: Portfolios) -> dg.MaterializeResult:  # type: ignore[type-arg]  # as above
    keys = list(context.partition_keys)
    WORKED.append(("values", keys, config.portfolios))
    progress.report(progress.StepDone("values", date.fromisoformat(keys[0]), date.fromisoformat(keys[-1]), 1, 0.1))
    if "2024-03-04" in keys:
        raise ValueError("the database went away")
    return dg.MaterializeResult()


@dg.asset
def reference_rows() -> dg.MaterializeResult:  # type: ignore[type-arg]  # as above
    WORKED.append(("reference_rows", [], []))
    return dg.MaterializeResult()


TOY = dg.Definitions(
    assets=[prices, values, reference_rows],
    jobs=[
        dg.define_asset_job("daily", selection=[prices, values], partitions_def=DAYS),
        dg.define_asset_job("reference", selection=[reference_rows]),
    ],
    executor=dg.in_process_executor,
)


@pytest.fixture
def toy() -> Iterator[Launcher]:
    WORKED.clear()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Launcher(instance, TOY)


def until_it_fails(toy: Launcher, plan: list[Chunk]) -> tuple[list[Outcome], str]:
    """What was yielded, and the message in the end."""
    outcomes: list[Outcome] = []
    try:
        for outcome in toy.run_all(plan):
            outcomes.append(outcome)
    except RangeFailedError as failure:
        return outcomes, str(failure)
    pytest.fail(f"nothing failed: {outcomes}")


def chunks(first: date, last: date, size: int = 252, **more: Any) -> list[Chunk]:
    return plan_range("daily", first, last, calendar=CALENDAR, size=size, **more)


# cutting a range

CUT = [
    # first, last, size, ranges expected
    (date(2024, 1, 2), date(2024, 1, 2), 252, [("2024-01-02", "2024-01-02", 1)]),
    (date(2024, 1, 2), date(2024, 12, 31), 252, [("2024-01-02", "2024-12-31", 252)]),
    (date(2024, 1, 2), date(2025, 1, 2), 252, [("2024-01-02", "2024-12-31", 252), ("2025-01-02", "2025-01-02", 1)]),
    (date(2024, 1, 13), date(2024, 1, 15), 252, []),  # a weekend and Martin Luther King Day
    (date(2024, 1, 12), date(2024, 1, 17), 2, [("2024-01-12", "2024-01-16", 2), ("2024-01-17", "2024-01-17", 1)]),
    (date(2024, 1, 17), date(2024, 1, 12), 2, []),
]


@pytest.mark.parametrize(("first", "last", "size", "expected"), CUT)
def test_a_range_is_cut_into_runs(first: date, last: date, size: int, expected: list[tuple[str, str, int]]) -> None:
    made = chunks(first, last, size)
    assert [(str(chunk.first), str(chunk.last), chunk.session_count) for chunk in made] == expected


def test_every_run_of_a_range_but_the_last_says_that_another_follows() -> None:
    made = chunks(date(2024, 1, 12), date(2024, 1, 23), 2)
    tags = [chunk.tags.get("sigmasight/followed_by") for chunk in made]
    assert tags == ["2024-01-17", "2024-01-19", "2024-01-23", None]
    shorter = before_failing(made[0], date(2024, 1, 16))
    assert shorter is not None
    assert "sigmasight/followed_by" not in shorter.tags, "nothing follows where prices stopped it"


@given(st.dates(date(2020, 1, 1), date(2025, 12, 31)), st.integers(0, 900), st.integers(1, 252))
def test_runs_cover_the_range_once_in_order(first: date, days: int, size: int) -> None:
    last = date.fromordinal(first.toordinal() + days)
    made = chunks(first, last, size)
    covered = [day for chunk in made for day in CALENDAR.between(chunk.first or first, chunk.last or last)]
    assert covered == list(CALENDAR.between(first, last))
    assert all(0 < chunk.session_count <= size for chunk in made)


def test_a_run_carries_its_range_its_trigger_and_its_portfolios() -> None:
    (chunk,) = chunks(FIRST, date(2024, 1, 5), portfolios=["a", "b"], trigger="schedule")
    assert chunk.tags == {
        "dagster/asset_partition_range_start": "2024-01-02",
        "dagster/asset_partition_range_end": "2024-01-05",
        "sigmasight/trigger": "schedule",
        "reason": "schedule",
        "sessions": "2024-01-02 to 2024-01-05 (4)",
        "sigmasight/portfolios": "a, b",
    }
    assert Chunk(job="reference").tags == {"sigmasight/trigger": "manual", "reason": "manual"}
    assert str(chunk) == "daily 2024-01-02 to 2024-01-05 (4 sessions)"


def test_the_portfolio_filter_is_configured_for_the_steps_that_take_it_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIGMASIGHT_DATABASE_URL", "postgresql:///unused")
    made = Launcher(dg.DagsterInstance.ephemeral(), definitions.defs)
    job = definitions.defs.resolve_job_def("daily")
    steps = made._filtered_steps(Chunk("daily"))
    assert steps == graph.filtered_steps(jobs.asset_names("daily")), "the daemon's runs are configured the same way"
    by_portfolio = {
        table.name
        for table in tables.every_table()
        if {"portfolio_id", *tables.PROVENANCE} <= {column.name for column in table.columns}
        and not tables.is_derived(table)
    }
    # prices of only the missing symbols; tables written with another table have no step of their own
    assert steps == sorted({catalog.WRITTEN_WITH.get(name, name) for name in by_portfolio} | {"market_prices"})
    (chunk,) = chunks(FIRST, FIRST, portfolios=["hedge-fund"])
    assert dg.validate_run_config(job, chunk.run_config(steps))
    assert chunk.run_config(["a"])["ops"] == {"a": {"config": {"portfolios": ["hedge-fund"]}}}
    assert "ops" not in chunks(FIRST, FIRST)[0].run_config(steps)


# running


def test_a_range_is_one_run_and_says_how_far_it_came(toy: Launcher) -> None:
    heard: list[progress.StepDone] = []
    (outcome,) = toy.run_all(chunks(FIRST, date(2024, 1, 5), portfolios=["one"]), heard.append)
    days = ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"]
    prices_step, values_step = WORKED
    assert (prices_step, values_step) == (("prices", days, []), ("values", days, ["one"]))
    assert [step.asset for step in heard] == ["values"]
    assert outcome.succeeded
    run = toy.instance.get_run_by_id(outcome.run_id)
    assert run is not None
    assert run.tags[PROCESS_TAG].startswith(f"{socket.gethostname()}:{os.getpid()}:")
    assert toy.instance.get_materialized_partitions(dg.AssetKey("values")) == set(days)
    assert toy.asset_count(Chunk("daily")) == 2
    assert toy.run(Chunk(job="reference")).succeeded


def test_a_run_restricted_to_some_assets_runs_and_configures_only_these(toy: Launcher) -> None:
    (prices_only,) = chunks(FIRST, FIRST, portfolios=["one"], assets=["prices"])
    assert toy.run(prices_only).succeeded
    (values_only,) = chunks(FIRST, FIRST, portfolios=["one"], assets=["values"], trigger="repair")
    outcome = toy.run(values_only, tags={"sigmasight/backfill": "7"})
    assert outcome.succeeded
    assert WORKED == [("prices", ["2024-01-02"], []), ("values", ["2024-01-02"], ["one"])]
    assert toy.asset_count(values_only) == 1
    run = toy.instance.get_run_by_id(outcome.run_id)
    assert run is not None
    assert (run.tags["sigmasight/report"], run.tags["sigmasight/backfill"]) == ("true", "7")


def test_nothing_runs_after_the_first_failure(toy: Launcher) -> None:
    plan = chunks(date(2024, 2, 26), date(2024, 3, 8), 5)
    failed = date(2024, 3, 4)
    outcomes, message = until_it_fails(toy, [*plan, *plan])
    assert re.search(rf"daily {failed} .* failed: values: .*the database went away", message)
    assert [(outcome.chunk.first, outcome.succeeded) for outcome in outcomes] == [
        (date(2024, 2, 26), True),
        (failed, False),
    ]


def test_missing_prices_stop_a_range_at_the_session_before(toy: Launcher) -> None:
    plan = chunks(date(2024, 1, 29), date(2024, 2, 16), portfolios=["one"], trigger="demo")
    outcomes, message = until_it_fails(toy, plan)
    assert message.endswith(f"failed: {UNPRICED} has no prices")
    assert [(str(o.chunk), o.succeeded) for o in outcomes] == [
        ("daily 2024-01-29 to 2024-02-16 (15 sessions)", False),
        ("daily 2024-01-29 to 2024-02-05 (6 sessions)", True),
    ]
    assert outcomes[0].first_failing_session == date.fromisoformat(UNPRICED)
    assert (outcomes[1].chunk.portfolios, outcomes[1].chunk.trigger) == (("one",), "demo")
    assert WORKED[-1] == (
        "values",
        [str(day) for day in CALENDAR.between(date(2024, 1, 29), date(2024, 2, 5))],
        ["one"],
    )


def test_missing_prices_of_the_first_session_leave_nothing_to_run(toy: Launcher) -> None:
    outcomes, _ = until_it_fails(toy, chunks(date.fromisoformat(UNPRICED), date(2024, 2, 16)))
    assert len(outcomes) == 1
    assert [step for step, _, _ in WORKED] == ["prices"]
