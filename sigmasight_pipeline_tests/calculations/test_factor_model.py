"""Betas of symbols: who has one, why not, winsorising, and that nothing else moves them by a bit."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sigmasight_pipeline.calculations.factor_model import (
    SYMBOL_FACTOR_BETAS,
    BetaQuality,
    symbol_factor_betas,
    winsorized,
)
from sigmasight_pipeline.calculations.factor_returns import FactorInputError
from sigmasight_pipeline.calculations.regressions import RegressionParameterError
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline.storage.tables.factors import BETA_QUALITIES
from sigmasight_pipeline_tests.calculations.table_rows import frame, sessions_frame
from sigmasight_pipeline_tests.calculations.test_factor_returns import factor

DAYS = [date(2023, 1, 2) + timedelta(days=number) for number in range(330)]
CLOSED = DAYS[310]
OPEN = [day for day in DAYS if day != CLOSED]
LAST = OPEN[-1]
FACTORS = frame(
    tables.factor_definitions,
    [
        factor("Market", "style", "SPY"),
        factor("Gold", "shock_only", "GLD"),
        factor("Value", "style", "VTV"),
        factor("Interest_Rate", "rate"),
        factor("Short_Interest", "characteristic"),
    ],
)
REGRESSED = ["Gold", "Interest_Rate", "Market", "Value"]
SYMBOLS = ["GLD", "SPY", "VTV", "AAA", "BBB", "CCC", "GONE"]
FIGURES = ["beta", "beta_raw", "alpha", "std_error", "t_stat", "p_value", "r_squared", "residual_volatility"]


def instrument(symbol: str, **fields: Any) -> dict[str, Any]:
    """A row of ``instruments``."""
    return {"symbol": symbol, "kind": "stock", "active": True, **fields}


INSTRUMENTS = frame(
    tables.instruments,
    [
        *(instrument(symbol, kind="etf") for symbol in SYMBOLS[:3]),
        *(instrument(symbol) for symbol in ("AAA", "BBB")),
        # no longer active today, which says nothing about the sessions before
        instrument("CCC", active=False),
        instrument("GONE", active=False, last_session=OPEN[300]),
        instrument("HOUSE", kind="private"),
        instrument("AAA240119C00100000", kind="option"),
    ],
)


def panel(symbols: list[str], seed: int = 1) -> pl.DataFrame:
    """One-session returns of every symbol on every open session but the first; each symbol's own whatever the rest."""
    market = np.random.default_rng(seed).normal(0, 0.01, len(OPEN) - 1)
    parts = []
    for symbol in symbols:
        own = np.random.default_rng([seed, *symbol.encode()]).normal(0, 0.01, len(OPEN) - 1)
        parts.append(
            pl.DataFrame(
                {
                    "session_date": OPEN[1:],
                    "symbol": symbol,
                    "simple_return": market + own,
                    "sessions_spanned": pl.Series([1] * (len(OPEN) - 1), dtype=pl.Int32),
                }
            )
        )
    return pl.concat(parts)


RETURNS = panel(SYMBOLS)
_LEVELS = 0.04 + 0.0005 * np.random.default_rng(9).standard_normal(len(OPEN)).cumsum()
YIELDS = pl.DataFrame({"session_date": OPEN, "tenor": "10Y", "yield": _LEVELS, "observed_date": OPEN})


def betas(sessions: list[date] | None = None, **changed: Any) -> pl.DataFrame:
    given_: dict[str, Any] = {
        "sessions": [LAST] if sessions is None else sessions,
        "calendar": sessions_frame(DAYS, [CLOSED]),
        "instruments": INSTRUMENTS,
        "factors": FACTORS,
        "returns": RETURNS,
        "yields": YIELDS,
    }
    return symbol_factor_betas(**(given_ | changed))


def keep(symbol: str, count: int, returns: pl.DataFrame = RETURNS) -> pl.DataFrame:
    """`returns` with only the last `count` of a symbol."""
    return returns.filter((pl.col("symbol") != symbol) | pl.col("session_date").is_in(OPEN[-count:] if count else []))


