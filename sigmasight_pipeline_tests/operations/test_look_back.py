"""Look-backs that were not loaded, or too late: what they lack is found, told and filled to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import polars as pl
import pytest

from sigmasight_pipeline.assets import operations as audit
from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import gaps, history
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import (
    CALENDAR,
    assert_same,
    everything,
    expect,
    import_demo,
    installation,
    run_history,
    run_sessions,
)
from sigmasight_pipeline_tests.operations.gap_world import found, lost

FIRST, LAST = date(2024, 1, 2), date(2024, 1, 5)


@pytest.fixture(scope="module")
def whole(server: EmbeddedServer) -> Iterator[Installation]:
    """The demo books over four sessions, with little price history."""
    with temporary_home() as home, installation(server, home, first_session="2023-12-18") as made:
        import_demo(made)
        run_history(made, FIRST, LAST)
        yield made


@pytest.mark.parametrize("name", ["daily_returns", "treasury_yields", "daily_prices"])
def test_what_a_look_back_lacks_is_found_in_every_table_it_needs_and_filled(whole: Installation, name: str) -> None:
    """As a process killed between two tables, or between two runs, leaves it: nothing was computed with it."""
    before = everything(whole)
    behind = CALENDAR.between(date(2023, 12, 20), date(2023, 12, 27))
    with lost(whole, [name], "session_date BETWEEN %s AND %s", behind[0], behind[-1]):
        (gap,) = found(whole)
        assert (gap.portfolios, gap.first, gap.last, gap.sessions) == ((), behind[0], behind[-1], len(behind))
        assert name in gap.engines
        source = open_source(whole.settings, CALENDAR)
        first, *_ = history.plan_history(whole.database, whole.settings, source, CALENDAR, first=FIRST, last=LAST)
        assert (first.job, first.first) == ("market_data", behind[0]), "whoever runs the range loads it"
        for chunk in gaps.plan(whole.database, whole.settings, source, CALENDAR, gap):
            expect(whole.launcher.run(chunk))
        assert found(whole) == []
        assert_same(whole, before)


def test_figures_from_a_window_that_could_be_full_are_found_told_and_computed_anew(whole: Installation) -> None:
    """A look-back that was loaded after the sessions it belongs to had been computed without it."""
    before = everything(whole)
    with lost(whole, ["daily_returns"], "session_date < %s", FIRST):
        expect(run_sessions(whole, FIRST, LAST))
        audited = audit.audit(whole.database, whole.settings, [LAST])
        assert set(audited.filter(pl.col("engine") == "symbol_factor_betas")["status"]) == {"complete"}
    (gap,) = found(whole)
    assert {"symbol_factor_betas", "factor_correlations", "pairwise_correlations"} <= set(gap.engines)
    assert (gap.first, gap.last) == (FIRST, LAST)
    audited = audit.audit(whole.database, whole.settings, [LAST])
    (row,) = audited.filter(pl.col("engine") == "symbol_factor_betas").to_dicts()
    used = len(CALENDAR.between(FIRST, LAST))
    stored = len(CALENDAR.between(date(2023, 12, 18), LAST)) - 1
    assert row["status"] == "partial"
    assert row["reason"].startswith(f"estimated from {used} returns where {stored} are stored")
    for chunk in gaps.plan(whole.database, whole.settings, open_source(whole.settings, CALENDAR), CALENDAR, gap):
        expect(whole.launcher.run(chunk))
    assert found(whole) == []
    assert_same(whole, before)
