"""Risk of today's book against the loop one would write: by session, portfolio and position, QuantLib for options.

What belongs here: the time of the engine of ``portfolio_simulated_risk``, contributions included, on books of stocks
and options. What does not: correctness, beyond making sure that both sides find the same shortfall.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import QuantLib

from sigmasight_pipeline.calculations.arrays import FloatArray
from sigmasight_pipeline.calculations.option_pricing import OptionTerms, option_greeks, option_price
from sigmasight_pipeline.calculations.simulated_risk import TAIL_975, portfolio_simulated_risk
from sigmasight_pipeline.calculations.simulation import SimulationRules
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.benchmarks.measurement import Measurement, fastest
from sigmasight_pipeline_tests.calculations.risk_rows import return_rows, style_factors, style_returns, weekdays
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, sessions_frame, stock

PORTFOLIOS, SESSIONS = 20, 20
STOCKS, OPTIONS = 24, 6
"""Positions of each portfolio, as the demo's hedge fund has them."""

WINDOW = 252
PEER_BOOKS = 2
"""Portfolios of the last session that the loop is given."""

SPOT, RATE, DIVIDEND_YIELD, VOLATILITY, DAYS_LEFT = 100.0, 0.04, 0.02, 0.3, 120
STRIKES = (85, 95, 100, 105, 110, 120)
BUDGET = 1 / 50

PEER = "loop over positions, QuantLib's QdFp engine for options"


class Books(NamedTuple):
    """What the engine reads, the symbols' returns (sessions, symbols), and the computed sessions."""

    frames: dict[str, Any]
    returns: FloatArray
    computed: list[date]


def symbol_of(number: int) -> str:
    """Name of a stock."""
    return f"Z{chr(ord('A') + number)}"


def run() -> list[Measurement]:
    """Seconds for all portfolios and sessions; the ratio compares the time of a portfolio's session."""
    books = _books()

    def ours() -> tuple[pl.DataFrame, pl.DataFrame]:
        return portfolio_simulated_risk(sessions=books.computed, rules=SimulationRules(), **books.frames)

    theirs = _loop(books)
    risk, parts = ours()
    assert set(risk["status"]) == {"ok"}
    assert parts.height == PORTFOLIOS * SESSIONS * (STOCKS + OPTIONS)
    last = risk.filter(session_date=books.computed[-1]).sort("portfolio_id")
    found = last["expected_shortfall_975_dollars"].cast(pl.Float64).to_numpy()[:PEER_BOOKS]
    # the premium of early exercise is interpolated to a ten thousandth of the strike
    np.testing.assert_allclose(found, theirs(), rtol=2e-3)
    rounds = [(fastest(ours, 2), fastest(theirs, 1)) for _ in range(3)]
    seconds, peer_seconds = (min(taken) for taken in zip(*rounds, strict=True))
    count = PORTFOLIOS * SESSIONS
    ratio = seconds / count / (peer_seconds / PEER_BOOKS)
    return [Measurement("simulated risk, books of 30 on 252 sessions", seconds, count, ratio, PEER, BUDGET)]


def _books() -> Books:
    """Portfolios of stocks and American options on them, on the last sessions of a market."""
    days = weekdays(WINDOW + SESSIONS)
    computed = days[-SESSIONS:]
    random = np.random.default_rng(20240102)
    styles = style_returns(len(days), 1)
    own = styles[:, :1] * random.uniform(0.5, 1.5, STOCKS) + random.normal(0, 0.012, (len(days), STOCKS))
    names = [symbol_of(number) for number in range(STOCKS)]
    factors = style_factors()
    expiry = date.fromordinal(computed[-1].toordinal() + DAYS_LEFT)
    positions, facts = [], []
    for book in range(PORTFOLIOS):
        for number in range(STOCKS + OPTIONS):
            key, symbol = book * 100 + number + 1, names[number % STOCKS]
            quantity = int(random.integers(-10, 40)) or 1
            if number < STOCKS:
                positions.append(stock(key, symbol, quantity * 10, 1, days[0], portfolio_id=book + 1))
                facts.append((key, book + 1, symbol, quantity * 10, None))
            else:
                # no two portfolios hold the same contract: one would be priced for both
                strike = STRIKES[number - STOCKS] + book / 10
                contract = f"{symbol}{expiry:%y%m%d}{'CP'[number % 2]}{round(strike * 1000):08}"
                positions.append(option(key, contract, quantity, 1, days[0], portfolio_id=book + 1))
                facts.append((key, book + 1, contract, quantity, (number % 2 == 0, strike)))
    values, greeks = _valued(computed, facts, expiry)
    return Books(
        frames={
            "calendar": sessions_frame(days),
            "portfolios": frame(tables.portfolios, [portfolio(book + 1, days[0]) for book in range(PORTFOLIOS)]),
            "portfolio_snapshots": frame(
                tables.portfolio_snapshots,
                [
                    {"session_date": day, "portfolio_id": book + 1, "net_asset_value": 1_000_000}
                    for day in computed
                    for book in range(PORTFOLIOS)
                ],
            ),
            "positions": frame(tables.positions, positions),
            "position_values": values,
            "position_greeks": greeks,
            "instruments": frame(tables.instruments, []),
            "returns": return_rows(days, [*factors["proxy_symbol"], *names], np.hstack([styles, own])),
            "factors": factors,
        },
        returns=own,
        computed=computed,
    )