def test_the_columns_of_the_table() -> None:
    result = betas()
    expected = {n: dtype for n, dtype in polars_schema(tables.symbol_factor_betas).items() if n not in PROVENANCE}
    assert dict(result.schema) == expected == SYMBOL_FACTOR_BETAS
    assert tuple(BetaQuality) == BETA_QUALITIES
    assert result.equals(result.sort("session_date", "symbol", "factor"))
    for name in FIGURES:
        assert result[name].drop_nulls().is_finite().all()


def test_the_universe() -> None:
    """Every stock, ETF, fund and index not yet gone, whatever it is today; factors that have a return."""
    result = betas([OPEN[299], OPEN[300], OPEN[301], CLOSED])
    alive = sorted(SYMBOLS)
    for day, symbols in (
        (OPEN[299], alive),
        (OPEN[300], alive),
        (OPEN[301], [symbol for symbol in alive if symbol != "GONE"]),
    ):
        own = result.filter(session_date=day)
        assert own.select("symbol", "factor").rows() == [(s, f) for s in symbols for f in REGRESSED], day
    assert CLOSED not in result["session_date"]
    assert betas([CLOSED]).is_empty()
    assert betas([]).schema == SYMBOL_FACTOR_BETAS


def test_proxies_have_beta_one() -> None:
    own = betas(DAYS[-9:]).join(FACTORS.select("factor", symbol="proxy_symbol"), on=["factor", "symbol"])
    assert own.height == 3 * 9
    assert own.select("beta", "beta_raw", "r_squared", "p_value", "residual_volatility").unique().rows() == [
        (1.0, 1.0, 1.0, 0.0, 0.0)
    ]
    assert own["t_stat"].null_count() == own.height


@pytest.mark.parametrize("count", [0, 1, 59, 60, 61, 252])
def test_the_minimum_of_observations(count: int) -> None:
    result = betas(returns=keep("BBB", count))
    own = result.filter(symbol="BBB")
    assert own["n_obs"].to_list() == [count] * 4
    assert own["window_sessions"].to_list() == [252] * 4
    estimated = count >= 60
    assert own["quality"].to_list() == ["ok" if estimated else "insufficient_history"] * 4
    for name in FIGURES:
        assert own[name].is_not_null().all() == estimated, name
        assert own[name].is_null().all() != estimated, name
    others = pl.col("symbol") != "BBB"
    assert result.filter(others).equals(betas().filter(others)), "a young symbol moved another one"


def test_a_symbol_more_changes_no_other() -> None:
    """Not even in the last bit, and whether it has a beta or not."""
    many = [f"N{number:03}" for number in range(70)]
    more = frame(tables.instruments, [*INSTRUMENTS.to_dicts(), *(instrument(symbol) for symbol in many)])
    result = betas(DAYS[-5:], instruments=more, returns=pl.concat([keep("N001", 5, panel(many)), RETURNS]))
    assert result.filter(~pl.col("symbol").is_in(many)).equals(betas(DAYS[-5:]))


def test_a_factor_more_changes_no_other() -> None:
    more = [factor(f"F{number}", "shock_only", symbol) for number, symbol in enumerate(SYMBOLS * 2)]
    result = betas(DAYS[-5:], factors=frame(tables.factor_definitions, [*FACTORS.to_dicts(), *more]))
    assert result.filter(pl.col("factor").is_in(REGRESSED)).equals(betas(DAYS[-5:]))


def test_rows_in_any_order() -> None:
    result = betas(
        DAYS[:5:-1],
        instruments=INSTRUMENTS[::-1],
        factors=FACTORS[::-1],
        returns=RETURNS.sample(fraction=1, shuffle=True, seed=3),
        yields=YIELDS[::-1],
        calendar=sessions_frame(DAYS, [CLOSED])[::-1],
    )
    assert result.equals(betas(DAYS[6:]))


def test_a_range_is_its_sessions() -> None:
    """Bit for bit, also when a single run gets only the rows it asks for."""
    together = betas(DAYS)
    for number in (0, 1, 59, 60, 61, 100, 251, 252, 253, 309, 310, len(OPEN) - 1):
        day = OPEN[number]
        window = OPEN[max(0, number - 251) : number + 1]
        alone = betas(
            [day],
            returns=RETURNS.filter(pl.col("session_date").is_in(window)),
            yields=YIELDS.filter(pl.col("session_date").is_between(OPEN[max(0, number - 252)], day)),
        )
        assert alone.equals(together.filter(session_date=day)), day
        assert alone["window_sessions"].unique().to_list() == [len(window)]


