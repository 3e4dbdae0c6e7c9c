"""The demo, all 374 sessions of it: identities to the cent, splits, dividends, re-runs, one session at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.demo import portfolios
from sigmasight_pipeline.demo.simulated import SimulatedMarket
from sigmasight_pipeline.operations import demo_books, restatement
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.tables.results import PRICE_SOURCES
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import (
    CALENDAR,
    RESULT_TABLES,
    assert_same,
    everything,
    expect,
    import_demo,
    installation,
    rows,
    run_history,
    run_sessions,
)

FIRST, LAST = date(2024, 1, 2), date(2025, 6, 30)
CLOSED = {"demo-operations": date(2025, 5, 30)}
"""The closing session of books that do not stay open."""

SAMPLE = 4
CENT = Decimal("0.01")

MONEY = pl.Decimal(20, 2)


@pytest.fixture(scope="module")
def demo(server: EmbeddedServer) -> Iterator[Installation]:
    with temporary_home() as home, installation(server, home) as opened:
        import_demo(opened)
        demo_books.state(opened.database, LAST)
        for chunk in demo_books.first_loads(opened.database, opened.settings, FIRST):
            expect(opened.launcher.run(chunk))
        run_history(opened, FIRST, LAST)
        yield opened


@pytest.fixture(scope="module")
def snapshots(demo: Installation) -> pl.DataFrame:
    return rows(demo, tables.portfolio_snapshots).sort("portfolio_id", "session_date")


@pytest.fixture(scope="module")
def values(demo: Installation) -> pl.DataFrame:
    return rows(demo, tables.position_values).sort("position_id", "session_date")


def test_every_portfolio_has_every_session_up_to_its_closing(demo: Installation, snapshots: pl.DataFrame) -> None:
    codes = dict(rows(demo, tables.portfolios).select("portfolio_id", "code").iter_rows())
    for (portfolio,), own in snapshots.group_by(["portfolio_id"]):
        last = CLOSED.get(codes[portfolio], LAST)
        assert own["session_date"].to_list() == list(CALENDAR.between(FIRST, last)), portfolio
        assert own["is_first"].to_list() == [True] + [False] * (own.height - 1)
    assert snapshots["portfolio_id"].n_unique() == len(portfolios.books())


def test_a_closed_book_has_rows_of_no_engine_after_its_closing(demo: Installation) -> None:
    for table in RESULT_TABLES:
        if "portfolio_id" in table.columns:
            newest = demo.database.query(
                f"SELECT p.code, max(r.session_date) AS newest FROM {table.fullname} r "
                "JOIN sigmasight.portfolios p USING (portfolio_id) GROUP BY 1"
            )
            for code, day in newest.iter_rows():
                assert day <= CLOSED.get(code, LAST), (table.name, code)
    stated = rows(demo, tables.portfolios).select("code", "active", "closing_date")
    assert {code: closing for code, active, closing in stated.iter_rows() if not active} == CLOSED


def test_a_price_that_was_put_right_is_kept_as_it_was_first_reported(demo: Installation) -> None:
    """It came about as for anybody: loaded on its evening, restated by its source, loaded again."""
    revision = rows(demo, tables.daily_price_revisions).row(0, named=True)
    assert (revision["symbol"], revision["session_date"]) == ("JPM", FIRST)
    first, right = (
        SimulatedMarket(demo.settings.simulated_seed, CALENDAR, known).daily_bars(["JPM"], FIRST, FIRST)["close"].item()
        for known in (FIRST, None)
    )
    stored = demo.database.read(tables.daily_prices, where="symbol = 'JPM' AND session_date = %s", params=(FIRST,))[
        "close"
    ].item()
    assert (revision["close"], stored) == (first, right)
    assert first != right
    change = rows(demo, tables.input_changes).filter(pl.col("symbol") == "JPM").row(0, named=True)
    assert (change["session_date"], change["kind"], change["by_hand"]) == (FIRST, "revised", False)
    assert not restatement.outstanding(demo.database, demo.settings, CALENDAR), "what depends on it followed"


def test_strategies_are_tags_with_a_colour_of_their_own(demo: Installation) -> None:
    known = rows(demo, tables.tags)
    assert set(known["kind"]) == {"regular", "strategy"}
    strategies = known.filter(pl.col("kind") == "strategy")
    assert strategies["colour"].n_unique() == strategies.height == len(portfolios.tags())
    carried = set(rows(demo, tables.position_tags)["tag_id"])
    assert set(strategies["tag_id"]) <= carried, "each is on a position"


def test_net_asset_value_rolls_forward_exactly(demo: Installation, snapshots: pl.DataFrame) -> None:
    equity = rows(demo, tables.portfolios).select("portfolio_id", "initial_equity")
    chain = snapshots.join(equity, on="portfolio_id").with_columns(
        before=pl.col("net_asset_value").shift(1).over("portfolio_id").fill_null(pl.col("initial_equity"))
    )
    broken = chain.filter(pl.col("net_asset_value") != pl.col("before") + pl.col("daily_pnl") + pl.col("net_cash_flow"))
    assert broken.is_empty(), broken


def test_cash_and_market_value_make_the_net_asset_value(snapshots: pl.DataFrame, values: pl.DataFrame) -> None:
    keys = ["session_date", "portfolio_id"]
    sums = values.group_by(keys).agg(pl.col("market_value", "daily_pnl", "dividend_pnl", "realized_pnl").sum())
    both = snapshots.join(sums, on=keys, how="left", suffix="_of_positions").with_columns(
        pl.col("^.*_of_positions$", "dividend_pnl").fill_null(0)  # before the first entry there are no positions
    )
    assert_frame_equal(
        both.select(
            market_value=pl.col("market_value"),
            daily_pnl=pl.col("daily_pnl"),
            dividends=pl.col("dividend_income"),
            value=pl.col("net_asset_value") - pl.col("cash_balance"),
        ).cast(MONEY),
        both.select(
            market_value=pl.col("market_value_of_positions"),
            daily_pnl=pl.col("daily_pnl_of_positions"),
            dividends=pl.col("dividend_pnl"),
            value=pl.col("market_value_of_positions"),
        ).cast(MONEY),
    )


def test_cash_is_a_ledger_of_entries_proceeds_dividends(demo: Installation, snapshots: pl.DataFrame) -> None:
    """Cash rebuilt from imported positions and flows, dividends and settlements, without any market value."""
    values = rows(demo, tables.position_values)
    inception = values.filter(pl.col("session_date") == FIRST)
    positions = rows(demo, tables.positions)
    flows = rows(demo, tables.portfolio_cash_flows)
    settled = settlements(demo, positions)
    for portfolio, equity in rows(demo, tables.portfolios).select("portfolio_id", "initial_equity").iter_rows():
        own = positions.filter(pl.col("portfolio_id") == portfolio)
        cash = equity - sum(
            inception.filter(pl.col("portfolio_id") == portfolio)
            .join(own.filter(pl.col("entry_date") < FIRST), on="position_id")["market_value"]
            .to_list(),
            Decimal(0),
        )
        spent = {}
        for entry, quantity, price, multiplier in own.select(
            "entry_date", "quantity", "entry_price", "multiplier"
        ).iter_rows():
            if entry >= FIRST:
                spent[entry] = spent.get(entry, Decimal(0)) + cents(quantity * price * multiplier)
        left = own.drop_nulls("exit_date").select("exit_date", "quantity", "exit_price", "multiplier")
        for day, quantity, price, multiplier in left.iter_rows():
            spent[day] = spent.get(day, Decimal(0)) - cents(quantity * price * multiplier)
        for position, (day, proceeds) in settled.items():
            if position in own["position_id"]:
                spent[day] = spent.get(day, Decimal(0)) - proceeds
        for day, amount in (
            flows.filter(pl.col("portfolio_id") == portfolio).select("session_date", "amount").iter_rows()
        ):
            spent[day] = spent.get(day, Decimal(0)) - amount
        dividends = dict(
            values.filter(pl.col("portfolio_id") == portfolio)
            .group_by("session_date")
            .agg(pl.col("dividend_pnl").sum())
            .iter_rows()
        )
        stored = snapshots.filter(pl.col("portfolio_id") == portfolio)
        for day, balance in stored.select("session_date", "cash_balance").iter_rows():
            cash += dividends.get(day, Decimal(0)) - spent.get(day, Decimal(0))
            assert balance == cash, (portfolio, day, balance, cash)


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_EVEN)


def settlements(demo: Installation, positions: pl.DataFrame) -> dict[int, tuple[date, Decimal]]:
    """Expiry session and cash of every contract that expired: its exercise value at the close of the underlying."""
    expired = positions.filter(pl.col("expiration_date") <= LAST)
    found = {}
    for row in expired.iter_rows(named=True):
        spot = demo.database.read(
            tables.daily_prices,
            where="symbol = %s AND session_date = %s",
            params=(row["underlying_symbol"], row["expiration_date"]),
        )["close"].item()
        sign = 1 if row["option_kind"] == "C" else -1
        worth = max(sign * (spot - row["strike_price"]), Decimal(0))
        found[row["position_id"]] = (row["expiration_date"], cents(row["quantity"] * worth * row["multiplier"]))
    assert len(found) == 3, "the demo has contracts that expire"
    return found


def test_daily_pnl_telescopes_to_the_pnl_since_entry(values: pl.DataFrame) -> None:
    moved = values.with_columns(before=pl.col("total_pnl").shift(1).over("position_id")).filter(
        pl.col("before").is_not_null() & (pl.col("total_pnl") - pl.col("before") != pl.col("daily_pnl"))
    )
    assert moved.is_empty(), moved
    entered = values.group_by("position_id").first().filter(pl.col("session_date") > FIRST)
    assert entered.height >= 50
    assert (entered["total_pnl"] == entered["daily_pnl"]).all()


def test_the_split_of_nvidia_changes_quantities_and_no_value(demo: Installation, values: pl.DataFrame) -> None:
    split, before = date(2024, 6, 10), date(2024, 6, 7)
    held = values.filter(pl.col("symbol").str.starts_with("NVDA") & pl.col("session_date").is_in([before, split]))
    assert held.height == 8, "three share positions and a call, on both sessions"
    returns = demo.database.read(
        tables.daily_returns, where="symbol = 'NVDA' AND session_date = %s", params=(split,)
    ).row(0, named=True)
    assert abs(returns["simple_return"]) < 0.15, "a split is no move"
    for _, own in held.sort("session_date").group_by("position_id"):
        old, new = own.iter_rows(named=True)
        assert new["quantity"] == 10 * old["quantity"]
        assert new["cost_basis"] == old["cost_basis"]
        if new["symbol"] == "NVDA":
            expected = float(old["market_value"]) * (1 + returns["simple_return"])
            assert float(new["market_value"] + new["dividend_pnl"]) == pytest.approx(expected, abs=0.02)
        else:
            assert (old["symbol"], new["symbol"]) == ("NVDA251017C00800000", "NVDA251017C00080000")


def test_dividends_are_paid_to_longs_and_by_shorts(demo: Installation, values: pl.DataFrame) -> None:
    actions = rows(demo, tables.corporate_actions).filter(pl.col("kind") == "dividend")
    paid = values.filter(pl.col("dividend_pnl") != 0).join(
        actions, left_on=["symbol", "session_date"], right_on=["symbol", "ex_date"], how="left"
    )
    assert paid["cash_amount"].null_count() == 0
    before = values.with_columns(held=pl.col("quantity").shift(1).over("position_id"))
    joined = paid.join(before.select("session_date", "position_id", "held"), on=["session_date", "position_id"])
    for held, amount, stored in joined.select("held", "cash_amount", "dividend_pnl").iter_rows():
        assert (held * amount).quantize(CENT, ROUND_HALF_EVEN) == stored, (held, amount)
    assert (joined["dividend_pnl"] < 0).any(), "a short pays"
    assert (joined["dividend_pnl"] > 0).any()


def test_equity_balance_is_the_newest_net_asset_value(demo: Installation, snapshots: pl.DataFrame) -> None:
    newest = snapshots.group_by("portfolio_id", maintain_order=True).last()
    stored = rows(demo, tables.portfolios).select("portfolio_id", "equity_balance", "equity_as_of")
    assert stored.rows() == newest.select("portfolio_id", "net_asset_value", "session_date").rows()


def test_prices_of_every_kind_occur(values: pl.DataFrame) -> None:
    """The demo exercises every source of a price; only the holding nobody has marked is left at its entry price."""
    sources = set(values["price_source"])
    assert sources == set(PRICE_SOURCES) - {"settlement_unpriced"}, "every underlying has a price at expiry"
    assert set(values.filter(pl.col("price_source") == "entry_price")["symbol"]) == {"BRIDGE-NOTE"}
    gap = values.filter((pl.col("symbol") == "DJP") & (pl.col("session_date") == date(2024, 9, 13)))
    assert gap.select("price_source", "stale_sessions", "stale").row(0) == ("carried", 5, False)


def test_every_option_has_greeks_and_its_side_of_exposure(demo: Installation) -> None:
    positions = rows(demo, tables.positions).filter(pl.col("investment_class") == "OPTIONS")
    greeks = rows(demo, tables.position_greeks).join(positions, on="position_id", suffix="_held")
    unquoted = pl.col("underlying_symbol") == "RDDT"
    assert set(greeks.filter(unquoted)["vol_source"].drop_nulls()) == {"historical", "fallback"}
    held = greeks.filter(pl.col("status").is_in(["exit", "expired"]).not_(), unquoted.not_())
    assert set(held["status"]) == {"ok"}
    assert set(held["vol_source"]) <= {"implied", "carried", "vendor", "historical"}
    assert (held["vol_source"] == "implied").mean() > 0.9
    # a long call or a short put gains when the underlying rises
    side = held["quantity"].cast(pl.Float64).sign() * held["option_kind"].replace_strict({"C": 1.0, "P": -1.0})
    assert (held["delta_adjusted_exposure"].cast(pl.Float64).sign() * side >= 0).all()
    assert (held["theta"] * held["quantity"].cast(pl.Float64).sign() < 0).mean() > 0.99, "time costs the holder"


def test_factor_exposures_add_up_to_the_portfolios(demo: Installation) -> None:
    keys = ["session_date", "portfolio_id", "factor"]
    of_positions = rows(demo, tables.position_factor_exposures).group_by(keys).agg(pl.col("exposure_dollar").sum())
    stored = rows(demo, tables.portfolio_factor_exposures)
    both = stored.filter(pl.col("status") == "ok")
    joined = both.join(of_positions, on=keys, suffix="_of_positions")
    assert joined.height == both.height > 3 * 350 * 17
    assert (joined["exposure_dollar"] == joined["exposure_dollar_of_positions"].cast(MONEY)).all()
    assert (both["coverage"] >= 0.8).all()
    # before the first entry there are no positions, and short interest has no source
    empty = stored.filter(pl.col("status") == "no_positions")
    assert set(empty["exposure_dollar"]) == {Decimal(0)}
    assert empty["positions_total"].max() == 0
    missing = stored.filter(~pl.col("status").is_in(["ok", "no_positions"]))
    assert set(missing.select("factor", "status").rows()) == {("Short_Interest", "factor_without_data")}


def test_what_is_known_of_the_simulated_market_is_found(demo: Installation) -> None:
    betas = rows(demo, tables.symbol_factor_betas, [LAST])
    assert set(betas.filter(pl.col("quality") != "ok")["symbol"]) == {"SPAXX"}, "the money market fund is constant"
    proxies = dict(rows(demo, tables.factor_definitions).select("factor", "proxy_symbol").drop_nulls().iter_rows())
    for factor, symbol in proxies.items():
        own = betas.filter((pl.col("factor") == factor) & (pl.col("symbol") == symbol)).row(0, named=True)
        assert (own["beta"], own["r_squared"]) == (pytest.approx(1, abs=1e-9), pytest.approx(1, abs=1e-9)), factor
    durations = rows(demo, tables.instruments).filter(pl.col("duration").is_not_null()).select("symbol", "duration")
    rates = betas.filter(pl.col("factor") == "Interest_Rate").join(durations, on="symbol")
    assert rates.height == durations.height == 5
    for symbol, duration, beta in rates.select("symbol", "duration", "beta").iter_rows():
        assert beta == pytest.approx(-duration, rel=0.25), symbol
    held = rows(demo, tables.position_interest_rate_betas, [LAST]).filter(pl.col("symbol").is_in(["BND", "FXNAX"]))
    assert held["ir_beta"].max() < -4


def test_no_error_was_found(demo: Installation) -> None:
    failed = demo.database.query(
        "SELECT asset, check_name, severity, session_date, description FROM sigmasight.data_quality_results "
        "WHERE NOT passed AND severity = 'ERROR'"
    )
    assert failed.is_empty(), failed
    counts = demo.database.query(
        "SELECT asset, count(DISTINCT session_date) AS days FROM sigmasight.data_quality_results GROUP BY 1"
    )
    assert dict(counts.iter_rows())["portfolio_snapshots"] == 374


WARNED = {
    ("daily_prices", "missing_symbols"),  # a thinly traded stock misses sessions
    ("daily_prices", "restated_values"),  # a close its source put right
    ("daily_prices", "rejected_rows"),  # a misprint, and a volume that is none
    ("position_values", "stale_prices"),  # a delisted holding
    ("position_values", "unpriced_positions"),  # a private holding nobody has marked
    ("position_greeks", "fallback_volatility"),  # an option nobody quotes, on a stock that is too young
    ("portfolio_exposures", "greeks_coverage"),  # the same
    ("correlation_calculations", "coverage"),  # the delisted holding has no returns
}
"""What the fourth book is there for: each check of these warns, and no other."""


def test_what_is_warned_of_is_what_was_planted(demo: Installation) -> None:
    """A warning of every day is one nobody reads: of money market funds, of a book's first weeks, of quotes."""
    warned = demo.database.query(
        "SELECT DISTINCT asset, check_name FROM sigmasight.data_quality_results WHERE NOT passed AND severity = 'WARN'"
    )
    assert set(warned.iter_rows()) == WARNED
    refused = demo.database.query("SELECT symbol, reason, session_date FROM sigmasight.rejected_prices")
    assert set(refused["symbol"]) == {"CRAWA", "RDDT"}, refused