def _valued(computed: list[date], facts: list[Any], expiry: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Values and Greeks of every position and session, options at the price of the model."""
    values, greeks = [], []
    for day in computed:
        years = (expiry - day).days / 365
        for key, book, symbol, quantity, terms in facts:
            row = {"session_date": day, "position_id": key, "portfolio_id": book}
            worth, exposure = SPOT, quantity * SPOT
            fields: dict[str, Any] = {"status": "ok", "underlying_price": SPOT}
            if terms is not None:
                held = OptionTerms(*(np.array([value]) for value in (*terms, True, DIVIDEND_YIELD)))
                market = (SPOT, years, RATE, VOLATILITY)
                worth = round(float(option_price(held, *market)[0]), 6)
                exposure = round(float(option_greeks(held, *market).delta[0]) * quantity * 100 * SPOT, 2)
                names = ("time_to_expiry", "risk_free_rate", "volatility", "dividend_yield", "exercise_style")
                fields |= dict(zip(names, (years, RATE, VOLATILITY, DIVIDEND_YIELD, "american"), strict=True))
            money = round(worth * quantity * (1 if terms is None else 100), 2)
            values.append({**row, "symbol": symbol, "quantity": quantity, "price": worth, "price_source": "market",
                           "market_value": money, "exposure": money})  # fmt: skip
            greeks.append({**row, **fields, "delta_adjusted_exposure": exposure})
    return frame(tables.position_values, values), frame(tables.position_greeks, greeks)


def _loop(books: Books) -> Callable[[], list[float]]:
    """Shortfalls of the first portfolios on the last session, position by position."""
    last = books.computed[-1]
    window = books.returns[-WINDOW:]
    today = QuantLib.Date(last.day, last.month, last.year)
    QuantLib.Settings.instance().evaluationDate = today
    spot = QuantLib.SimpleQuote(SPOT)
    process = _process(today, spot)
    engine = QuantLib.QdFpAmericanEngine(process)
    positions = books.frames["positions"].sort("position_id")

    def repriced(symbol: str, moves: FloatArray) -> FloatArray:
        """What a unit gains at each return."""
        side = QuantLib.Option.Call if symbol[-9] == "C" else QuantLib.Option.Put
        expires = QuantLib.DateParser.parseISO(f"20{symbol[-15:-13]}-{symbol[-13:-11]}-{symbol[-11:-9]}")
        contract = QuantLib.VanillaOption(
            QuantLib.PlainVanillaPayoff(side, int(symbol[-8:]) / 1000), QuantLib.AmericanExercise(today, expires)
        )
        contract.setPricingEngine(engine)
        prices = []
        for move in (0.0, *moves.tolist()):
            spot.setValue(SPOT * (1.0 + move))
            prices.append(contract.NPV())
        return np.maximum(np.array(prices[1:]) - prices[0], -prices[0])

    def shortfalls() -> list[float]:
        found = []
        for book in range(1, PEER_BOOKS + 1):
            total: FloatArray = np.zeros(WINDOW)
            own = positions.filter(portfolio_id=book).select("symbol", "quantity").iter_rows()
            for symbol, quantity in own:
                moves = window[:, ord(symbol[1]) - ord("A")]
                gain = repriced(symbol, moves) * 100 if len(symbol) > 2 else SPOT * moves
                total += float(quantity) * gain
            worst = np.sort(total)[: int(TAIL_975 * (WINDOW - 1)) + 1]
            found.append(-float(worst.mean()))
        return found

    return shortfalls


def _process(today: Any, spot: Any) -> Any:
    days = QuantLib.Actual365Fixed()
    flat = [
        QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(today, level, days)) for level in (DIVIDEND_YIELD, RATE)
    ]
    volatility = QuantLib.BlackConstantVol(today, QuantLib.NullCalendar(), VOLATILITY, days)
    return QuantLib.BlackScholesMertonProcess(
        QuantLib.QuoteHandle(spot), *flat, QuantLib.BlackVolTermStructureHandle(volatility)
    )
