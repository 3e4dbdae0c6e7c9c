"""Missing sessions as gaps: each in exactly one of its owner, none longer than it must be."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from sigmasight_pipeline import sessions
from sigmasight_pipeline.operations import gaps

CALENDAR = sessions.calendar()

LINE = pl.Series("session_date", CALENDAR.between(date(2024, 1, 2), date(2024, 2, 12)), dtype=pl.Date)
SPANS = st.dictionaries(
    st.tuples(st.integers(1, 3), st.sampled_from(["values", "snapshots", "metrics", "weekly"])),
    st.dictionaries(st.integers(0, len(LINE) - 1), st.booleans(), min_size=1, max_size=12),
    max_size=8,
)


@given(SPANS)
def test_every_missing_session_is_in_exactly_one_gap_of_its_owner(
    world: dict[tuple[int, str], dict[int, bool]],
) -> None:
    def rows(*, gone: bool) -> pl.DataFrame:
        kept = [
            (LINE[day], owner, engine)
            for (owner, engine), days in world.items()
            for day, missing in days.items()
            if missing or not gone
        ]
        schema = {"session_date": pl.Date(), "portfolio_id": pl.Int64(), "engine": pl.String()}
        return pl.DataFrame(kept, schema=schema, orient="row")

    missing, expected = rows(gone=True), rows(gone=False)
    spans = gaps.grouped(missing, expected, {"values", "snapshots"}, LINE)
    assert set(spans) == set(missing["portfolio_id"])
    for owner, found in spans.items():
        own = missing.filter(pl.col("portfolio_id") == owner)
        for session, _, engine in own.iter_rows():
            around = [span for span in found if span[0] <= session <= span[1]]
            assert len(around) == 1, "disjoint, and every one in one"
            assert engine in around[0][3]
        for first, last, count, engines in found:
            inside = own.filter(pl.col("session_date").is_between(first, last))
            assert set(engines) == set(inside["engine"])
            assert count == inside["session_date"].n_unique()
            assert {first, last} <= set(inside["session_date"]), "no longer than what is missing"
        numbers = [(LINE.to_list().index(first), LINE.to_list().index(last)) for first, last, _, _ in found]
        assert all(later - end > 1 for (_, end), (later, _) in pairwise(numbers)), "none touch"
        of_chain = own.filter(pl.col("engine") == "snapshots")["session_date"]
        assert len({span for span in found for day in of_chain if span[0] <= day <= span[1]}) <= 1, "a chain is one"