@settings(max_examples=15)
@given(st.integers(60, len(OPEN) - 2), st.floats(-0.9, 50), st.sampled_from(["SPY", "AAA", "10Y"]))
def test_nothing_after_a_session_moves_it(number: int, value: float, which: str) -> None:
    day = OPEN[number]
    sessions = OPEN[number - 2 : number + 1]
    later = (pl.col("session_date") > day) & (pl.col("symbol") == which)
    returns = RETURNS.with_columns(
        simple_return=pl.when(later).then(value).otherwise("simple_return"),
        sessions_spanned=pl.when(later & (pl.col("simple_return") > 0)).then(2).otherwise("sessions_spanned"),
    )
    yields = YIELDS.with_columns(pl.when(pl.col("session_date") > day).then(0.2).otherwise("yield").alias("yield"))
    changed = {"returns": returns} if which != "10Y" else {"yields": yields}
    assert betas(sessions, **changed).equals(betas(sessions))


def test_a_bad_tick_stays_with_its_symbol() -> None:
    spoilt = RETURNS.with_columns(
        simple_return=pl.when(symbol="AAA", session_date=OPEN[70]).then(1e9).otherwise("simple_return")
    )
    before, after = betas(DAYS, returns=RETURNS), betas(DAYS, returns=spoilt)
    touched = (pl.col("symbol") == "AAA") & pl.col("session_date").is_between(OPEN[70], OPEN[70 + 251])
    assert after.filter(~touched).equals(before.filter(~touched))
    assert (after.filter(touched)["beta"] != before.filter(touched)["beta"]).all()


NO_FIGURES = [None] * len(FIGURES)


def test_a_factor_without_data() -> None:
    """A proxy without any return, and none given: NULL with the reason, and the other factors go on."""
    odd = pl.concat(
        [FACTORS, frame(tables.factor_definitions, [factor("Oil", "shock_only", "USO"), factor("Size", "style")])]
    )
    result = betas(factors=odd)
    for name in ("Oil", "Size"):
        own = result.filter(factor=name)
        assert own["symbol"].to_list() == sorted(set(SYMBOLS) - {"GONE"})
        assert own.select("quality", "n_obs", *FIGURES).unique().rows() == [("factor_without_data", 0, *NO_FIGURES)]
    assert result.filter(pl.col("factor").is_in(REGRESSED)).equals(betas())


def test_no_yields_at_all() -> None:
    result = betas(yields=YIELDS.clear())
    assert result.filter(factor="Interest_Rate")["quality"].unique().to_list() == ["factor_without_data"]
    others = pl.col("factor") != "Interest_Rate"
    assert result.filter(others).equals(betas().filter(others))


@pytest.mark.parametrize(
    ("left", "quality"),
    [(252, "ok"), (60, "ok"), (59, "insufficient_history"), (1, "insufficient_history"), (0, "factor_without_data")],
)
def test_a_proxy_missing_for_some_sessions(left: int, quality: str) -> None:
    """Pairs lose the sessions the proxy lacks; a single return is data, if not enough."""
    result = betas(returns=keep("GLD", left))
    own = result.filter(pl.col("factor") == "Gold")
    assert own.select("quality", "n_obs").unique().rows() == [(quality, left)]
    untouched = (pl.col("factor") != "Gold") & (pl.col("symbol") != "GLD")
    assert result.filter(untouched).equals(betas().filter(untouched))


def test_a_return_over_a_gap_is_missing() -> None:
    spans = RETURNS.with_columns(
        sessions_spanned=pl.when((pl.col("symbol") == "AAA") & pl.col("session_date").is_in(OPEN[-7:]))
        .then(2)
        .otherwise(1)
    )
    dropped = RETURNS.filter((pl.col("symbol") != "AAA") | ~pl.col("session_date").is_in(OPEN[-7:]))
    assert betas(returns=spans).equals(betas(returns=dropped))
    assert betas(returns=spans).filter(symbol="AAA")["n_obs"].to_list() == [245] * 4


