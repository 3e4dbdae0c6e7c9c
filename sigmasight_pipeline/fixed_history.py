"""The end of a fixed history, as a file in the state folder: `sigmasight demo` records where its market ends.

What belongs here: reading and recording that date. What does not: the setting ``last_session`` itself, which wins over
it (``settings``).
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

RECORDED_END = "last_session"
"""Name of the file in the state folder with the last session of a fixed history (see `record_last_session`)."""


class RecordedEndError(ValueError):
    """The state folder says something that is no date of its last session."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(
            f"{path} should hold the last session as YYYY-MM-DD and holds {text[:20]!r}: write the date, "
            "or remove the file and run `sigmasight demo` again"
        )


def recorded_last_session(home: Path) -> date | None:
    """The last session recorded in the state folder `home`; None where none is. RecordedEndError where it is no date.

    In a file, not in the database: partitions are made when a code location loads, before it knows of any database.
    """
    path = home / RECORDED_END
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise RecordedEndError(path, text) from None


def record_last_session(home: Path, last: date) -> None:
    """Record `last` as the end of the fixed history kept in the state folder `home`, all or nothing."""
    path = home / RECORDED_END
    new = path.with_name(f"{RECORDED_END}.{os.getpid()}")
    new.write_text(f"{last.isoformat()}\n", encoding="utf-8")
    new.replace(path)
