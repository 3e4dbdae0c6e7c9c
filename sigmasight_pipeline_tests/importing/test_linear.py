"""Reading takes time in proportion to a file's size: what once took it by the square, at a size and at eight times it.

Times are of this process's own work, and compared with each other only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date

import pytest

from sigmasight_pipeline.importing.flows import parse_flows
from sigmasight_pipeline.importing.portfolios import parse_portfolio, slug
from sigmasight_pipeline.importing.positions import parse_positions
from sigmasight_pipeline.importing.spelling import date_hint, number_guesses
from sigmasight_pipeline.operations.delivery import Secrets
from sigmasight_pipeline.operations.inbox_header import kind_of, read_header
from sigmasight_pipeline.symbols import canonical_symbol, looks_like_option, private_symbol
from sigmasight_pipeline_tests.importing.cases import CALENDAR, FIRST_STORED_SESSION, TODAY

HEADER = "ticker,quantity,entry_price,entry_date,tags,notes\n"


def positions(text: str) -> None:
    parse_positions(
        text.encode(), file_name="x.csv", calendar=CALENDAR, today=TODAY, first_stored_session=FIRST_STORED_SESSION
    )


def flows(text: str) -> None:
    parse_flows(text.encode(), calendar=CALENDAR, today=TODAY, portfolios={"a": date(2024, 1, 2)})


def swallow(reader: Callable[[str], object], text: str) -> None:
    with suppress(ValueError):
        reader(text)


ACCENTS = "a" + "\u0327\u0301"
"""Marks that change places with their neighbours when a text is brought into its normal form."""

READERS: dict[str, Callable[[int], None]] = {
    "blanks inside a number": lambda n: positions(f"{HEADER}F,1{' ' * n}1,1,2024-01-02\n"),
    "blanks inside a price": lambda n: positions(f"{HEADER}F,1,1{' ' * n}1,2024-01-02\n"),
    "signs of a number": lambda n: positions(f"{HEADER}F,{'$ ' * n}1,1,2024-01-02\n"),
    "blanks inside a date": lambda n: positions(f"{HEADER}F,1,1,2024-01-02{' ' * n}x\n"),
    "digits": lambda n: positions(f"{HEADER}F,{'9' * n},1,2024-01-02\n"),
    "decimals": lambda n: positions(f"{HEADER}F,0.{'0' * n}1,1,2024-01-02\n"),
    "tags": lambda n: positions(f'{HEADER}F,1,1,2024-01-02,"{"a," * n}"\n'),
    "rows that run to the end of the file": lambda n: positions(HEADER + 'F","\n' * (n // 8)),
    "quotes in a row": lambda n: positions(HEADER + '"' * n),
    "empty lines": lambda n: positions(HEADER + "\n" * n + "F,1,1,2024-01-02\n"),
    "accents of a portfolio": lambda n: flows(f"portfolio,date,amount,kind\n{ACCENTS * n},2024-01-02,1,contribution\n"),
    "accents of a name": lambda n: parse_portfolio(ACCENTS * n, "1", []),
    "a statement without end": lambda n: read_header(f"# a{' ' * n}\n{HEADER}".encode(), CALENDAR, TODAY),
    "statements": lambda n: read_header(f"# a: {' b:' * n}\n{HEADER}".encode(), CALENDAR, TODAY),
    "a kind of file": lambda n: kind_of(f"{'a ,' * n}\n".encode()),
    "guesses of a number": lambda n: number_guesses(f"1{' ' * n}$"),
    "guesses of a date": lambda n: date_hint("1 " + "." * n),
    "a code": lambda n: slug("-a" * n),
    "a symbol": lambda n: swallow(canonical_symbol, "A" * n),
    "a symbol with a class": lambda n: swallow(canonical_symbol, "A.WS." * n),
    "an option": lambda n: swallow(canonical_symbol, "A" * n + "240119C00150000"),
    "what looks like an option": lambda n: looks_like_option("A " * n),
    "a private name": lambda n: swallow(private_symbol, "A " * n),
    "hiding secrets in a long word": lambda n: Secrets(()).hide("a" * n),
    "hiding secrets in words like password": lambda n: Secrets(()).hide("password" * n),
}

SIZES = (5_000, 40_000)


@pytest.mark.parametrize("name", READERS)
def test_time_grows_with_the_size_and_not_with_its_square(name: str) -> None:
    def seconds(size: int) -> float:
        taken = []
        for _ in range(3):
            began = time.process_time()
            READERS[name](size)
            taken.append(time.process_time() - began)
        return min(taken)

    small, large = map(seconds, SIZES)
    # eight times as much is eight times the work, 64 times by the square; what takes no time at all is not judged
    assert large < 32 * max(small, 0.002), f"{small:.4f} s, {large:.4f} s"
