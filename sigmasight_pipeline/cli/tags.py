"""`sigmasight tag`: list tags, put them on positions and take them off, give them a name, a kind and a colour.

What belongs here: options, messages, and running what a change asks for. What does not: what may be stated
(``operations.tagging``), and the tags of a file (``cli.books``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.box import SIMPLE
from rich.table import Table

from sigmasight_pipeline.cli.console import OptionError, err, note, out
from sigmasight_pipeline.cli.installation import Installation, connected
from sigmasight_pipeline.cli.portfolios import TRIGGER, AsJson, NoRun, refusals

if TYPE_CHECKING:
    from sigmasight_pipeline.operations import tagging

T = TypeVar("T")

app = typer.Typer(
    help="List tags; put them on positions and take them off; give them a name, a kind (regular, strategy), a colour.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the tag.", show_default=False)]
Portfolio = Annotated[str | None, typer.Option(metavar="CODE", help="Positions of this portfolio.")]
Symbols = Annotated[
    list[str] | None, typer.Option("--symbol", metavar="SYMBOL", help="Only this one of them (repeatable).")
]


@app.command("list")
def listing(as_json: AsJson = False) -> None:
    """List every tag: kind, colour, how many positions carry it, and in which portfolios."""
    from sigmasight_pipeline.storage import tag_changes

    with connected() as installation:
        rows = tag_changes.listed(installation.database)
    if as_json:
        out.print(json.dumps({"tags": rows.to_dicts()}, indent=2))
        return
    if rows.is_empty():
        err.print("No tag yet: a file brings them in its column tags, or `sigmasight tag add NAME`.")
        return
    shown = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("tag", "kind", "colour", "positions", "portfolios"):
        shown.add_column(column, justify="right" if column == "positions" else "left", overflow="fold")
    for row in rows.iter_rows(named=True):
        portfolios = ", ".join(row["portfolios"]) or "-"
        shown.add_row(row["name"], row["kind"], row["colour"] or "-", str(row["positions"]), portfolios)
    out.print(shown)


@app.command()
def add(
    name: Name,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="regular (the default) or strategy.")] = None,
    colour: Annotated[str | None, typer.Option(metavar="#RRGGBB", help="Colour for display.")] = None,
    portfolio: Portfolio = None,
    symbols: Symbols = None,
    no_run: NoRun = False,
) -> None:
    """Make a tag, or put one on the positions of a portfolio; what is there already stays."""
    from sigmasight_pipeline.operations import tagging

    carriers = _carriers(portfolio, symbols)
    with connected() as installation:

        def state() -> int:
            return tagging.add(installation.database, name, kind=kind, colour=colour, on=carriers)

        added = _stated(installation, state, [] if carriers is None else [carriers.portfolio], no_run)
    note(f"{added} position(s) carry {name} that did not." if carriers else f"There is a tag {name}.")


@app.command()
def remove(name: Name, portfolio: Portfolio = None, symbols: Symbols = None, no_run: NoRun = False) -> None:
    """Take a tag off the positions of a portfolio; without --portfolio, remove it altogether."""
    from sigmasight_pipeline.operations import tagging

    carriers = _carriers(portfolio, symbols)
    with connected() as installation:
        database = installation.database
        if carriers is not None:
            of = carriers
            gone = _stated(installation, lambda: tagging.take_off(database, name, of), [of.portfolio], no_run)
            note(f"{gone} position(s) carry {name} no more.")
            return
        _stated(installation, lambda: tagging.remove(database, name), _owners(installation, name), no_run)
    note(f"There is no tag {name} any more.")


@app.command()
def rename(
    name: Name,
    new_name: Annotated[str, typer.Argument(metavar="NEW", show_default=False, help="What it shall be called.")],
    no_run: NoRun = False,
) -> None:
    """Give a tag another name; positions, kind and colour stay."""
    from sigmasight_pipeline.operations import tagging

    with connected() as installation:
        owners = _owners(installation, name)
        _stated(installation, lambda: tagging.rename(installation.database, name, new_name), owners, no_run)
    note(f"{name} is called {new_name.strip()} now.")


@app.command()
def colour(
    name: Name,
    colour: Annotated[str, typer.Argument(metavar="#RRGGBB", show_default=False, help="Its colour, or none.")],
) -> None:
    """Give a tag a colour (# and six hexadecimal digits), or take it away (none)."""
    from sigmasight_pipeline.operations import tagging

    with connected() as installation, refusals():
        tagging.set_colour(installation.database, name, colour)
    note(f"The colour of {name} is {colour.lower()} now.")


@app.command()
def kind(
    name: Name, kind: Annotated[str, typer.Argument(metavar="KIND", show_default=False, help="regular or strategy.")]
) -> None:
    """Say what kind of tag it is: regular or strategy."""
    from sigmasight_pipeline.operations import tagging

    with connected() as installation, refusals():
        tagging.set_kind(installation.database, name, kind)
    note(f"{name} is a tag of kind {kind} now.")


def _carriers(portfolio: str | None, symbols: Sequence[str] | None) -> tagging.Carriers | None:
    from sigmasight_pipeline.operations import tagging

    if portfolio is None:
        if symbols:
            raise OptionError("--symbol names positions of a portfolio: add --portfolio CODE")
        return None
    return tagging.Carriers(portfolio, tuple(symbols or ()))


def _owners(installation: Installation, name: str) -> list[str]:
    """Codes of the portfolios whose positions carry the tag."""
    from sigmasight_pipeline.operations import tagging

    with refusals():
        found = tagging.require_tag(installation.database, name)["portfolios"]
    return found if isinstance(found, list) else []


def _stated(installation: Installation, state: Callable[[], T], portfolios: Sequence[str], no_run: bool) -> T:
    """State it, then compute what is named by tags anew: groups of exposures, labels of clusters."""
    with refusals():
        if no_run or not portfolios:
            return state()
        from sigmasight_pipeline.cli.running import books_in_hand, follow_inputs

        with books_in_hand(installation, "change of tags"):
            result = state()
            follow_inputs(installation, portfolios, TRIGGER)
            return result
