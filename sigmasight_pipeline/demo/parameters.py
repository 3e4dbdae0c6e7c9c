"""What the simulated market is made of: its factors, and what a symbol is described by.

What belongs here: factor volatilities and loadings, the shape of a symbol's row, the row an unknown symbol gets from
a hash of its name, and true betas. What does not: the known symbols (``universe``) and any path (``factors_path``).

Betas are those of the generating equation, all factors together: return = alpha + sum of beta x factor + specific.
The beta a regression on one factor alone must find follows from them and the factor covariance
(`true_univariate_beta`). All rates and volatilities are per year and decimal unless named otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from sigmasight_pipeline.demo.random_streams import uniforms_of_name

SESSIONS_PER_YEAR = 252

SIMULATION_START = date(2014, 1, 1)
"""Every path starts here, so that ten years of sessions lie before the demo's portfolios."""

REFERENCE_DATE = date(2024, 1, 2)
"""Every symbol's path passes through its reference price at this close."""

Kind = Literal["stock", "etf", "fund", "index"]


@dataclass(frozen=True)
class Factor:
    """A factor: the return of its proxy (of Interest_Rate: the change of the 10-year yield).

    `loadings` are correlations with the common drivers of DRIVERS; what they leave of the variance is the factor's own.
    """

    key: str
    proxy: str | None
    volatility: float
    premium: float
    loadings: tuple[float, float, float, float, float]


DRIVERS = ("equity", "growth", "defensive", "global", "rates")

RATE = "Interest_Rate"

YIELD_VOLATILITY = 0.0095
"""Of the 10-year Treasury yield: 95 basis points a year, 6 a day, as in 2022 to 2025."""

# Annual volatility, expected return a year, and loadings on equity, growth, defensive, global, rates. Volatilities are
# rounded from 2015 to 2024; loadings give the style proxies pairwise correlations of 0.7 to 0.95 as real ones have
# (real SPY-QUAL is higher still, VTV-VUG about 0.75), HYG a rate beta near -2, VIXY -0.83 with the market.
FACTORS: tuple[Factor, ...] = (
    Factor("Market", "SPY", 0.150, 0.085, (1.000, 0.00, 0.00, 0.00, 0.00)),
    Factor("Value", "VTV", 0.135, 0.075, (0.885, -0.25, 0.12, 0.00, 0.00)),
    Factor("Growth", "VUG", 0.190, 0.100, (0.925, 0.22, -0.09, 0.00, 0.00)),
    Factor("Momentum", "MTUM", 0.180, 0.095, (0.900, 0.18, -0.03, 0.00, 0.00)),
    Factor("Quality", "QUAL", 0.155, 0.090, (0.925, 0.06, 0.05, 0.00, 0.00)),
    Factor("Size", "SIZE", 0.165, 0.080, (0.900, -0.12, 0.02, 0.00, 0.00)),
    Factor("Low_Volatility", "USMV", 0.110, 0.070, (0.860, -0.08, 0.33, 0.00, 0.00)),
    Factor("Oil", "USO", 0.330, 0.030, (0.250, -0.10, 0.00, 0.45, 0.10)),
    Factor("Gold", "GLD", 0.150, 0.060, (0.050, 0.00, 0.10, 0.25, -0.30)),
    Factor("Europe", "EWG", 0.175, 0.060, (0.700, -0.10, 0.00, 0.35, 0.00)),
    Factor("Emerging_Markets", "EEM", 0.175, 0.060, (0.660, 0.00, 0.00, 0.58, 0.00)),
    Factor("China", "FXI", 0.300, 0.040, (0.400, 0.00, 0.00, 0.72, 0.00)),
    Factor("Volatility", "VIXY", 0.600, -0.020, (-0.830, 0.00, 0.05, 0.00, 0.00)),
    Factor("Credit", "HYG", 0.065, 0.055, (0.720, -0.05, 0.00, 0.10, -0.30)),
    Factor("Technology", "XLK", 0.230, 0.110, (0.880, 0.38, -0.05, 0.00, 0.00)),
    Factor("Travel", "JETS", 0.270, 0.060, (0.620, -0.15, -0.05, 0.05, 0.00)),
    Factor(RATE, None, YIELD_VOLATILITY, 0.000, (0.060, 0.00, 0.00, 0.00, 0.99)),
)

FACTOR_KEYS = tuple(factor.key for factor in FACTORS)


def own_loading(factor: Factor) -> float:
    """The loading on the factor's own driver: what the common ones leave of a variance of one."""
    return float(max(0.0, 1.0 - sum(loading**2 for loading in factor.loadings)) ** 0.5)


def factor_covariance(first: str, second: str) -> float:
    """True covariance of two factors, a year (Interest_Rate in yield change)."""
    return _COVARIANCES[first, second]


def _covariance(first: Factor, second: Factor) -> float:
    shared = sum(one * other for one, other in zip(first.loadings, second.loadings, strict=True))
    correlation = shared + own_loading(first) ** 2 if first is second else shared
    return correlation * first.volatility * second.volatility


_COVARIANCES = {(one.key, other.key): _covariance(one, other) for one in FACTORS for other in FACTORS}


@dataclass(frozen=True)
class Split:
    """`ratio` new shares for an old one, first traded so on `ex_date`."""

    ex_date: date
    ratio: int


@dataclass(frozen=True)
class Misprint:
    """A bar as a data vendor really serves one now and then: the close of `day` times `close_factor`, or a volume below
    zero where `negative_volume` is set."""

    day: date
    close_factor: float = 1.0
    negative_volume: bool = False


