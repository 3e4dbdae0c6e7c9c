"""Option contracts through splits of their underlying: one identity, one OCC symbol and strike per stretch.

What belongs here: which contract a position holds, what it is called and struck at between two splits, and
the rows the volatility engine needs for it. What does not: OCC spelling (``symbols``) and volatility
(``option_volatility``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.splits import SplitSteps
from sigmasight_pipeline.calculations.timeline import NEVER, day_numbers
from sigmasight_pipeline.symbols import SymbolError, option, parse_option

STRIKE_UNITS = 1000
"""OCC symbols hold the strike in thousandths; a split strike (500 / 3) is listed rounded to the nearest one."""

LISTINGS = {
    "contract": pl.String(),
    "option_symbol": pl.String(),
    "from_day": pl.Int64(),
    "until_day": pl.Int64(),
    "strike_price": pl.Float64(),
}


@dataclass(frozen=True)
class Contract:
    """One option contract as a position entered it. `node` is the split node of the entry session."""

    contract: str
    option_symbol: str
    underlying_symbol: str
    option_kind: str
    strike: Fraction
    expiration_day: int
    expiration_date: date
    node: int


def contract_of(
    symbol: str, underlying: str, kind: str, strike: Fraction, expiration: date, node: int, steps: SplitSteps
) -> Contract:
    """The contract behind a position's terms on entry; its identity is the same before and after splits.

    The identity names underlying, expiration, kind and the strike before the first split on record.
    """
    code = np.array([steps.codes[underlying]], dtype=np.int64)
    origin = int(steps.nodes(code, np.zeros(1, dtype=np.int64))[0])
    return Contract(
        contract=f"{underlying} {expiration} {kind} {strike / steps.ratio(node, origin)}",
        option_symbol=symbol,
        underlying_symbol=underlying,
        option_kind=kind,
        strike=strike,
        expiration_day=int(day_numbers(pl.Series([expiration]))[0]),
        expiration_date=expiration,
        node=node,
    )


def adjusted_symbol(symbol: str, ratio: Fraction) -> str:
    """The OCC symbol a contract is listed under after splits multiplying to `ratio` (new per old share).

    The strike is divided by the ratio and, as on the exchange, rounded half-even to 0.001 dollars. Raises
    SymbolError where no OCC symbol can hold it.
    """
    if ratio == 1:
        return symbol
    terms = parse_option(symbol)
    strike = Fraction(round(Fraction(terms.strike) / ratio * STRIKE_UNITS), STRIKE_UNITS)
    return option(terms.root, terms.expiration_date, terms.kind, strike).symbol


def listings(contracts: Sequence[Contract], steps: SplitSteps) -> pl.DataFrame:
    """One row per contract and stretch between two splits: OCC symbol and strike from `from_day` until
    `until_day`.

    Days are numbers, the end excluded. Stretches a split into other than whole shares lies before have no row
    (the contract then had another deliverable), nor those whose strike fits no OCC symbol.
    """
    rows: list[tuple[str, str, int, int, float]] = []
    for contract in contracts:
        code = np.array([steps.codes[contract.underlying_symbol]], dtype=np.int64)
        oldest, newest = (int(steps.nodes(code, np.array([day]))[0]) for day in (0, 2**21))
        for node in range(oldest, newest + 1):
            if not steps.whole(contract.node, node):
                continue
            ratio = steps.ratio(contract.node, node)
            try:
                symbol = adjusted_symbol(contract.option_symbol, ratio)
            except SymbolError:
                continue  # not listed under any symbol then, so nothing can be looked up
            start = int(steps.days[node - 1]) if node > oldest else 0
            end = int(steps.days[node]) if node < newest else NEVER
            rows.append((contract.contract, symbol, start, end, float(contract.strike / ratio)))
    return pl.DataFrame(rows, schema=LISTINGS, orient="row")


def own_quotes(option_prices: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``option_prices`` by contract: those under the OCC symbol the contract had on their session.

    Columns contract, session_date, close, implied_volatility; a row may have no close.
    """
    quotes = option_prices.select("session_date", "symbol", "close", "implied_volatility").join(
        listed, left_on="symbol", right_on="option_symbol"
    )
    day = pl.col("session_date").cast(pl.Int32).cast(pl.Int64)
    return quotes.filter(day >= pl.col("from_day"), day < pl.col("until_day")).select(
        "contract", "session_date", "close", "implied_volatility"
    )
