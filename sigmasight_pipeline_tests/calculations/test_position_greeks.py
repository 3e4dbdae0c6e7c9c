"""Which positions have a row of volatility, and what it is made of."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl

from sigmasight_pipeline.calculations.contract_days import contract_days
from sigmasight_pipeline.calculations.option_volatility import MODEL
from sigmasight_pipeline.calculations.position_greeks import position_greeks
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline_tests.calculations.table_rows import (
    closes,
    frame,
    option,
    portfolio,
    private,
    sessions_frame,
    split,
    stock,
)

MON, TUE, WED, THU, FRI = (date(2024, 3, day) for day in (4, 5, 6, 7, 8))
DAYS = [MON, TUE, WED, THU, FRI]
CALL, PUT = "AAA240307C00100000", "AAA240315P00090000"

POSITIONS = [
    stock(1, "AAA", 10, 90, MON, exit_date=WED, exit_price=1),
    option(2, CALL, 1, 9, MON),
    option(3, CALL, -5, 9, TUE, portfolio_id=2),
    option(4, PUT, 1, 9, WED),
    private(5, "FUND", 1, 1, MON),
]


def greeks(model: list[dict[str, Any]], actions: list[dict[str, Any]] | None = None) -> pl.DataFrame:
    reference = {
        "calendar": sessions_frame(DAYS, closed=[FRI]),
        "portfolios": frame(tables.portfolios, [portfolio(1, MON), portfolio(2, MON)]),
        "positions": frame(tables.positions, POSITIONS),
        "actions": frame(tables.corporate_actions, actions or []),
        "instruments": frame(tables.instruments, []),
    }
    days = contract_days(
        sessions=DAYS,
        prices=frame(tables.daily_prices, closes("AAA", {MON: 100, WED: 50})),
        option_prices=frame(tables.option_prices, []),
        **reference,
    )
    rows = [dict.fromkeys(MODEL) | row for row in model]
    return position_greeks(
        sessions=DAYS, option_model=pl.DataFrame(rows, schema=MODEL), contract_days=days, **reference
    )


def test_one_row_per_held_position_that_is_not_private_and_none_on_the_exit_session() -> None:
    rows = greeks([])
    expected = {name: dtype for name, dtype in polars_schema(tables.position_greeks).items() if name not in PROVENANCE}
    assert dict(rows.schema) == expected
    assert rows.select("session_date", "position_id").rows() == [
        (MON, 1), (MON, 2), (TUE, 1), (TUE, 2), (TUE, 3), (WED, 2), (WED, 3), (WED, 4), (THU, 4),
    ]  # fmt: skip
    assert set(rows["status"]) == {"not_built"}
    not_built = ("delta", "gamma", "theta", "vega", "rho", "delta_per_share", "delta_adjusted_exposure")
    assert [rows[name].null_count() for name in not_built] == [len(rows)] * 7


def test_every_holder_of_a_contract_gets_its_volatility_through_a_split() -> None:
    contract = f"AAA {THU} C 100"
    figures = {
        "volatility": 0.3, "vol_source": "carried", "vol_status": None, "implied_volatility": None,
        "risk_free_rate": 0.05, "rate_source": "observed", "time_to_expiry": 1 / 365,
    }  # fmt: skip
    model = [
        {"contract": contract, "session_date": TUE, **figures, "model_price": 1.2345675},
        {"contract": contract, "session_date": WED, **figures, "vol_source": "fallback", "model_price": None},
    ]
    rows = greeks(model, [split("AAA", WED, 2)])
    modelled = rows.filter(pl.col("vol_source").is_not_null())
    assert modelled.select("session_date", "position_id", "underlying_price", "model_price", "vol_source").rows() == [
        (TUE, 2, 100, Decimal("1.234568"), "carried"),
        (TUE, 3, 100, Decimal("1.234568"), "carried"),
        (WED, 2, 50, None, "fallback"),
        (WED, 3, 50, None, "fallback"),
    ]
    assert modelled.select(list(figures)).row(0, named=True) == figures
    for name in ("volatility", "vol_source", "rate_source", "time_to_expiry", "underlying_price"):
        assert rows.filter(pl.col("position_id").is_in([1, 4]))[name].null_count() == 4, name