def test_no_hedge_is_larger_than_what_it_hedges(demo: Installation) -> None:
    """The call on the volatility index moves the book by at most 15 % of its net asset value in any scenario."""
    largest = demo.database.query(
        "SELECT max(abs(r.pnl / s.net_asset_value))::float8 AS share FROM staging.stress_position_results r "
        "JOIN sigmasight.positions p USING (position_id) "
        "JOIN sigmasight.portfolio_snapshots s ON (s.portfolio_id, s.session_date) = (r.portfolio_id, r.session_date) "
        "WHERE p.underlying_symbol = 'VIX'"
    ).item()
    assert 0.05 < largest <= 0.15


SETTING = "a setting, stored beside what it made"
SAME_THROUGHOUT = {
    ("correlation_calculations", "duplicate_pairs"): "no two holdings of a book are one instrument",
    ("correlation_calculations", "filter_mode"): SETTING,
    ("correlation_calculations", "min_portfolio_weight"): SETTING,
    ("correlation_calculations", "min_position_value"): SETTING,
    ("correlation_calculations", "window_sessions"): SETTING,
    ("factor_correlations", "status"): "every factor of the simulated market has its whole history",
    ("portfolio_exposures", "delta_adjusted_coverage"): "an option without a delta is a small part of every book",
    ("portfolio_risk_metrics", "factor_var_status"): "every holding with a price has the style factors' history",
    ("portfolio_simulated_risk", "n_obs"): "history reaches back a whole window before the first session",
    ("portfolio_simulated_risk", "window_sessions"): SETTING,
    ("portfolio_snapshots", "return_status"): "no book loses all it has",
    ("stress_scenario_diagnostics", "implausible"): "no shipped scenario is implausible",
    ("stress_scenario_diagnostics", "window_sessions"): SETTING,
    ("stress_test_results", "implausible"): "no shipped scenario is implausible",
    ("symbol_factor_betas", "window_sessions"): SETTING,
}
"""Columns of result tables with one value in the whole demo, and why."""


