"""A small market and books for the stress tests: factor returns with known covariances, symbols, positions, Greeks.

What belongs here: making the frames the stress engines read, from a seed. What does not: expected results.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations import black_scholes
from sigmasight_pipeline.calculations.exposures import with_trading_symbol
from sigmasight_pipeline.calculations.factor_model import symbol_factor_betas
from sigmasight_pipeline.calculations.factor_returns import factor_returns
from sigmasight_pipeline.calculations.stress import market_risk_scenarios, stress_results
from sigmasight_pipeline.calculations.stress_replays import market_symbols, window_days
from sigmasight_pipeline.demo.parameters import FACTORS, RATE, factor_covariance
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame
from sigmasight_pipeline.symbols import parse_option
from sigmasight_pipeline_tests.calculations.position_scenarios import position_results
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, sessions_frame, stock

STYLE = ("Market", "Value", "Growth", "Momentum", "Quality", "Size", "Low_Volatility")
NAMES = tuple(sorted(factor.key for factor in FACTORS))
RATE_LEVEL = 0.04
VOLATILITY = 0.3
SPOT = 100


def weekdays(count: int, last: date = date(2024, 6, 28)) -> list[date]:
    """The last `count` weekdays up to `last`."""
    days = (last - timedelta(days=back) for back in range(2 * count + 7))
    return sorted([day for day in days if day.weekday() < 5][:count])


def factor_rows(without: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of ``factor_definitions``; factors named in `without` are inactive."""
    return [
        {
            "factor": factor.key,
            "name": factor.key,
            "kind": "style" if factor.key in STYLE else "rate" if factor.key == RATE else "shock_only",
            "proxy_symbol": factor.proxy,
            "display_order": order,
            "active": factor.key not in without,
        }
        for order, factor in enumerate(FACTORS)
    ]


def covariance(names: Sequence[str] = NAMES) -> np.ndarray[Any, np.dtype[np.float64]]:
    """True covariance of the factors, per session."""
    return np.array([[factor_covariance(one, other) for other in names] for one in names]) / 252


