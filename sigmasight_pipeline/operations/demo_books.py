"""What happens to the demo's books and prices beside their files: strategies, a closing, a price put right.

What belongs here: stating these through what the product offers everybody, and the runs that meet a first report. What
does not: the files (``demo.portfolios``, ``books.accept_demo``) and the market (``demo.simulated``).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from sigmasight_pipeline import sessions
from sigmasight_pipeline.demo import portfolios as shipped
from sigmasight_pipeline.operations import portfolio_life, tagging
from sigmasight_pipeline.operations.launcher import Chunk, plan_range
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.upkeep import priced_range

TRIGGER = "demo"


def state(database: Database, last: date) -> None:
    """Give strategies their kind and colour, and close what the demo closes by `last`; again, it changes nothing."""
    for tag in shipped.tags():
        tagging.add(database, tag.name, kind=tag.kind, colour=tag.colour)
    for book in shipped.books():
        if book.closing_date is not None and book.closing_date <= last:
            portfolio_life.close(database, book.code, book.closing_date)


def first_loads(database: Database, settings: Settings, first: date) -> list[Chunk]:
    """The runs that load market data up to the session `first` as it was known on its evening; none where any is there.

    The history that follows begins with the same session, and meets what its vendor corrected since.
    """
    if priced_range(database) is not None:
        return []
    chunks = plan_range(
        "market_data",
        settings.first_session,
        first,
        calendar=sessions.calendar(),
        size=settings.max_sessions_per_run,
        trigger=TRIGGER,
    )
    return [replace(chunk, known_on=first) for chunk in chunks]