def test_a_constant_symbol_and_a_constant_factor() -> None:
    """Cash has beta 0, known exactly; on a factor that does not move there is nothing to know."""
    flat = RETURNS.with_columns(
        simple_return=pl.when(pl.col("symbol").is_in(["BBB", "VTV"])).then(0.0002).otherwise("simple_return")
    )
    result = betas(returns=flat)
    of_constant_factor = result.filter(factor="Value").select("quality", "n_obs", *FIGURES)
    assert of_constant_factor.unique().rows() == [("no_variance", 252, *NO_FIGURES)]
    constant = pl.col("symbol").is_in(["BBB", "VTV"]) & (pl.col("factor") != "Value")
    cash = result.filter(constant)
    figures = {"beta": 0.0, "beta_raw": 0.0, "std_error": 0.0, "residual_volatility": 0.0}
    expected = [("constant", *figures.values(), None, None, None)]
    assert cash.select("quality", *figures, "t_stat", "p_value", "r_squared").unique().rows() == expected
    np.testing.assert_allclose(cash["alpha"], 0.0002, rtol=1e-12)
    others = ~constant & (pl.col("factor") != "Value")
    assert result.filter(others).equals(betas().filter(others))


def test_a_carried_yield_is_a_missing_observation() -> None:
    carried = YIELDS.with_columns(
        observed_date=pl.when(session_date=OPEN[-3]).then(OPEN[-4]).otherwise("observed_date")
    )
    assert betas(yields=carried).filter(factor="Interest_Rate")["n_obs"].unique().to_list() == [250]


WIDE = [f"W{number:03}" for number in range(230)]
WIDE_INSTRUMENTS = frame(tables.instruments, [*INSTRUMENTS.to_dicts(), *(instrument(symbol) for symbol in WIDE)])
WIDE_RETURNS = pl.concat([RETURNS, panel(WIDE)])


def wide(**changed: Any) -> pl.DataFrame:
    return betas(instruments=WIDE_INSTRUMENTS, returns=WIDE_RETURNS, **changed)


def stocks_of(result: pl.DataFrame) -> pl.Series:
    """Which rows winsorising may touch: stocks that are no proxies."""
    return result.select(~pl.col("symbol").is_in(["SPY", "GLD", "VTV"])).to_series()


@pytest.mark.parametrize("percentile", [0.01, 0.05])
def test_winsorizing(percentile: float) -> None:
    """Towards the quantiles of the stocks, by two standard errors at most; proxies and the rate factor as they are."""
    result = wide(winsorize_percentile=percentile)
    for name in REGRESSED:
        own = result.filter(factor=name)
        raw, error, stock = own["beta_raw"].to_numpy(), own["std_error"].to_numpy(), stocks_of(own).to_numpy()
        low, high = np.quantile(raw[stock], [percentile, 1 - percentile])
        towards = np.clip(np.clip(raw, low, high), raw - 2 * error, raw + 2 * error)
        towards = np.where(np.sign(towards) * np.sign(raw) < 0, 0.0, towards)
        fixed = ~stock | (name == "Interest_Rate")
        np.testing.assert_allclose(own["beta"], np.where(fixed, raw, towards), rtol=1e-14)
        changed = (own["beta"] != own["beta_raw"]).sum()
        assert changed == 0 if name == "Interest_Rate" else changed >= 2 * int(percentile * 230) - 2, name
    assert (wide(winsorize_percentile=0.0)["beta"] == result["beta_raw"]).all()


@pytest.mark.parametrize(("least", "winsorised"), [(233, True), (234, False)])
def test_winsorizing_needs_stocks(least: int, *, winsorised: bool) -> None:
    """233 stocks have a beta on the last session: GONE is gone, and the three proxies are none."""
    result = wide(winsorize_min_symbols=least)
    assert (result["beta"] != result["beta_raw"]).any() == winsorised


def test_too_few_betas_are_not_winsorised() -> None:
    """A symbol without a beta is none of the cross-section."""
    result = betas(instruments=WIDE_INSTRUMENTS, returns=keep("W007", 59, WIDE_RETURNS), winsorize_min_symbols=233)
    assert (result.drop_nulls("beta")["beta"] == result.drop_nulls("beta")["beta_raw"]).all()


