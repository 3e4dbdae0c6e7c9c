"""Value at risk from the factor model: the market alone, hedges, noise of symbols, and why there is no figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from sigmasight_pipeline.calculations.factor_moments import factor_correlations
from sigmasight_pipeline.calculations.factor_var import factor_value_at_risk
from sigmasight_pipeline.calculations.style_betas import style_betas
from sigmasight_pipeline.calculations.timeline import Timeline
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import (
    STYLES,
    held_rows,
    no_yields,
    return_rows,
    style_factors,
    style_returns,
    weekdays,
)
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, private, sessions_frame, stock

DAYS = weekdays(300)
LAST = DAYS[-1]
CALENDAR = sessions_frame(DAYS)
FACTORS = style_factors()
STYLE = style_returns(300, 11)
SPY = STYLE[:, list(STYLES).index("Market")]
NOISE = np.random.default_rng(12).normal(0, 0.02, (300, 2))
SYMBOLS = [*STYLES.values(), "AAA", "BBB", "YOUNG"]
YOUNG = np.where(np.arange(300) < 250, np.nan, SPY)[:, None]
RETURNS = return_rows(DAYS, SYMBOLS, np.hstack([STYLE, 1.2 * SPY[:, None] + NOISE, YOUNG]))
MOMENTS = factor_correlations(sessions=[LAST], calendar=CALENDAR, factors=FACTORS, returns=RETURNS, yields=no_yields())
Z_95 = 1.6448536269514722


def value_at_risk(
    positions: Sequence[dict[str, Any]], exposures: Mapping[int, Any], equity: Any = 100_000, **fields: Any
) -> tuple[float | None, str]:
    values, greeks = held_rows([LAST], exposures, positions)
    book = {
        "calendar": CALENDAR,
        "portfolios": frame(tables.portfolios, [portfolio(1, DAYS[0])]),
        "portfolio_snapshots": frame(
            tables.portfolio_snapshots, [{"session_date": LAST, "portfolio_id": 1, "net_asset_value": equity}]
        ),
        "positions": frame(tables.positions, positions),
        "position_values": values,
        "position_greeks": greeks,
        "instruments": frame(tables.instruments, []),
        "returns": RETURNS,
        "yields": no_yields(),
        "factors": FACTORS,
        "factor_correlations": MOMENTS,
        **fields,
    }
    found = factor_value_at_risk(sessions=[LAST], **book)
    assert found.columns == ["session_date", "portfolio_id", "factor_var_95", "factor_var_status"]
    row = found.row(0, named=True)
    return row["factor_var_95"], row["factor_var_status"]


def held(*symbols: str) -> list[dict[str, Any]]:
    return [stock(number, symbol, 1, 1, DAYS[0]) for number, symbol in enumerate(symbols, start=1)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("exposure", [100_000, -50_000])
def test_the_market_alone_has_the_market_s_volatility(seed: int, exposure: int) -> None:
    """On factors correlated at 0.9, where univariate betas overstate it several-fold."""
    style = style_returns(300, seed)
    returns = return_rows(DAYS, list(STYLES.values()), style)
    moments = factor_correlations(
        sessions=[LAST], calendar=CALENDAR, factors=FACTORS, returns=returns, yields=no_yields()
    )
    found, status = value_at_risk(held("SPY"), {1: exposure}, returns=returns, factor_correlations=moments)
    market = style[-252:, list(STYLES).index("Market")]
    assert status == "ok"
    assert found == pytest.approx(Z_95 * market.std(ddof=1) * abs(exposure) / 100_000, rel=0.05)
    sigma = np.cov(style[-252:], rowvar=False)
    univariate = sigma[list(STYLES).index("Market")] / np.diagonal(sigma)
    naive = np.sqrt(univariate @ sigma @ univariate)
    assert naive > 5 * market.std(ddof=1)


def test_formula() -> None:
    """Two stocks, one long and one short, an option on the first: by the joint betas of the same window."""
    positions = [*held("AAA", "BBB"), option(3, "AAA241220C00100000", 1, 1, DAYS[0]), private(4, "FUND", 1, 1, DAYS[0])]
    found, _ = value_at_risk(positions, {1: 60_000, 2: -30_000, 3: 20_000, 4: 500_000})
    betas = style_betas(
        timeline=Timeline(CALENDAR), calendar=CALENDAR, ends=np.array([299]), symbols=["BBB", "AAA"], factors=FACTORS,
        returns=RETURNS, yields=no_yields(), instruments=frame(tables.instruments, []),
    )  # fmt: skip
    assert (betas.names, betas.symbols) == (tuple(STYLES), ("AAA", "BBB"))
    amount = np.array([80_000, -30_000])
    x = amount @ betas.beta[0]
    variance = x @ np.cov(STYLE[-252:], rowvar=False) @ x + ((amount * betas.residual_std[0]) ** 2).sum()
    assert found == pytest.approx(Z_95 * np.sqrt(variance) / 100_000, rel=1e-12)
    assert betas.residual_std[0] == pytest.approx(NOISE[-252:].std(axis=0), rel=0.1)


def test_lots_and_hedges_of_one_symbol_net() -> None:
    one, _ = value_at_risk(held("AAA"), {1: 10_000})
    split, _ = value_at_risk(held("AAA", "AAA"), {1: 50_000, 2: -40_000})
    assert split == one
    assert value_at_risk(held("AAA", "AAA"), {1: 50_000, 2: -50_000}) == (0.0, "ok")


WITHOUT_SIZE = factor_correlations(
    sessions=[LAST], calendar=CALENDAR, factors=style_factors(Size="GONE"), returns=RETURNS, yields=no_yields()
)
REASONS: list[tuple[str, list[str], dict[int, Any], dict[str, Any], tuple[float | None, str]]] = [
    ("nothing held", [], {}, {}, (0.0, "ok")),
    ("no covariance at all", ["AAA"], {1: 10}, {"factor_correlations": MOMENTS.clear()}, (None, "factor_without_data")),
    ("a style without data", ["AAA"], {1: 10}, {"factor_correlations": WITHOUT_SIZE}, (None, "factor_without_data")),
    ("no style factors", ["AAA"], {1: 10}, {"factors": FACTORS.clear()}, (None, "factor_without_data")),
    ("a young symbol", ["YOUNG"], {1: 10_000}, {}, (None, "low_coverage")),
    ("a symbol without prices", ["GONE"], {1: 10_000}, {}, (None, "low_coverage")),
    ("79 %", ["AAA", "YOUNG"], {1: 79_000, 2: -21_000}, {}, (None, "low_coverage")),
    ("worthless", ["YOUNG"], {1: 0}, {}, (0.0, "ok")),
    ("no equity", ["AAA"], {1: 10_000}, {"equity": 0}, (None, "no_net_asset_value")),
    ("negative equity", ["AAA"], {1: 10_000}, {"equity": -5}, (None, "no_net_asset_value")),
]


@pytest.mark.parametrize(
    ("symbols", "exposures", "fields", "expected"), [c[1:] for c in REASONS], ids=[c[0] for c in REASONS]
)
def test_reasons(
    symbols: list[str], exposures: dict[int, Any], fields: dict[str, Any], expected: tuple[float | None, str]
) -> None:
    assert value_at_risk(held(*symbols), exposures, **fields) == expected


def test_enough_coverage_leaves_out_the_rest() -> None:
    alone, _ = value_at_risk(held("AAA"), {1: 80_000})
    assert value_at_risk(held("AAA", "YOUNG"), {1: 80_000, 2: 20_000}) == (alone, "ok")


def test_a_renamed_symbol_keeps_its_history() -> None:
    renamed = frame(
        tables.instruments, [{"symbol": "OLD", "kind": "stock", "last_session": DAYS[249], "replaced_by": "NEW"}]
    )
    names = pl.when(pl.col("symbol") != "AAA").then("symbol").when(pl.col("session_date") <= DAYS[249])
    returns = RETURNS.with_columns(symbol=names.then(pl.lit("OLD")).otherwise(pl.lit("NEW")))
    assert value_at_risk(held("OLD"), {1: 10_000}, returns=returns, instruments=renamed) == value_at_risk(
        held("AAA"), {1: 10_000}
    )
