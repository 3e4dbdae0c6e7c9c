"""Numbers and dates: what is accepted, and what a message offers for what is not."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.importing.spelling import date_hint, iso_date, number, number_guesses


@pytest.mark.parametrize("text", ["0", "-1", "+1", "1.5", ".5", "5.", "007", "-0.000001", "123456789012345678901234"])
def test_accepted_numbers(text: str) -> None:
    assert number(text) == Decimal(text)


@pytest.mark.parametrize(
    ("text", "guesses"),
    [
        ("1,234.50", ["1234.50"]),
        ("1,234,567", ["1234567"]),
        ("1,234", ["1234", "1.234"]),
        ("$100", ["100"]),
        ("-$1,234.50", ["-1234.50"]),
        ("$-5", ["-5"]),
        ("US$ 5", ["5"]),
        ("100 USD", ["100"]),
        ("usd100", ["100"]),
        ("1 000", ["1000"]),
        ("1\u00a0000,5", ["1000.5"]),
        ("1\u202f000", ["1000"]),
        ("1'234.50", ["1234.50"]),
        ("1’234.50", ["1234.50"]),
        ("1_000", ["1000"]),
        ("(100)", ["-100"]),
        ("($1,234.50)", ["-1234.50"]),
        ("100-", ["-100"]),
        ("−100", ["-100"]),
        ("1e5", ["100000"]),
        ("1.5E-3", ["0.0015"]),
        ("1.234,50", ["1234.50"]),
        ("1234,50", ["1234.50"]),
        ("1.234.567", ["1234567"]),
        ("0,5", ["0.5"]),
        ("1e999999999", []),
        ("€100", []),
        ("nan", []),
        ("Infinity", []),
        ("-inf", []),
        ("1,2,3", []),
        ("12 34", []),
        ("1.2.3", []),
        ("0x10", []),
        ("50%", []),
        ("-", []),
        ("()", []),
        ("ten", []),
    ],
)
def test_number_guesses(text: str, guesses: list[str]) -> None:
    assert number(text) is None
    assert number_guesses(text) == guesses


amounts = st.decimals(Decimal("-9999999.99"), Decimal("9999999.99"), places=2)


@settings(max_examples=200, deadline=None)
@given(amounts)
def test_a_number_written_for_people_is_guessed_back(amount: Decimal) -> None:
    english = f"{amount:,.2f}"
    german = english.translate(str.maketrans(",.", ".,"))
    swiss = english.replace(",", "'")
    for text in (f"${english}", english, german, swiss, f"{english} USD"):
        guesses = [amount] if number(text) == amount else [Decimal(guess) for guess in number_guesses(text)]
        assert guesses == [amount], text


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=20) | st.text("0123456789.,-+() $eE'", max_size=15))
def test_a_guess_is_a_number(text: str) -> None:
    assert all(number(guess) is not None for guess in number_guesses(text.strip()))
    assert isinstance(date_hint(text), str)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("2024-02-30", ": there is no such day"),
        ("15/03/2024", "; write 2024-03-15"),
        ("03/15/2024", "; write 2024-03-15"),
        ("03/04/2024", "; write 2024-03-04 or 2024-04-03"),
        ("03/03/2024", "; write 2024-03-03"),
        ("03.04.2024", "; write 2024-04-03"),
        ("2024/3/5", "; write 2024-03-05"),
        ("2024-3-5", "; write 2024-03-05"),
        ("20240315", "; write 2024-03-15"),
        ("2024-03-15 00:00:00", "; write 2024-03-15"),
        ("2024-03-15T00:00:00Z", "; write 2024-03-15"),
        ("15-Mar-2024", "; write 2024-03-15"),
        ("March 15, 2024", "; write 2024-03-15"),
        ("1 sept 2024", "; write 2024-09-01"),
        ("15/03/24", ""),
        ("45366", ""),
        ("31/31/2024", ""),
        ("15 Foo 2024", ""),
        ("yesterday", ""),
        ("２０２４-01-05", ""),
    ],
)
def test_date_hints(text: str, hint: str) -> None:
    assert iso_date(text) is None
    assert date_hint(text) == hint


@settings(max_examples=100, deadline=None)
@given(st.dates())
def test_iso_dates(day: date) -> None:
    assert iso_date(day.isoformat()) == day