def _hedged(stocks: int, kind: str) -> dict[str, Any]:
    """Inputs with so many stocks, and an inverse fund of `kind` that returns -3 times the market almost exactly."""
    names = WIDE[:stocks]
    market = RETURNS.filter(symbol="SPY").sort("session_date")
    noise = np.random.default_rng(5).normal(0, 0.0005, market.height)
    inverse = market.with_columns(symbol=pl.lit("INV"), simple_return=-3.0 * pl.col("simple_return") + noise)
    held = [*INSTRUMENTS.to_dicts(), instrument("INV", kind=kind), *(instrument(symbol) for symbol in names)]
    returns = WIDE_RETURNS.filter(pl.col("symbol").is_in([*names, *SYMBOLS]))
    return {
        "instruments": frame(tables.instruments, held),
        "returns": pl.concat([returns, inverse.select(returns.columns)]),
    }


@pytest.mark.parametrize("kind", ["etf", "fund", "index", "stock"])
def test_a_hedge_stays_a_hedge_whatever_else_is_in_the_price_file(kind: str) -> None:
    """With 205 stocks instead of 150 the 1/99 % clip had turned the inverse fund's beta of -3 into +0.4."""
    few, many = (betas(**_hedged(stocks, kind)).filter(factor="Market", symbol="INV") for stocks in (150, 205))
    assert few["beta_raw"].equals(many["beta_raw"])
    assert few["beta_raw"].item() == pytest.approx(-3.0, abs=0.01)
    assert abs(few["t_stat"].item()) > 400
    if kind == "stock":  # known no better from a price file: moved by noise at most
        assert abs(many["beta"].item() - few["beta"].item()) <= 2 * many["std_error"].item()
        assert many["beta"].item() == pytest.approx(-3.0, abs=0.03)
    else:
        assert many["beta"].equals(few["beta"])


def test_a_hedged_book_keeps_its_market_beta() -> None:
    """Half a million long one stock of beta 1, hedged with the inverse fund: the same net beta either way."""

    def net(stocks: int) -> float:
        rows = betas(**_hedged(stocks, "etf")).filter(factor="Market")
        known = dict(rows.select("symbol", "beta").iter_rows())
        return 3.0 * known["AAA"] + known["INV"]

    assert net(205) == pytest.approx(net(150), abs=0.01)


def test_winsorising_never_crosses_zero() -> None:
    """A small beta of a large standard error stops at 0."""
    beta = np.concatenate([np.full(300, 1.0), [-0.1]])[None, None, :]
    found = winsorized(beta, np.full(beta.shape, 5.0), np.ones((1, 301), bool), min_symbols=200, percentile=0.01)
    assert found[0, 0, -1] == 0.0


def test_a_cap() -> None:
    result = wide(beta_cap=0.5, winsorize_min_symbols=1000)
    fixed = pl.col("symbol").is_in(["SPY", "GLD", "VTV"]) | (pl.col("factor") == "Interest_Rate")
    assert (result.filter(fixed)["beta"] == result.filter(fixed)["beta_raw"]).all()
    capped = result.filter(~fixed)
    assert capped["beta"].equals(capped["beta_raw"].clip(-0.5, 0.5))
    assert (capped["beta"] != capped["beta_raw"]).any()


Row = NDArray[np.float64]


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.none(), st.floats(-1e3, 1e3)), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.01, 0.1, 0.5]),
)
def test_quantiles_are_numpys(values: list[float | None], percentile: float) -> None:
    row: Row = np.array([np.nan if value is None else value for value in values])
    far = np.full((1, 1, len(row)), 1e6)
    adjustable = np.ones((1, len(row)), bool)
    found = winsorized(row[None, None, :], far, adjustable, min_symbols=1, percentile=percentile)[0, 0]
    known = row[np.isfinite(row)]
    if known.size:
        low, high = np.quantile(known, [percentile, 1 - percentile])
        clipped = np.clip(row, low, high)
        within = np.where(np.sign(clipped) * np.sign(row) < 0, 0.0, clipped)
        np.testing.assert_allclose(found, within, rtol=1e-12, atol=1e-12)
    assert (np.isnan(found) == np.isnan(row)).all()


def test_bad_input() -> None:
    with pytest.raises(FactorInputError, match="a percentage"):
        betas(yields=YIELDS.with_columns(pl.col("yield") * 100))
    with pytest.raises(RegressionParameterError, match="minimum of 300"):
        betas(min_observations=300)
