"""Numbers of factors, scenarios and shocks: their places in stored arrays, given once and never again.

What belongs here: reading them, and numbering new members in the transaction that first writes one. What does not: what
a number is used for (``storage.packing``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sigmasight_pipeline.storage.copying import Connection
from sigmasight_pipeline.storage.database import Database

_SELECT = "SELECT dimension, member, number FROM sigmasight.array_members ORDER BY dimension, number"


def numbers(database: Database) -> dict[str, dict[str, int]]:
    """Dimension to the number of each member, in order of the number."""
    with database.connect() as connection:
        return _stored(connection)


def numbered(connection: Connection, wanted: Mapping[str, Collection[str]]) -> dict[str, dict[str, int]]:
    """The same, with every `wanted` member of a dimension numbered, new ones in order of their names.

    In the caller's transaction; new numbers are given under a lock of their own, held until it ends.
    """
    stored = _stored(connection)
    if all(set(members) <= set(stored.get(dimension, {})) for dimension, members in wanted.items()):
        return stored
    connection.execute("LOCK TABLE sigmasight.array_members IN EXCLUSIVE MODE")
    stored = _stored(connection)
    for dimension, members in wanted.items():
        own = stored.setdefault(dimension, {})
        new = sorted(set(members) - set(own))
        first = max(own.values(), default=0) + 1
        own |= {member: first + place for place, member in enumerate(new)}
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO sigmasight.array_members (dimension, number, member) VALUES (%s, %s, %s)",
                [(dimension, own[member], member) for member in new],
            )
    return stored


def _stored(connection: Connection) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for dimension, member, number in connection.execute(_SELECT).fetchall():
        found.setdefault(dimension, {})[member] = number
    return found
