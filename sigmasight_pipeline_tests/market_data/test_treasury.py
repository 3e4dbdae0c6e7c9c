"""Treasury yields of sessions: observed, carried over bond-market holidays, and never older than allowed."""

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.market_data.source import YIELDS, MarketDataError
from sigmasight_pipeline.market_data.treasury import carried_yields
from sigmasight_pipeline.sessions import SessionCalendar

DAYS = SessionCalendar(date(2024, 1, 1), date(2024, 12, 31)).dates
COLUMBUS_DAY = date(2024, 10, 14)
"""A session of the exchange on which the bond market is closed."""
AT = DAYS.index(COLUMBUS_DAY)


def observed(*rows):
    return pl.DataFrame(list(rows), schema=YIELDS, orient="row")


def carried(rows, sessions, *, max_yield_age=5, closed=(), days=DAYS):
    calendar = pl.DataFrame({"session_date": days, "is_closed": [day in closed for day in days]})
    return carried_yields(rows, sessions=sessions, trading_sessions=calendar, max_yield_age=max_yield_age)


def test_the_level_of_a_bond_holiday_is_carried_and_marked():
    friday, tuesday = DAYS[AT - 1], DAYS[AT + 1]
    rows = carried(observed((friday, "10Y", 0.041), (tuesday, "10Y", 0.042)), DAYS[AT - 1 : AT + 2])
    assert rows.rows() == [
        (friday, "10Y", 0.041, friday),
        (COLUMBUS_DAY, "10Y", 0.041, friday),
        (tuesday, "10Y", 0.042, tuesday),
    ]
    expected = {"session_date": pl.Date, "tenor": pl.String, "yield": pl.Float64, "observed_date": pl.Date}
    assert dict(rows.schema) == expected


def test_tenors_are_carried_each_for_itself_and_come_in_order():
    rows = carried(observed((DAYS[4], "10Y", 0.04), (DAYS[5], "3M", 0.05), (DAYS[3], "30Y", 0.045)), [DAYS[5]])
    assert rows.select("tenor", "observed_date").rows() == [("3M", DAYS[5]), ("10Y", DAYS[4]), ("30Y", DAYS[3])]


@pytest.mark.parametrize(
    ("age", "limit", "present"), [(0, 0, True), (1, 0, False), (5, 5, True), (6, 5, False), (3, 10, True)]
)
def test_an_observation_lives_max_age_sessions(age, limit, present):
    rows = carried(observed((DAYS[20], "10Y", 0.04)), [DAYS[20 + age]], max_yield_age=limit)
    assert (len(rows) == 1) is present


def test_an_observation_on_a_day_without_trading_is_as_old_as_the_session_before():
    good_friday = date(2024, 3, 29)
    monday = DAYS[DAYS.index(date(2024, 3, 28)) + 1]
    assert len(carried(observed((good_friday, "1M", 0.05)), [monday], max_yield_age=1)) == 1
    assert carried(observed((good_friday, "1M", 0.05)), [monday], max_yield_age=0).is_empty()


def test_a_closed_session_ages_nothing_and_has_no_row():
    rows = carried(observed((DAYS[5], "10Y", 0.04)), DAYS[5:8], closed=[DAYS[6]], max_yield_age=1)
    assert rows["session_date"].to_list() == [DAYS[5], DAYS[7]]


@pytest.mark.parametrize(("weekdays", "present"), [(1, True), (5, True), (6, False), (15, False)])
def test_before_the_stored_sessions_weekdays_count(weekdays, present):
    monday = DAYS[AT]
    day = monday - timedelta(days=weekdays + 2 * ((weekdays + 4) // 5))
    assert (len(carried(observed((day, "10Y", 0.04)), [monday], days=DAYS[AT:])) == 1) is present


def test_nothing_observed_nothing_carried():
    assert carried(observed(), DAYS[:3]).is_empty()
    assert carried(observed((DAYS[5], "10Y", 0.04)), [DAYS[4]]).is_empty(), "a later observation is not known yet"


REFUSED = [
    ([(DAYS[0], "10Y", 4.25)], r"the 10Y Treasury yield of 2024-01-02 is 4.25; .* \(0.0425 for 4.25 %\)"),
    ([(DAYS[0], "10Y", -0.06)], r"-0.06; expected"),
    ([(DAYS[0], "10Y", float("nan"))], r"nan; expected"),
    ([(DAYS[0], "10Y", None)], r"None; expected"),
    ([(DAYS[0], "7Y", 0.04)], r"the 7Y Treasury yield .* expected one of 1M, 3M"),
    ([(DAYS[0], "10Y", 0.04), (DAYS[0], "10Y", 0.05)], r"10Y Treasury yield of 2024-01-02 is there more than once"),
]


@pytest.mark.parametrize(("rows", "message"), REFUSED)
def test_odd_observations_are_refused(rows, message):
    with pytest.raises(MarketDataError, match=message):
        carried(observed(*rows), DAYS[:3])


@given(
    seen=st.sets(st.tuples(st.integers(0, 30), st.sampled_from(["3M", "10Y"]))), limit=st.integers(0, 6), data=st.data()
)
@settings(max_examples=40, deadline=None)
def test_a_range_equals_single_sessions_and_the_rule_looked_up_plainly(seen, limit, data):
    rows = observed(*((DAYS[n], tenor, n / 1000) for n, tenor in data.draw(st.permutations(sorted(seen)))))
    whole = carried(rows, DAYS[:31], max_yield_age=limit)
    single = pl.concat([carried(rows, [day], max_yield_age=limit) for day in DAYS[:31]])
    assert whole.equals(single)
    expected = [
        (DAYS[n], tenor, last / 1000, DAYS[last])
        for n in range(31)
        for tenor in ("3M", "10Y")
        if (last := max((k for k, name in seen if name == tenor and k <= n), default=-100)) >= n - limit
    ]
    assert whole.rows() == expected