def test_every_other_column_of_a_result_is_seen_with_more_than_one_value(demo: Installation) -> None:
    """Nobody should build on a column that was never filled."""
    same = set()
    for table in RESULT_TABLES:
        names = [column.name for column in table.columns if column.name not in tables.PROVENANCE]
        counts = demo.database.query(
            f"SELECT {', '.join(f'count(DISTINCT {name}::text) AS {name}' for name in names)} FROM {table.fullname}"
        ).row(0, named=True)
        same |= {(str(table.name), name) for name, values in counts.items() if values <= 1}
    assert same == set(SAME_THROUGHOUT)


STATED_ALIKE = {
    ("portfolios", "base_currency"): "amounts are US dollars",
    ("portfolios", "benchmark_symbol"): "every book is compared with the market",
    ("portfolios", "inception_date"): "the demo has one first session",
}
"""Columns of what is stated of books and tags that say the same of all of them, and why."""


def test_every_other_column_that_is_stated_of_books_is_seen_with_more_than_one_value(demo: Installation) -> None:
    same = set()
    for table in (tables.portfolios, tables.positions, tables.tags):
        frame = rows(demo, table)
        same |= {(str(table.name), name) for name in frame.columns if frame[name].n_unique() <= 1}
    assert same == set(STATED_ALIKE)


@pytest.mark.parametrize("sample", [SAMPLE, pytest.param(60, marks=pytest.mark.slow)])
def test_single_sessions_in_any_order_change_nothing(demo: Installation, sample: int) -> None:
    """Single-session runs, shuffled, against the two chunks of the fixture: every table as it was, to the last bit."""
    before = everything(demo)
    # the end of a week among them, which has rows of its own
    days = [date(2025, 3, 7), *random.Random(7).sample(CALENDAR.between(FIRST, LAST), sample)]
    runs = {day: expect(run_sessions(demo, day)).run_id for day in days}
    assert_same(demo, before)
    for table in RESULT_TABLES:
        written = demo.database.query(
            f"SELECT DISTINCT session_date, run_id FROM {table.fullname} WHERE session_date = ANY(%s)", (days,)
        )
        assert dict(written.iter_rows()).items() <= runs.items(), f"{table.name}: rows of the single runs are compared"
        assert not written.is_empty()


def test_smaller_chunks_change_nothing(demo: Installation) -> None:
    before = everything(demo)
    run_history(demo, date(2024, 6, 5), date(2024, 6, 18), size=4)
    assert_same(demo, before)
    assert rows(demo, tables.daily_price_revisions).height == 1, "nothing was restated but what was before"
