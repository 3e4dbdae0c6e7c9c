"""Symbols: every spelling in, one spelling out; OCC symbols both ways; each vendor both ways."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.symbols import (
    OptionContract,
    SymbolError,
    SymbolProblem,
    Vendor,
    adjusted_occ,
    canonical_symbol,
    from_vendor,
    looks_like_option,
    option,
    option_root,
    parse_option,
    private_symbol,
    to_vendor,
    vendor_spellings,
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("AAPL", "AAPL"),
        (" aapl ", "AAPL"),
        ("BRK.B", "BRK.B"),
        ("brk-b", "BRK.B"),
        ("BRK/B", "BRK.B"),
        ("OXY.WS", "OXY.WS"),
        ("bac/ws/a", "BAC.WS.A"),
        ("BACpB", "BACpB"),
        ("bac-prb", "BACpB"),
        ("BAC PRB", "BACpB"),
        ("BAC.PR.B", "BACpB"),
        ("^VIX", "VIX"),
        ("I:SPX", "SPX"),
        ("^GSPC", "SPX"),
        ("AAPL240119C00150000", "AAPL240119C00150000"),
        ("O:SPXW250919P05000500", "SPXW250919P05000500"),
        ("aapl  240119c00150000", "AAPL240119C00150000"),
        ("F     240119C00012500", "F240119C00012500"),
    ],
)
def test_canonical_symbol(text: str, canonical: str) -> None:
    assert canonical_symbol(text) == canonical
    assert canonical_symbol(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", SymbolProblem.EMPTY),
        ("  ", SymbolProblem.EMPTY),
        ("A" * 17, SymbolProblem.TOO_LONG),
        ("AA PL", SymbolProblem.MALFORMED),
        ("AAPL$", SymbolProblem.MALFORMED),
        ("12345", SymbolProblem.MALFORMED),
        ("BRK.BB", SymbolProblem.MALFORMED),
        ("BRK..B", SymbolProblem.MALFORMED),
        ("ſAPL", SymbolProblem.MALFORMED),
        ("^", SymbolProblem.MALFORMED),
        ("AAPL 240119C00150000", SymbolProblem.MALFORMED),
        ("240119C00150000", SymbolProblem.MALFORMED),
        ("TOOLONG240119C00150000", SymbolProblem.MALFORMED),
        ("AAPL240230C00150000", SymbolProblem.OPTION_DATE),
        ("AAPL241301C00150000", SymbolProblem.OPTION_DATE),
        ("AAPL240119C00000000", SymbolProblem.OPTION_STRIKE),
        ("AAPL1240119C00150000", SymbolProblem.OPTION_ADJUSTED),
    ],
)
def test_no_symbol(text: str, problem: SymbolProblem) -> None:
    with pytest.raises(SymbolError) as raised:
        canonical_symbol(text)
    assert raised.value.problem is problem


def test_adjusted_contracts_are_refused_with_that_reason() -> None:
    with pytest.raises(SymbolError, match="adjusted contract"):
        parse_option("AAPL1240119C00150000")


@pytest.mark.parametrize(
    ("symbol", "contract", "underlying"),
    [
        ("AAPL240119C00150000", OptionContract("AAPL", date(2024, 1, 19), "C", Decimal(150)), "AAPL"),
        ("SPXW250919P05000500", OptionContract("SPXW", date(2025, 9, 19), "P", Decimal("5000.5")), "SPX"),
        ("BRKB240119C00362500", OptionContract("BRKB", date(2024, 1, 19), "C", Decimal("362.5")), "BRK.B"),
        ("F240119P00000001", OptionContract("F", date(2024, 1, 19), "P", Decimal("0.001")), "F"),
        ("VIX250618C99999999", OptionContract("VIX", date(2025, 6, 18), "C", Decimal("99999.999")), "VIX"),
    ],
)
def test_parse_option(symbol: str, contract: OptionContract, underlying: str) -> None:
    parsed = parse_option(symbol)
    assert parsed == contract
    assert parsed.underlying == underlying
    assert parsed.is_on(underlying)
    assert not parsed.is_on("ZZZ")
    assert contract.symbol == symbol


def test_a_class_share_not_in_the_table_is_recognised_by_its_root() -> None:
    contract = parse_option("HEIA250919C00150000")
    assert contract.is_on("HEI.A")
    assert option_root("HEI.A") == "HEIA"


contracts = st.builds(
    option,
    root=st.from_regex(r"[A-Z0-9]{0,5}[A-Z]", fullmatch=True),
    expiration_date=st.dates(date(2000, 1, 1), date(2099, 12, 31)),
    kind=st.sampled_from("CP"),
    strike=st.decimals(Decimal("0.001"), Decimal("99999.999"), places=3),
)


@settings(max_examples=300, deadline=None)
@given(contracts, st.booleans())
def test_occ_round_trip(contract: OptionContract, lower: bool) -> None:
    for text in (contract.symbol, contract.padded, f"O:{contract.symbol}"):
        written = text.lower() if lower else text
        assert looks_like_option(written)
        assert parse_option(written) == contract
        assert canonical_symbol(written) == contract.symbol
    assert len(contract.padded) == 21


@pytest.mark.parametrize(
    ("root", "day", "kind", "strike", "problem"),
    [
        ("AAPL", date(2024, 1, 19), "C", Decimal("150.0005"), SymbolProblem.OPTION_STRIKE),
        ("AAPL", date(2024, 1, 19), "C", Decimal("100000"), SymbolProblem.OPTION_STRIKE),
        ("AAPL", date(2024, 1, 19), "C", Decimal("-1"), SymbolProblem.OPTION_STRIKE),
        ("AAPL", date(1999, 1, 19), "C", Decimal("150"), SymbolProblem.OPTION_DATE),
        ("AAPL", date(2100, 1, 19), "C", Decimal("150"), SymbolProblem.OPTION_DATE),
        ("AAPL2", date(2024, 1, 19), "C", Decimal("150"), SymbolProblem.OPTION_ADJUSTED),
        ("LONGROOT", date(2024, 1, 19), "C", Decimal("150"), SymbolProblem.MALFORMED),
        ("AAPL", date(2024, 1, 19), "X", Decimal("150"), SymbolProblem.MALFORMED),
    ],
)
def test_contracts_without_occ_symbol(root: str, day: date, kind: str, strike: Decimal, problem: SymbolProblem) -> None:
    with pytest.raises(SymbolError) as raised:
        option(root, day, kind, strike)
    assert raised.value.problem is problem


@pytest.mark.parametrize(
    ("symbol", "ratio", "adjusted"),
    [
        ("NVDA250620C00800000", Fraction(10), "NVDA250620C00080000"),
        ("AAPL240119C00150000", Fraction(4), "AAPL240119C00037500"),
        ("GOOGL240119P02800000", Fraction(20), "GOOGL240119P00140000"),
        ("ABC240119C00010000", Fraction(1, 8), "ABC240119C00080000"),
        ("ABC240119C00150000", Fraction(3, 2), "ABC240119C00100000"),
    ],
)
def test_adjusted_occ(symbol: str, ratio: Fraction, adjusted: str) -> None:
    assert adjusted_occ(symbol, ratio) == adjusted


@pytest.mark.parametrize(
    ("symbol", "ratio"), [("AAPL240119C00100000", Fraction(3)), ("ABC240119C99000000", Fraction(1, 10))]
)
def test_adjusted_occ_that_cannot_be_written(symbol: str, ratio: Fraction) -> None:
    with pytest.raises(SymbolError) as raised:
        adjusted_occ(symbol, ratio)
    assert raised.value.problem is SymbolProblem.OPTION_STRIKE


@settings(max_examples=100, deadline=None)
@given(contracts, st.integers(1, 100))
def test_adjusting_there_and_back(contract: OptionContract, ratio: int) -> None:
    if contract.strike * ratio < 100_000:
        split = adjusted_occ(contract.symbol, Fraction(1, ratio))
        assert parse_option(split).strike == contract.strike * ratio
        assert adjusted_occ(split, Fraction(ratio)) == contract.symbol


SPELLINGS = [
    ("AAPL", "stock", ("AAPL", "AAPL", "AAPL", "AAPL", "AAPL", "AAPL")),
    ("BRK.B", "stock", ("BRK.B", "BRK-B", "BRK-B", "BRK-B", "BRK.B", "BRKB")),
    ("BACpB", "stock", ("BACpB", "BAC-PB", "BAC-PB", "BAC-P-B", "BAC.PRB", "BACPRB")),
    ("TYp", "stock", ("TYp", "TY-P", "TY-P", "TY-P", "TY.PR", "TYPR")),
    ("OXY.WS", "stock", ("OXY.WS", "OXY-WT", "OXY-WT", "OXY-WS", "OXY.WS", "OXYWS")),
    ("BAC.WS.A", "stock", ("BAC.WS.A", "BAC-WTA", "BAC-WTA", "BAC-WSA", "BAC.WS.A", "BACWSA")),
    ("VIX", "index", ("I:VIX", "^VIX", "^VIX", None, None, None)),
    ("SPX", "index", ("I:SPX", "^GSPC", "^GSPC", None, None, None)),
    (
        "AAPL240119C00150000",
        "option",
        ("O:AAPL240119C00150000", None, "AAPL240119C00150000", None, "AAPL240119C00150000", None),
    ),
    ("HOME_EQUITY", "private", (None,) * 6),
]
VENDORS = (Vendor.MASSIVE, Vendor.FMP, Vendor.YAHOO, Vendor.TIINGO, Vendor.ALPACA, Vendor.FINRA)


@pytest.mark.parametrize(
    ("symbol", "kind", "vendor", "spelling"),
    [
        (symbol, kind, vendor, spelling)
        for symbol, kind, spellings in SPELLINGS
        for vendor, spelling in zip(VENDORS, spellings, strict=True)
    ],
)
def test_vendor_spellings_both_ways(symbol: str, kind: str, vendor: Vendor, spelling: str | None) -> None:
    if spelling is None:
        with pytest.raises(SymbolError) as raised:
            to_vendor(symbol, vendor, kind=kind)
        assert raised.value.problem is SymbolProblem.NOT_OFFERED
    else:
        assert to_vendor(symbol, vendor, kind=kind) == spelling
        known = vendor_spellings([symbol], vendor) if vendor is Vendor.FINRA else None
        assert from_vendor(spelling, vendor, known=known) == symbol


def test_finra_without_known_symbols() -> None:
    assert from_vendor("BRKB", Vendor.FINRA) == "BRK.B"
    assert from_vendor("AAPL", Vendor.FINRA, known={}) == "AAPL"


def test_two_symbols_a_vendor_writes_alike() -> None:
    with pytest.raises(SymbolError, match=r"finra writes ABC and AB\.C alike"):
        vendor_spellings(["ABC", "AB.C"], Vendor.FINRA)


@pytest.mark.parametrize(
    ("text", "name"), [("home equity", "HOME EQUITY"), (" Fonds\tÉlan ", "FONDS ÉLAN"), ("x" * 40, "X" * 40)]
)
def test_private_symbol(text: str, name: str) -> None:
    assert private_symbol(text) == name
    assert private_symbol(name) == name


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (" ", SymbolProblem.EMPTY),
        ("x" * 41, SymbolProblem.TOO_LONG),
        ("a\x07b", SymbolProblem.MALFORMED),
    ],
)
def test_no_private_symbol(text: str, problem: SymbolProblem) -> None:
    with pytest.raises(SymbolError) as raised:
        private_symbol(text)
    assert raised.value.problem is problem


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=30))
def test_any_text_gives_a_symbol_or_a_symbol_error(text: str) -> None:
    for parse in (canonical_symbol, private_symbol):
        try:
            parsed = parse(text)
        except SymbolError:
            continue
        assert parse(parsed) == parsed
