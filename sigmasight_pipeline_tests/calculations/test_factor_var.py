"""Value at risk from the factor model: the market alone, hedges, noise of symbols, and why there is no figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from sigmasight_pipeline.calculations.factor_var import factor_value_at_risk
from sigmasight_pipeline.calculations.style_betas import style_betas
from sigmasight_pipeline.calculations.timeline import Timeline
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import (
    STYLES,
    held_rows,
    no_yields,
    return_rows,
    stored_schema,
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
Z_95 = 1.6448536269514722


def row_of(
    positions: Sequence[dict[str, Any]], exposures: Mapping[int, Any], equity: Any = 100_000, **fields: Any
) -> dict[str, Any]:
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
        **fields,
    }
    found = factor_value_at_risk(sessions=[LAST], **book)
    schema = stored_schema(tables.portfolio_risk_metrics)
    assert dict(found.schema) == {name: schema[name] for name in found.columns}
    return found.row(0, named=True)


def value_at_risk(
    positions: Sequence[dict[str, Any]], exposures: Mapping[int, Any], equity: Any = 100_000, **fields: Any
) -> tuple[float | None, str]:
    row = row_of(positions, exposures, equity, **fields)
    return row["factor_var_95"], row["factor_var_status"]


def held(*symbols: str) -> list[dict[str, Any]]:
    return [stock(number, symbol, 1, 1, DAYS[0]) for number, symbol in enumerate(symbols, start=1)]


BOOK = [*held("AAA", "BBB", "SPY"), option(4, "AAA241220C00100000", 1, 1, DAYS[0])]
EXPOSED = {1: "60000.01", 2: -30_000, 3: -70_000, 4: "20000.02"}


def test_the_parts_add_up_to_the_cent() -> None:
    """Euler's split, against the derivative of the loss by each factor's exposure; a hedge takes risk away."""
    row = row_of(BOOK, EXPOSED)
    parts = json.loads(row["factor_var_contributions"])
    assert list(parts) == [*STYLES, "specific"]
    assert sum(Decimal(str(part)) for part in parts.values()) == row["factor_var_dollars"]
    assert row["factor_var_dollars"] == round(Decimal(row["factor_var_95"] * 100_000), 2)
    betas = style_betas(
        timeline=Timeline(CALENDAR), calendar=CALENDAR, ends=np.array([299]), symbols=["AAA", "BBB", "SPY"],
        factors=FACTORS, returns=RETURNS, yields=no_yields(), instruments=frame(tables.instruments, []),
    )  # fmt: skip
    amount = np.array([80_000.03, -30_000.0, -70_000.0])
    x, sigma = amount @ betas.beta[0], np.cov(STYLE[-252:], rowvar=False)
    noise = ((amount * betas.residual_std[0]) ** 2).sum()

    def loss(exposures: NDArray[np.float64], share: float) -> float:
        return Z_95 * float(np.sqrt(exposures @ sigma @ exposures + share**2 * noise))

    step = 1e-6
    for place, name in enumerate(STYLES):
        bump = np.zeros(len(x))
        bump[place] = step * x[place]
        assert parts[name] == pytest.approx((loss(x + bump, 1) - loss(x - bump, 1)) / (2 * step), abs=0.01), name
    assert parts["specific"] == pytest.approx((loss(x, 1 + step) - loss(x, 1 - step)) / (2 * step), abs=0.01)


def test_dollars_without_a_net_asset_value() -> None:
    known, unknown = row_of(BOOK, EXPOSED), row_of(BOOK, EXPOSED, -5)
    assert unknown["factor_var_95"] is None
    assert unknown["factor_var_dollars"] == known["factor_var_dollars"] > 0
    assert unknown["factor_var_contributions"] == known["factor_var_contributions"]
    nothing = row_of([], {})
    assert (nothing["factor_var_dollars"], set(json.loads(nothing["factor_var_contributions"]).values())) == (0, {0.0})
    missing = row_of(held("YOUNG"), {1: 10_000})
    assert (missing["factor_var_dollars"], missing["factor_var_contributions"]) == (None, None)


def test_cash_is_covered_and_moves_nothing() -> None:
    """A money market fund at 1.00 is 30 % of the book: with beta unknown, coverage 0.7 left no figure at all."""
    cash = return_rows(DAYS, ["CASH"], np.zeros((300, 1)))
    alone, _ = value_at_risk(held("AAA"), {1: 70_000})
    with_cash = value_at_risk(held("AAA", "CASH"), {1: 70_000, 2: 30_000}, returns=pl.concat([RETURNS, cash]))
    assert with_cash == (alone, "ok")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("exposure", [100_000, -50_000])
def test_the_market_alone_has_the_market_s_volatility(seed: int, exposure: int) -> None:
    """On factors correlated at 0.9, where univariate betas overstate it several-fold."""
    style = style_returns(300, seed)
    returns = return_rows(DAYS, list(STYLES.values()), style)
    found, status = value_at_risk(held("SPY"), {1: exposure}, returns=returns)
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


REASONS: list[tuple[str, list[str], dict[int, Any], dict[str, Any], tuple[float | None, str]]] = [
    ("nothing held", [], {}, {}, (0.0, "ok")),
    ("no returns at all", ["AAA"], {1: 10}, {"returns": RETURNS.clear()}, (None, "factor_without_data")),
    ("a style without data", ["AAA"], {1: 10}, {"factors": style_factors(Size="GONE")}, (None, "factor_without_data")),
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