def scenario(scenario_id: str, shocks: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A row of ``stress_test_scenarios``: a vector."""
    return {
        "scenario_id": scenario_id,
        "name": scenario_id,
        "category": "market",
        "severity": "base",
        "kind": "vector",
        "shocks": json.dumps(dict(shocks)),
        "confidence": "noisy",
        "volatility_shift": 0.0,
        "active": True,
        **fields,
    }


def replay(scenario_id: str, first: date, last: date, **fields: Any) -> dict[str, Any]:
    """A row of ``stress_test_scenarios``: what happened between two closes."""
    given = {"kind": "replay", "confidence": None, "volatility_shift": None, "replay_from": first, "replay_to": last}
    return scenario(scenario_id, {}, **{**given, **fields})


def worst(scenario_id: str, sessions: int, **fields: Any) -> dict[str, Any]:
    """A row of ``stress_test_scenarios``: the market's worst stretch."""
    given = {"kind": "worst", "confidence": None, "volatility_shift": None, "worst_sessions": sessions, **fields}
    return scenario(scenario_id, {}, **given)


@dataclass(frozen=True)
class World:
    """Frames of the market, and of the book held at each of `sessions`, the last ones of the calendar."""

    sessions: list[date]
    calendar: pl.DataFrame
    factors: pl.DataFrame
    instruments: pl.DataFrame
    returns: pl.DataFrame
    yields: pl.DataFrame
    betas: pl.DataFrame
    loadings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    book: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    def holding(self, *positions: dict[str, Any], net_asset_value: Any = 1_000_000, owners: int = 1) -> World:
        """The same market with these rows of ``positions`` held at every session at a price of 100."""
        return replace(self, book=held(self.sessions, positions, net_asset_value, owners, self.instruments))

    def with_book(self, **frames: pl.DataFrame) -> World:
        """The same market with other frames of the book."""
        return replace(self, book={**self.book, **frames})

    def run(
        self, *scenarios: dict[str, Any], sessions: Sequence[date] | None = None, **parameters: Any
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """``stress_results`` of these scenarios: rows by portfolio, and laid out by position."""
        return self.told(*scenarios, sessions=sessions, **parameters)[:2]

    def told(
        self, *scenarios: dict[str, Any], sessions: Sequence[date] | None = None, **parameters: Any
    ) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """The same with diagnostics and shocks."""
        results, returns, of_options, diagnostics, shocks = self.returned(*scenarios, sessions=sessions, **parameters)
        return results, position_results(self.book, returns, of_options, diagnostics), diagnostics, shocks

    def returned(
        self, *scenarios: dict[str, Any], sessions: Sequence[date] | None = None, **parameters: Any
    ) -> tuple[pl.DataFrame, ...]:
        """What the engine returns; what is read for replays is read as an installation reads it."""
        days = self.sessions if sessions is None else list(sessions)
        rows = frame(tables.stress_test_scenarios, scenarios)
        until = self.returns.filter(pl.col("session_date") <= max(days))
        frames = {"scenarios": rows, "factors": self.factors, "calendar": self.calendar}
        frames["market_history"] = until.filter(pl.col("symbol").is_in(market_symbols(frames, days)))
        needed = [day for day in window_days(frames, days) if day <= max(days)]
        return stress_results(
            sessions=days,
            scenarios=rows,
            returns=self.returns,
            yields=self.yields,
            market_history=frames["market_history"],
            window_returns=until.filter(pl.col("session_date").is_in(needed)),
            window_yields=self.yields.filter(pl.col("session_date").is_in(needed)),
            **self._common(),
            **parameters,
        )

    def risk(self, sessions: Sequence[date] | None = None, **parameters: Any) -> pl.DataFrame:
        """``market_risk_scenarios``."""
        return market_risk_scenarios(
            sessions=self.sessions if sessions is None else sessions, **self._common(), **parameters
        )

    def _common(self) -> dict[str, Any]:
        return {
            "calendar": self.calendar,
            "instruments": self.instruments,
            "factors": self.factors,
            "symbol_factor_betas": self.betas,
            **self.book,
        }

    def beta(self, symbol: str, factor: str, session: date | None = None) -> float:
        """The stored univariate beta."""
        day = self.sessions[-1] if session is None else session
        value = self.betas.row(by_predicate=_at(day, symbol=symbol, factor=factor), named=True)["beta"]
        assert isinstance(value, float)
        return value

    def sigma(self, session: date | None = None) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Covariances of the factors NAMES over the window ending with a session, as NumPy has them."""
        day = self.sessions[-1] if session is None else session
        axis = [one for one in self.calendar["session_date"] if one <= day][-252:]
        series = factor_returns(
            axis, calendar=self.calendar, factors=self.factors, returns=self.returns, yields=self.yields
        )
        return np.cov(series.only(NAMES).values.T)


def _at(day: date, **columns: str) -> pl.Expr:
    return pl.all_horizontal(pl.col("session_date") == day, *(pl.col(name) == value for name, value in columns.items()))


def market(
    symbols: Mapping[str, Mapping[str, float]],
    *,
    computed: int = 1,
    history: int = 300,
    seed: int = 7,
    without: Sequence[str] = (),
    specific: float = 0.01,
    dropped: Mapping[str, int] | None = None,
) -> World:
    """A market of all factors (with their true covariances) and `symbols` with these joint betas.

    `computed` sessions at the end of `history`; factors `without` are inactive; `dropped`: symbols without a return in
    so many sessions before the last.
    """
    days = weekdays(history)
    random = np.random.default_rng(seed)
    moves = random.multivariate_normal(np.zeros(len(NAMES)), covariance(), size=history)
    by_symbol = {factor.proxy: moves[:, NAMES.index(factor.key)] for factor in FACTORS if factor.proxy}
    for symbol, loadings in symbols.items():
        noise = random.normal(0.0, specific, history)
        by_symbol[symbol] = noise + sum(slope * moves[:, NAMES.index(name)] for name, slope in loadings.items())
    first = {symbol: history - (dropped or {}).get(symbol, 0) for symbol in by_symbol}
    returns = [
        {"session_date": day, "symbol": symbol, "simple_return": float(move), "sessions_spanned": 1, "log_return": 0.0}
        for symbol, own in by_symbol.items()
        for number, (day, move) in enumerate(zip(days, own, strict=True))
        if number < first[symbol] or symbol not in (dropped or {})
    ]
    levels = RATE_LEVEL + np.cumsum(moves[:, NAMES.index(RATE)])
    yields = [
        {"session_date": day, "tenor": "10Y", "yield": float(level), "observed_date": day}
        for day, level in zip(days, levels, strict=True)
    ]
    calendar = sessions_frame(days)
    factors = frame(tables.factor_definitions, factor_rows(without))
    known: dict[str, Any] = {"calendar": calendar, "factors": factors, "sessions": days[-computed:]}
    known |= {"returns": frame(tables.daily_returns, returns), "yields": frame(tables.treasury_yields, yields)}
    instruments = frame(
        tables.instruments, [{"symbol": symbol, "kind": "stock", "active": True} for symbol in by_symbol]
    )
    return World(
        **known,
        instruments=instruments,
        betas=symbol_factor_betas(**known, instruments=instruments),
        loadings=symbols,
    )


def held(
    sessions: Sequence[date],
    positions: Sequence[dict[str, Any]],
    net_asset_value: Any,
    owners: int,
    instruments: pl.DataFrame,
) -> dict[str, pl.DataFrame]:
    """Frames of a book of `positions`, each unit of an underlying worth 100, options at 30 % volatility."""
    rows = [
        {"session_date": day, **_valued(position), **_modelled(position, day)}
        for day in sessions
        for position in positions
    ]
    values = [name for name in rows[0] if name in tables.position_values.columns] if rows else []
    greeks = [name for name in rows[0] if name in tables.position_greeks.columns] if rows else []
    facts = frame(tables.positions, positions)
    valued = frame(tables.position_values, [{name: row[name] for name in values} for row in rows])
    traded = with_trading_symbol(valued, facts, instruments)
    modelled = frame(tables.position_greeks, [{name: row[name] for name in greeks} for row in rows])
    return {
        "portfolios": frame(tables.portfolios, [portfolio(number + 1, sessions[0]) for number in range(owners)]),
        "positions": facts,
        "position_values": valued,
        "position_greeks": modelled.update(
            traded.select("session_date", "position_id", risk_symbol="symbol"), on=["session_date", "position_id"]
        ),
        "portfolio_snapshots": frame(
            tables.portfolio_snapshots,
            [
                {"session_date": day, "portfolio_id": number + 1, "net_asset_value": net_asset_value}
                for day in sessions
                for number in range(owners)
                if net_asset_value is not None
            ],
        ),
    }


def _worth(position: dict[str, Any]) -> Any:
    """The close of a unit: of an option far above its model price, so that no rule about its close is seen here."""
    return 1_000 if position["investment_class"] == "OPTIONS" else SPOT


def _valued(position: dict[str, Any]) -> dict[str, Any]:
    quantity = Decimal(str(position["quantity"]))
    return {
        "position_id": position["position_id"],
        "portfolio_id": position["portfolio_id"],
        "symbol": position["symbol"],
        "quantity": quantity,
        "price": _worth(position),
        "price_source": "market",
        "market_value": quantity * SPOT,
        "exposure": quantity * SPOT,
    }


def _modelled(position: dict[str, Any], day: date) -> dict[str, Any]:
    quantity = float(position["quantity"])
    if position["investment_class"] != "OPTIONS":
        return {
            "status": "ok",
            "delta_adjusted_exposure": round(quantity * SPOT, 2),
            "underlying_price": SPOT,
            "volatility": None,
            "risk_free_rate": None,
            "time_to_expiry": None,
            "exercise_style": None,
            "dividend_yield": None,
        }
    contract = parse_option(position["symbol"])
    time = (contract.expiration_date - day).days / 365
    delta = black_scholes.greeks(contract.kind == "C", SPOT, float(contract.strike), time, RATE_LEVEL, VOLATILITY).delta
    return {
        "status": "ok",
        "delta_adjusted_exposure": f"{float(delta) * quantity * 100 * SPOT:.2f}",
        "underlying_price": SPOT,
        "volatility": VOLATILITY,
        "risk_free_rate": RATE_LEVEL,
        "time_to_expiry": time,
        "exercise_style": "european",
        "dividend_yield": 0.0,
    }


def long(position_id: int, symbol: str, quantity: Any = 1_000, **fields: Any) -> dict[str, Any]:
    """A stock position entered long ago, worth 100 a share."""
    return stock(position_id, symbol, quantity, 100, date(2020, 1, 2), **fields)


def contract(position_id: int, symbol: str, quantity: Any = 10, **fields: Any) -> dict[str, Any]:
    """An option position entered long ago."""
    return option(position_id, symbol, quantity, 5, date(2020, 1, 2), **fields)


NOTHING = empty_frame(tables.positions)
