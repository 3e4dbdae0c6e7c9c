"""What a file would change: its rows compared with the stored ones, and the first session that is affected.

What belongs here: comparing two frames by their natural key and telling the difference to people. What does
not: applying it (the reference assets) and clamping the first session to an inception (the launcher).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

import polars as pl

from . import flows, marks, positions

POSITION_KEY = ("symbol", "entry_date", "lot")
MARK_KEY = ("portfolio_code", "symbol", "session_date")
FLOW_KEY = ("portfolio_code", "session_date", "kind", "sequence")

_WHERE_IT_CAME_FROM = ("source", "source_file", "source_line")
_WITHOUT_EFFECT = {"notes", "investment_subtype"}
_EXIT_FIELDS = {"exit_date", "exit_price"}

Fields = Mapping[str, object]
ChangedFields = Mapping[str, tuple[object, object]]


class ChangeKind(StrEnum):
    """What happens to a stored row."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True)
class Change:
    """One row that differs: its natural key, the changed fields (old, new), the first session affected."""

    kind: ChangeKind
    key: tuple[object, ...]
    fields: ChangedFields
    first_session: date | None

    def __str__(self) -> str:
        fields = ", ".join(f"{name} {_shown(old)} -> {_shown(new)}" for name, (old, new) in self.fields.items())
        return f"{self.kind} {' '.join(_shown(part) for part in self.key)}{': ' + fields if fields else ''}"


@dataclass(frozen=True)
class Changes:
    """Every difference, ordered by kind and key."""

    changes: tuple[Change, ...]

    def of(self, kind: ChangeKind) -> tuple[Change, ...]:
        """The changes of one kind."""
        return tuple(change for change in self.changes if change.kind is kind)

    @property
    def first_session(self) -> date | None:
        """The first session whose results may differ; None where none does."""
        return min((c.first_session for c in self.changes if c.first_session is not None), default=None)

    def __bool__(self) -> bool:
        return bool(self.changes)


def compare_positions(new: pl.DataFrame, stored: pl.DataFrame) -> Changes:
    """What replacing one portfolio's positions changes; both frames have the columns of `positions.SCHEMA`.

    A changed exit affects the sessions from the earlier of both exits on; notes and subtype affect none;
    anything else affects the position from its entry. The order of tags does not count.
    """
    return _compare(new, stored, list(positions.SCHEMA), POSITION_KEY, _first_of_position)


def compare_marks(new: pl.DataFrame, stored: pl.DataFrame) -> Changes:
    """What importing marks changes: marks are added to the stored ones, and replace those of the same session.

    Both frames have portfolio_code, symbol, session_date and price; marks not in `new` stay.
    """
    kept = stored.join(new, on=MARK_KEY, how="semi")
    return _compare(new, kept, list(marks.SCHEMA), MARK_KEY, _first_of_session)


def compare_flows(new: pl.DataFrame, stored: pl.DataFrame) -> Changes:
    """What importing flows changes: the flows of each portfolio in `new` are replaced as a set.

    Both frames have the columns of `flows.SCHEMA`; flows of other portfolios stay.
    """
    replaced = stored.join(new, on="portfolio_code", how="semi")
    return _compare(new, replaced, list(flows.SCHEMA), FLOW_KEY, _first_of_session)


def _compare(
    new: pl.DataFrame,
    stored: pl.DataFrame,
    columns: Sequence[str],
    key: Sequence[str],
    first_session: Callable[[Fields | None, Fields | None, ChangedFields], date | None],
) -> Changes:
    compared = [name for name in columns if name not in _WHERE_IT_CAME_FROM]
    after, before = _by_key(new, compared, key), _by_key(stored, compared, key)
    found: list[Change] = []
    for identity in sorted(after.keys() | before.keys(), key=lambda parts: [str(part) for part in parts]):
        new_row, old_row = after.get(identity), before.get(identity)
        fields: dict[str, tuple[object, object]] = {}
        if new_row is None:
            kind = ChangeKind.REMOVED
        elif old_row is None:
            kind = ChangeKind.ADDED
        else:
            kind = ChangeKind.CHANGED
            fields = {name: (old_row[name], new_row[name]) for name in compared if old_row[name] != new_row[name]}
        if fields or kind is not ChangeKind.CHANGED:
            found.append(Change(kind, identity, fields, first_session(old_row, new_row, fields)))
    order = list(ChangeKind)
    return Changes(tuple(sorted(found, key=lambda change: order.index(change.kind))))


def _by_key(frame: pl.DataFrame, columns: Sequence[str], key: Sequence[str]) -> dict[tuple[object, ...], Fields]:
    rows: dict[tuple[object, ...], Fields] = {}
    for row in frame.select(columns).iter_rows(named=True):
        if row.get("tags") is not None:
            row["tags"] = sorted(row["tags"])
        rows[tuple(row[name] for name in key)] = row
    return rows


def _first_of_position(old: Fields | None, new: Fields | None, fields: ChangedFields) -> date | None:
    effective = fields.keys() - _WITHOUT_EFFECT
    row = new if new is not None else old
    if row is None or (old is not None and new is not None and not effective):
        return None
    if old is not None and new is not None and effective <= _EXIT_FIELDS:
        exits = [side["exit_date"] for side in (old, new)]
        return min((day for day in exits if isinstance(day, date)), default=_day(row["entry_date"]))
    return _day(row["entry_date"])


def _first_of_session(old: Fields | None, new: Fields | None, fields: ChangedFields) -> date | None:
    row = new if new is not None else old
    if row is None or (fields and fields.keys() <= {"note"}):
        return None
    return _day(row["session_date"])


def _day(value: object) -> date:
    if not isinstance(value, date):
        raise TypeError(f"{value!r} is no date; compare frames as the parsers return them")
    return value


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case Decimal():
            return f"{value.normalize():f}"
        case list():
            return ", ".join(value) or "none"
    return str(value)
