"""Tags as commands state them: names, kinds, colours, and the positions that carry them.

What belongs here: the rules of these statements. What does not: writing them (``storage.tag_changes``), following them
(``restatement``), and commands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from sigmasight_pipeline.operations.portfolio_life import BookChangeError, require, unknown
from sigmasight_pipeline.storage import tables, tag_changes
from sigmasight_pipeline.storage.database import Database

KINDS: tuple[str, ...] = tables.tags.c.kind.info["isin"]
COLOUR = re.compile(r"#[0-9a-f]{6}")
NO_COLOUR = "none"
LONGEST_NAME = 50


@dataclass(frozen=True)
class Carriers:
    """Positions of one portfolio: those in `symbols`, or all of them."""

    portfolio: str
    symbols: tuple[str, ...] = ()


def colour_of(text: str) -> str:
    """A colour as it is stored, #rrggbb in lower case. BookChangeError."""
    colour = text.strip().lower()
    if not COLOUR.fullmatch(colour):
        raise BookChangeError(f"{text} is no colour; write # and six hexadecimal digits, for example #1f77b4")
    return colour


def kind_of(text: str) -> str:
    """A kind of tag. BookChangeError."""
    if text not in KINDS:
        raise BookChangeError(f"{text} is no kind of tag; the kinds are {' and '.join(KINDS)}")
    return text


def name_of(text: str) -> str:
    """A name a file could state too: printable, no comma or semicolon, which separate tags there. BookChangeError."""
    name = text.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or re.search("[,;]", name):
        raise BookChangeError(
            f"{text!r} is no name of a tag: 1 to {LONGEST_NAME} characters without commas, on one line"
        )
    return name


def require_tag(database: Database, name: str) -> dict[str, object]:
    """The tag's row of ``tag_changes.listed``. BookChangeError where there is none."""
    rows = tag_changes.listed(database)
    found = rows.filter(pl.col("name") == name)
    if found.is_empty():
        raise unknown("tag", name, rows["name"].to_list())
    return found.row(0, named=True)


def add(
    database: Database, name: str, *, kind: str | None = None, colour: str | None = None, on: Carriers | None = None
) -> int:
    """Have a tag of that name, and have the positions `on` carry it; how many did not before. BookChangeError."""
    stated = name_of(name)
    kind, colour = None if kind is None else kind_of(kind), None if colour is None else colour_of(colour)
    symbols = None if on is None else _symbols(database, on)
    with database.connect() as connection:
        tag_changes.state(connection, stated, kind=kind, colour=colour)
        return 0 if on is None else tag_changes.put_on(connection, stated, on.portfolio, symbols)


def take_off(database: Database, name: str, carriers: Carriers) -> int:
    """Have the positions carry the tag no more; how many did. BookChangeError."""
    require_tag(database, name)
    symbols = _symbols(database, carriers)
    with database.connect() as connection:
        return tag_changes.take_off(connection, name, carriers.portfolio, symbols)


def remove(database: Database, name: str) -> None:
    """Remove a tag from every position, and itself. BookChangeError."""
    require_tag(database, name)
    with database.connect() as connection:
        tag_changes.remove(connection, name)


def rename(database: Database, name: str, new_name: str) -> None:
    """Give a tag another name, which no other has. BookChangeError."""
    require_tag(database, name)
    stated = name_of(new_name)
    if stated != name and stated in tag_changes.listed(database)["name"]:
        raise BookChangeError(f"there is a tag {stated} already; `sigmasight tag remove` one of both first")
    with database.connect() as connection:
        tag_changes.rename(connection, name, stated)


def set_colour(database: Database, name: str, colour: str) -> None:
    """Give a tag a colour, or take it away with NO_COLOUR. BookChangeError."""
    require_tag(database, name)
    stated = None if colour == NO_COLOUR else colour_of(colour)
    with database.connect() as connection:
        if stated is None:
            tag_changes.uncolour(connection, name)
        else:
            tag_changes.state(connection, name, colour=stated)


def set_kind(database: Database, name: str, kind: str) -> None:
    """Say what kind of tag it is. BookChangeError."""
    require_tag(database, name)
    stated = kind_of(kind)
    with database.connect() as connection:
        tag_changes.state(connection, name, kind=stated)


def _symbols(database: Database, carriers: Carriers) -> Sequence[str] | None:
    """The symbols meant, each of which the portfolio must hold; None: all of them."""
    require(database, carriers.portfolio)
    held = tag_changes.held_symbols(database, carriers.portfolio)
    for symbol in carriers.symbols:
        if symbol not in held:
            raise unknown(f"position of {carriers.portfolio} in", symbol, held)
    return carriers.symbols or None
