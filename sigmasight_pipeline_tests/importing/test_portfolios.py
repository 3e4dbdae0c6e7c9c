"""A new portfolio's name, code and equity."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sigmasight_pipeline.importing.portfolios import PortfolioRow, parse_portfolio, portfolio_problems, slug

EXISTING = ["My Book", "Hedge Fund"]

CASES = [
    ("New", "1000000", []),
    ("New", "0.01", []),
    ("", "1000", ["portfolio_name_empty"]),
    (" \t", "1000", ["portfolio_name_empty"]),
    ("!?", "1000", ["portfolio_name_unusable"]),
    ("a\nb", "1000", ["portfolio_name_unusable"]),
    ("x" * 101, "1000", ["portfolio_name_unusable"]),
    ("My Book", "1000", ["portfolio_name_taken"]),
    ("my-book ", "1000", ["portfolio_name_taken"]),
    ("New", "", ["equity_missing"]),
    ("New", "much", ["equity_not_a_number"]),
    ("New", "nan", ["equity_not_a_number"]),
    ("New", "1,000,000", ["number_formatted"]),
    ("New", "$5", ["number_formatted"]),
    ("New", "0", ["equity_not_positive"]),
    ("New", "-5", ["equity_not_positive"]),
    ("New", "1.005", ["equity_too_many_decimals"]),
    ("New", "1" + "0" * 18, ["equity_too_large"]),
    ("", "", ["portfolio_name_empty", "equity_missing"]),
]


@pytest.mark.parametrize(("name", "equity", "expected"), CASES)
def test_rules(name: str, equity: str, expected: list[str]) -> None:
    problems = portfolio_problems(name, equity, EXISTING)
    assert [str(problem.code) for problem in problems] == expected
    assert {problem.column for problem in problems} <= {"name", "equity"}
    assert bool(parse_portfolio(name, equity, EXISTING).rows) == (not expected)


def test_what_a_new_portfolio_is() -> None:
    parsed = parse_portfolio(" Mein Büchlein (2) ", "1000000.5", EXISTING)
    assert parsed.rows == (PortfolioRow("mein-buchlein-2", "Mein Büchlein (2)", Decimal("1000000.50")),)
    assert parsed.frame()["initial_equity"].to_list() == [Decimal("1000000.50")]


def test_the_message_shows_the_number_expected() -> None:
    (problem,) = portfolio_problems("New", "$1,000,000.00", EXISTING)
    assert "write 1000000.00" in problem.message


@pytest.mark.parametrize(
    ("name", "code"),
    [("My Book", "my-book"), ("  A -- b_C!", "a-b-c"), ("Crème", "creme"), ("2024", "2024"), ("書", "")],
)
def test_slug(name: str, code: str) -> None:
    assert slug(name) == code
    assert slug(code) == code
