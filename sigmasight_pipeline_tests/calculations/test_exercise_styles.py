"""Which options may be exercised early: roots of index options, and what an installation states itself."""

from __future__ import annotations

import polars as pl
import pytest

from sigmasight_pipeline.calculations.exercise_styles import (
    AMERICAN_INDEX_ROOTS,
    EUROPEAN_ROOTS,
    INDEX_PROXIES,
    is_american,
)
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.symbols import parse_option
from sigmasight_pipeline_tests.calculations.table_rows import frame


def styles(*roots: str, stated: dict[str, str | None] | None = None) -> dict[str, bool]:
    """Whether a contract of each root is American; its underlying goes by the root's name."""
    contracts = pl.DataFrame(
        {"option_symbol": [f"{root}250620C00100000" for root in roots], "underlying_symbol": list(roots)}
    )
    instruments = frame(
        tables.instruments, [{"symbol": symbol, "exercise_style": style} for symbol, style in (stated or {}).items()]
    )
    return dict(zip(roots, is_american(contracts, instruments), strict=True))


@pytest.mark.parametrize("root", ["SPX", "SPXW", "XSP", "XEO", "VIX", "VIXW", "NDX", "NDXP", "XND", "RUT", "DJX"])
def test_most_index_options_are_european(root: str) -> None:
    assert styles(root) == {root: False}


@pytest.mark.parametrize("root", ["OEX", "XAU", "SOX", "XOI"])
def test_some_index_options_are_american(root: str) -> None:
    """The S&P 100 has both: OEX and its European twin XEO. The two PHLX sectors had been listed as European."""
    assert styles(root, "XEO") == {root: True, "XEO": False}


@pytest.mark.parametrize("root", ["AAPL", "SPY", "QQQ", "IWM", "OEF", "GLD", "UVXY"])
def test_options_on_stocks_and_funds_are_american(root: str) -> None:
    assert styles(root) == {root: True}


def test_what_is_stated_wins() -> None:
    """Of the contract first, then of its underlying."""
    assert styles("AAPL", "OEX", stated={"AAPL": "european", "OEX": None}) == {"AAPL": False, "OEX": True}
    contract = "SPX250620C00100000"
    assert styles("SPX", stated={contract: "american", "SPX": "european"}) == {"SPX": True}


def test_the_lists_are_roots_an_option_can_have_and_do_not_contradict() -> None:
    assert EUROPEAN_ROOTS.isdisjoint(AMERICAN_INDEX_ROOTS)
    for root in EUROPEAN_ROOTS | AMERICAN_INDEX_ROOTS:
        assert parse_option(f"{root}250620C00100000").root == root
    assert set(INDEX_PROXIES) <= EUROPEAN_ROOTS
