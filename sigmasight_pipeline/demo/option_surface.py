"""Option quotes of the simulated market: a volatility surface of its own, priced as what the contract is.

What belongs here: which contracts are listed when, the surface, and the quote of a session. What does not: the
option engines (``calculations``), which turn a volatility of this surface into a price and must be able to find it
back.

Volatility is the underlying's true one, moved by the volatility index (short terms more than long ones), higher for
low strikes (for high ones on the volatility index), with a little noise of the contract's own. Conventions are those
of the pipeline: calendar days / 365, rate ln(1 + Treasury yield of the nearest tenor), American exercise of options on
stocks and funds at the dividend yield the underlying was made with, European exercise of those on index roots. The
pipeline knows the dividends of the last year instead, which moves the volatilities it finds by a fraction of a point.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from sigmasight_pipeline.calculations import american_options, black_scholes
from sigmasight_pipeline.calculations.exercise_styles import EUROPEAN_ROOTS
from sigmasight_pipeline.demo import random_streams
from sigmasight_pipeline.demo.factors_path import TENOR_YEARS
from sigmasight_pipeline.demo.random_streams import Floats
from sigmasight_pipeline.demo.symbol_paths import CENTS, SymbolPaths
from sigmasight_pipeline.demo.universe import VOLATILITY_INDEX
from sigmasight_pipeline.symbols import OptionContract

LISTED_FOR = timedelta(days=900)
"""A contract is listed this long before it expires, as long-dated ones are."""

_DAYS_PER_YEAR = 365.0

_USUAL_INDEX = 17.0
_INDEX_RESPONSE = 0.7
"""At-the-money volatility of short terms moves with this power of the volatility index over its usual level."""
_TERM_DECAY = 4.0
"""Per year: the move above fades over a quarter of a year, so that long terms follow less."""

# Volatility of options on the volatility index: high for short terms, and it reverts, so lower for long ones.
_INDEX_SHORT_VOLATILITY = 1.10
_INDEX_LONG_VOLATILITY = 0.55

_SKEW = -0.06
_INDEX_SKEW = 0.08
_CURVATURE = 0.012
"""Per standard deviation of moneyness, relative to the at-the-money volatility."""
_LARGEST_MONEYNESS = 4.0

_SURFACE_NOISE = 0.004
_VENDOR_NOISE = 0.01

_NO_CLOSE = 0.04
"""Share of contract-days without a trade, half of which have no quote at all."""
_HAS_VENDOR_VOLATILITY = 0.6
_HAS_OPEN_INTEREST = 0.7
_HAS_BOOK = 0.8
_HALF_SPREAD = 0.01
_TYPICAL_OPEN_INTEREST = 2_000.0


@dataclass(frozen=True)
class Quotes:
    """Quotes of one contract at `positions` of the grid; prices in US dollars, NaN where there is none."""

    positions: NDArray[np.int64]
    close: Floats
    bid: Floats
    ask: Floats
    implied_volatility: Floats
    open_interest: Floats


class OptionSurface:
    """Quotes of any contract whose underlying is simulated."""

    def __init__(self, paths: SymbolPaths) -> None:
        self._paths = paths
        self._market = paths.market

    def quotes(self, contract: OptionContract, first: int, end: int) -> Quotes:
        """The contract's quotes in the sessions from position `first` up to `end` of the grid.

        `contract` is named as listed: a strike on the share basis before a split is quoted before it only, its
        adjusted successor from the ex-date on.
        """
        listed = self._paths.position(contract.expiration_date - LISTED_FOR)
        expired = self._paths.position(contract.expiration_date + timedelta(days=1))
        listed, expired = self._basis(contract, listed, expired)
        positions = np.arange(max(first, listed), min(end, expired), dtype=np.int64)
        [closes] = self._paths.closes([contract.underlying])
        positions = positions[closes[positions] > 0]
        if not positions.size or not self._paths.parameters(contract.underlying).options_quoted:
            nothing = np.empty(0)
            return Quotes(positions[:0], nothing, nothing, nothing, nothing, nothing)
        spot = closes[positions] / CENTS
        sessions = self._market.grid.sessions
        days = np.array([(contract.expiration_date - sessions[position]).days for position in positions])
        low, high = int(positions[0]), int(positions[-1]) + 1
        raw = self._market.grid.draws("quote", contract.symbol, first=low, end=high, width=4)[positions - low]
        return self._quoted(contract, positions, spot, days / _DAYS_PER_YEAR, raw)

    def _basis(self, contract: OptionContract, listed: int, expired: int) -> tuple[int, int]:
        """The part of the contract's life its strike is on the share basis of.

        Exchanges list strikes around the price, so a strike belongs to the side of a split whose price is nearer to
        it (by ratio).
        """
        [closes] = self._paths.closes([contract.underlying])
        for split in self._paths.parameters(contract.underlying).splits:
            ex_position = self._paths.position(split.ex_date)
            if not listed < ex_position < min(expired, closes.size):
                continue
            middle = int(closes[ex_position - 1]) / CENTS / split.ratio**0.5
            if float(contract.strike) > middle:
                expired = ex_position
            else:
                listed = ex_position
        return listed, expired

    def _quoted(
        self,
        contract: OptionContract,
        positions: NDArray[np.int64],
        spot: Floats,
        years: Floats,
        raw: random_streams.Raw,
    ) -> Quotes:
        normal = random_streams.normals(raw)
        uniform = random_streams.uniforms(raw)
        volatility = self._volatility(contract, positions, spot, years) * (1.0 + _SURFACE_NOISE * normal[:, 0])
        rate = self._rate(positions, years)
        paid = self._paths.parameters(contract.underlying).dividend_yield
        terms = (contract.kind == "C", spot, float(contract.strike), years, rate, volatility, np.log1p(paid))
        engine = black_scholes if contract.root in EUROPEAN_ROOTS else american_options
        value = engine.price(*terms)
        cents = np.maximum(np.rint(value * CENTS), 1.0)
        no_close = random_streams.coin_flips(raw[:, 0], _NO_CLOSE)
        no_row = no_close & random_streams.coin_flips(raw[:, 1], 0.5)
        has_book = no_close | random_streams.coin_flips(raw[:, 1], _HAS_BOOK)
        half_spread = np.maximum(np.rint(cents * _HALF_SPREAD * (0.5 + uniform[:, 1])), 1.0)
        has_volatility = random_streams.coin_flips(raw[:, 2], _HAS_VENDOR_VOLATILITY) & (years > 0)
        vendor = np.round(volatility * (1.0 + _VENDOR_NOISE * normal[:, 2]), 4)
        has_interest = random_streams.coin_flips(raw[:, 3], _HAS_OPEN_INTEREST)
        interest = np.rint(_TYPICAL_OPEN_INTEREST * np.exp(0.2 * normal[:, 3]))
        kept = ~no_row
        return Quotes(
            positions=positions[kept],
            close=np.where(no_close, np.nan, cents / CENTS)[kept],
            bid=np.where(has_book, np.maximum(cents - half_spread, 0.0) / CENTS, np.nan)[kept],
            ask=np.where(has_book, (cents + half_spread) / CENTS, np.nan)[kept],
            implied_volatility=np.where(has_volatility, vendor, np.nan)[kept],
            open_interest=np.where(has_interest, interest, np.nan)[kept],
        )

    def _volatility(
        self, contract: OptionContract, positions: NDArray[np.int64], spot: Floats, years: Floats
    ) -> Floats:
        term = np.maximum(years, 1.0 / _DAYS_PER_YEAR)
        fading = -np.expm1(-_TERM_DECAY * term) / (_TERM_DECAY * term)
        if contract.underlying == VOLATILITY_INDEX:
            usual = _INDEX_LONG_VOLATILITY
            level = usual + (_INDEX_SHORT_VOLATILITY - usual) * fading
            skew = _INDEX_SKEW
        else:
            usual = self._paths.parameters(contract.underlying).total_volatility
            mood = (self._market.volatility_index[positions] / _USUAL_INDEX) ** _INDEX_RESPONSE
            level = usual * (1.0 + (mood - 1.0) * fading)
            skew = _SKEW
        moneyness = np.log(float(contract.strike) / spot) / (usual * np.sqrt(np.maximum(term, 0.05)))
        moneyness = np.clip(moneyness, -_LARGEST_MONEYNESS, _LARGEST_MONEYNESS)
        return np.asarray(level * (1.0 + skew * moneyness + _CURVATURE * moneyness**2), dtype=np.float64)

    def _rate(self, positions: NDArray[np.int64], years: Floats) -> Floats:
        tenors = sorted(TENOR_YEARS, key=TENOR_YEARS.__getitem__)
        distances = np.abs(np.array([TENOR_YEARS[tenor] for tenor in tenors])[:, None] - years)
        curve = np.stack([self._market.yields[tenor][positions] for tenor in tenors])
        rates: Floats = np.log1p(curve[distances.argmin(axis=0), np.arange(positions.size)])
        return rates
