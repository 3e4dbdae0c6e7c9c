"""Values of options that several commands take.

What belongs here: turning an option's text into a value, or a sentence saying what is wrong with it; loads neither
Dagster nor any asset. What does not: options of one command.
"""

from __future__ import annotations

from datetime import date

from sigmasight_pipeline.cli.console import OptionError


def parse_day(text: str | None, option: str) -> date | None:
    """An ISO date given to `option`, or one sentence saying what is wrong with it."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise OptionError(f"{option} {text}: write the date as YYYY-MM-DD, for example 2024-01-02") from None
