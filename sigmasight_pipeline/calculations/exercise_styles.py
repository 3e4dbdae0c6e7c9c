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
        *("SPX", "SPXW", "XSP", "NANOS", "XEO", "DJX", "VIX", "VIXW", "RUT", "RUTW", "MRUT", "RUI", "RLG", "RLV"),
        *("MXEA", "MXEF", "SIXB", "SIXC", "SIXE", "SIXI", "SIXM", "SIXR", "SIXRE", "SIXT", "SIXU", "SIXV", "SIXY"),
        *("NDX", "NDXP", "XND", "NQX", "VOLQ", "BKX", "HGX", "KBX", "OSX", "SOX", "UTY", "XAU"),
    }
)
"""Roots of index options that are exercised at expiry only. Source: contract specifications of Cboe (first two lines)
and of Nasdaq PHLX (third). OEX, on the S&P 100, is American and is left out on purpose."""

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
