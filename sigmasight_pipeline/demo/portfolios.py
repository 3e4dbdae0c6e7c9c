"""The demo portfolios, the marks of their private holdings and their cash flows, as shipped in `demo/portfolios`.

What belongs here: handing out the files. What does not: reading their rows (``importing``) and making their entry
prices (``rebase``). Entry prices are closes of the simulated market with the default seed.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.resources import files

_FOLDER = files("sigmasight_pipeline.demo").joinpath("portfolios")


@dataclass(frozen=True)
class DemoBook:
    """A demo portfolio: its equity in US dollars at the close of `inception_date`, the session it is closed at (None:
    it stays open), and the bytes of its CSV."""

    code: str
    name: str
    description: str
    initial_equity: Decimal
    inception_date: date
    closing_date: date | None
    file_name: str
    content: bytes


def books() -> tuple[DemoBook, ...]:
    """The demo portfolios, in the order of `portfolios.csv`; a portfolio's file is named by its code."""
    rows = csv.DictReader(_FOLDER.joinpath("portfolios.csv").read_text("utf-8").splitlines())
    return tuple(
        DemoBook(
            code=row["code"],
            name=row["name"],
            description=row["description"],
            initial_equity=Decimal(row["initial_equity"]),
            inception_date=date.fromisoformat(row["inception_date"]),
            closing_date=date.fromisoformat(row["closing_date"]) if row["closing_date"] else None,
            file_name=f"{row['code']}.csv",
            content=_FOLDER.joinpath(f"{row['code']}.csv").read_bytes(),
        )
        for row in rows
    )


@dataclass(frozen=True)
class DemoTag:
    """What kind of tag one is that positions of the demo carry, and its colour."""

    name: str
    kind: str
    colour: str


def tags() -> tuple[DemoTag, ...]:
    """The tags that are more than a word: strategies, with their colours."""
    rows = csv.DictReader(_FOLDER.joinpath("tags.csv").read_text("utf-8").splitlines())
    return tuple(DemoTag(row["name"], row["kind"], row["colour"]) for row in rows)


def marks() -> bytes:
    """Marks of the private holdings: columns portfolio (code), symbol, date, price per unit in US dollars."""
    return _FOLDER.joinpath("marks.csv").read_bytes()


def flows() -> bytes:
    """Contributions and withdrawals: columns portfolio (code), date, amount in US dollars, kind."""
    return _FOLDER.joinpath("flows.csv").read_bytes()