@dataclass(frozen=True)
class FirstReport:
    """A close as the vendor reported it first: that of `day` times `close_factor`, until it was put right on
    `corrected_on`."""

    day: date
    close_factor: float
    corrected_on: date


@dataclass(frozen=True)
class SymbolParameters:
    """One symbol of the simulated market.

    `betas`: true betas by factor key (absent = 0; of Interest_Rate: return per 1.00 of yield). `reference_price`: close
    of REFERENCE_DATE as traded. `dividend_yield` a year, paid in `dividends_per_year` equal parts of the price (0, 1,
    4 or 12). `gap`: first and last date without a close. `first_session` and `last_session`: nothing is traded before
    the one and after the other. `replaced_by` trades in its place after `last_session`; `continues` is the symbol whose
    path this one goes on with. `options_quoted`: False where contracts on it change hands without an exchange.
    """

    symbol: str
    kind: Kind
    name: str
    sector: str | None
    industry: str | None
    reference_price: float
    specific_volatility: float
    betas: Mapping[str, float]
    alpha: float = 0.0
    duration: float | None = None
    dividend_yield: float = 0.0
    dividends_per_year: int = 4
    splits: tuple[Split, ...] = ()
    gap: tuple[date, date] | None = None
    first_session: date | None = None
    last_session: date | None = None
    replaced_by: str | None = None
    continues: str | None = None
    misprints: tuple[Misprint, ...] = ()
    first_reports: tuple[FirstReport, ...] = ()
    options_quoted: bool = True
    beta_row: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.betas) - set(FACTOR_KEYS))
        if unknown:
            raise ValueError(f"{self.symbol}: no factor is called {', '.join(unknown)}; use {', '.join(FACTOR_KEYS)}")
        if self.gap is not None and self.dividend_yield:
            raise ValueError(
                f"{self.symbol}: a symbol with a gap cannot pay dividends, it may miss the price before one"
            )
        object.__setattr__(self, "betas", MappingProxyType(dict(self.betas)))
        object.__setattr__(self, "beta_row", tuple(self.betas.get(key, 0.0) for key in FACTOR_KEYS))

    def true_univariate_beta(self, factor: str) -> float:
        """The slope a regression of the symbol's return on this factor alone estimates, the others moving with it."""
        shared = sum(beta * factor_covariance(key, factor) for key, beta in self.betas.items())
        return shared / factor_covariance(factor, factor)

    @cached_property
    def total_volatility(self) -> float:
        """Annual volatility of the symbol's return."""
        systematic = sum(
            one_beta * other_beta * factor_covariance(one, other)
            for one, one_beta in self.betas.items()
            for other, other_beta in self.betas.items()
        )
        return float((systematic + self.specific_volatility**2) ** 0.5)

    @property
    def dividend_share(self) -> float:
        """What a single dividend is of the previous close."""
        return self.dividend_yield / self.dividends_per_year if self.dividend_yield else 0.0


_FUND_NAME = re.compile(r"[A-Z]{4}X")
"""US mutual funds have five letters, the last an X."""

# sector, its industry here, and what its stocks load on besides the market
_UNKNOWN_SECTORS: tuple[tuple[str, str, Mapping[str, float]], ...] = (
    ("Technology", "Software", {"Technology": 0.35, "Growth": 0.15}),
    ("Financial Services", "Banks", {"Value": 0.35, RATE: 2.0}),
    ("Healthcare", "Medical Devices", {"Low_Volatility": 0.30, "Quality": 0.15}),
    ("Consumer Cyclical", "Specialty Retail", {"Growth": 0.20, "Size": 0.20}),
    ("Consumer Defensive", "Packaged Foods", {"Low_Volatility": 0.45}),
    ("Communication Services", "Entertainment", {"Growth": 0.35}),
    ("Energy", "Oil & Gas Exploration", {"Oil": 0.30, "Value": 0.30}),
    ("Industrials", "Machinery", {"Size": 0.30, "Value": 0.15}),
    ("Utilities", "Electric Utilities", {"Low_Volatility": 0.50, RATE: -3.0}),
    ("Real Estate", "Diversified REITs", {"Value": 0.35, RATE: -4.0}),
    ("Basic Materials", "Specialty Chemicals", {"Value": 0.25, "Emerging_Markets": 0.15}),
)


def unknown_symbol(seed: int, symbol: str) -> SymbolParameters:
    """The parameters a symbol outside the universe gets from a hash of its name.

    Five letters ending in X are a stock fund without sector; everything else is a stock of some sector. Market betas
    are 0.2-1.2 before the sector's own loadings, specific volatility is 18-45 % (funds 2-6 %), reference prices 25-300,
    and three in five stocks pay a dividend of up to 4 %.
    """
    market, specific, price, sector_draw, payer, payout = uniforms_of_name(seed, "parameters", symbol, count=6)
    reference_price = round(25.0 * 12.0**price, 2)
    if _FUND_NAME.fullmatch(symbol):
        return SymbolParameters(
            symbol, "fund", f"Simulated fund {symbol}", None, None, reference_price, 0.02 + 0.04 * specific,
            {"Market": 0.4 + 0.3 * market, "Value": 0.2, "Growth": 0.2},
            dividend_yield=0.02 * payout, dividends_per_year=1,
        )  # fmt: skip
    sector, industry, tilts = _UNKNOWN_SECTORS[int(sector_draw * len(_UNKNOWN_SECTORS))]
    return SymbolParameters(
        symbol, "stock", f"Simulated company {symbol}", sector, industry, reference_price, 0.18 + 0.27 * specific,
        {"Market": 0.2 + market, **tilts}, dividend_yield=0.04 * payout if payer < 0.6 else 0.0,
    )  # fmt: skip
