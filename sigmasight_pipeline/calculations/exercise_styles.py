"""When an option may be exercised: American on stocks and ETFs, European on most indices.

What belongs here: the reviewed lists of index roots and of the funds that stand for an index, and which style a
contract has. What does not: what the style is worth (``american_options``, ``black_scholes``).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import polars as pl

from sigmasight_pipeline.symbols import parse_option


class ExerciseStyle(StrEnum):
    """The closed list of ``instruments.exercise_style`` and ``position_greeks.exercise_style``."""

    AMERICAN = "american"
    """Whenever its holder wants."""
    EUROPEAN = "european"
    """At expiry only."""


EUROPEAN_ROOTS = frozenset(
    {
        # each line: root, and the contract specification that says "European"
        "SPX",  # S&P 500: Cboe, SPX options product specification
        "SPXW",  # its weeklies, settled at the close: Cboe, SPX Weeklys
        "XSP",  # a tenth of it: Cboe, "Mini-SPX Index options may be exercised only on the expiration date"
        "NANOS",  # a tenth of it: Cboe, Nanos S&P 500 Index Options specification
        "XEO",  # S&P 100: Cboe, "European-style S&P 100 Index Options" (OEX is the American one)
        "DJX",  # a hundredth of the Dow Jones Industrial Average: Cboe, DJX, "European Exercise"
        "VIX",  # Cboe Volatility Index: Cboe, VIX options product specification
        "VIXW",  # its weeklies: the same
        "RUT",  # Russell 2000: Cboe, RUT options product specifications
        "RUTW",  # its weeklies, settled at the close: Cboe, Russell 2000 Weeklys
        "MRUT",  # a tenth of it: Cboe, Mini-Russell 2000 specifications
        "RUI",  # Russell 1000: Cboe, RUI options product specification
        "RLG",  # Russell 1000 Growth: Cboe, RLG options product specification
        "RLV",  # Russell 1000 Value: Cboe, RLV options product specification
        "MXEA",  # MSCI EAFE: Cboe, MSCI EAFE contract specifications
        "MXEF",  # MSCI Emerging Markets: Cboe, "European-style exercise" of its MSCI options
        "MXACW",  # MSCI ACWI: Cboe, listed 2024-03-18, "European-style exercise"
        "MXUSA",  # a hundredth of MSCI USA: the same
        "MXWLD",  # a hundredth of MSCI World: the same
        "CBTX",  # Cboe Bitcoin U.S. ETF Index: Cboe, product comparison, "European"
        "CBTXW",  # its month-ends: the same
        "MBTX",  # a tenth of it: the same
        "MBTXW",  # its month-ends: the same
        *("SIXB", "SIXC", "SIXE", "SIXI", "SIXM", "SIXR"),  # S&P select sectors: Cboe, "European and A.M.-settled"
        *("SIXRE", "SIXT", "SIXU", "SIXV", "SIXY"),  # the same
        "NDX",  # Nasdaq-100: Nasdaq, "Nasdaq-100 Index Options", exercise style European
        "NDXP",  # settled at the close: the same
        "XND",  # a hundredth of it: the same
        "NQX",  # a fifth of it: Nasdaq, Nasdaq-100 Reduced Value Index Options
        "VOLQ",  # Nasdaq-100 Volatility Index: PHLX, its proposal to list them
        "BKX",  # KBW Bank: PHLX, "BKX is European-style"
    }
)
"""Roots of index options that are exercised at expiry only."""

AMERICAN_INDEX_ROOTS = frozenset(
    {
        "OEX",  # S&P 100: Cboe, "OEX options may be exercised on any business day before the expiration date"
        "XAU",  # PHLX Gold/Silver Sector: PHLX, "American - may be exercised on any business day"
        "SOX",  # PHLX Semiconductor Sector: PHLX, the same words
        "XOI",  # NYSE Arca Oil: NYSE American, "American style"
    }
)
"""Roots of index options that are exercised at any time, and are easily taken for European ones.

A root on neither list is priced as American, which is never below the European value; where that is wrong,
``instruments.exercise_style`` of the contract or of its underlying says so.
"""

INDEX_PROXIES: Mapping[str, str] = MappingProxyType(
    {"SPX": "SPY", "XSP": "SPY", "NDX": "QQQ", "XND": "QQQ", "RUT": "IWM", "MRUT": "IWM", "DJX": "DIA"}
)
"""The fund whose dividends stand for those of an index, where nobody states the index's yield."""


def is_american(contracts: pl.DataFrame, instruments: pl.DataFrame) -> pl.Series:
    """Whether each of `contracts` (columns option_symbol, an OCC symbol, and underlying_symbol) may be exercised early.

    `instruments.exercise_style` of the contract wins, then that of its underlying, then the list of roots.
    """
    stated = instruments.select("symbol", "exercise_style").drop_nulls("exercise_style")
    style_of = dict(stated.iter_rows())
    styles = [
        style_of.get(option)
        or style_of.get(underlying)
        or (ExerciseStyle.EUROPEAN if parse_option(option).root in EUROPEAN_ROOTS else ExerciseStyle.AMERICAN)
        for option, underlying in contracts.select("option_symbol", "underlying_symbol").iter_rows()
    ]
    return pl.Series("is_american", [style == ExerciseStyle.AMERICAN for style in styles], dtype=pl.Boolean)
