"""What a command does about changes of inputs that nothing has followed yet: whoever looks next goes on from there.

What belongs here: saying what is owed and having it run. What does not: finding and planning it
(``operations.restatement``) and running (``cli.console``, ``cli.running``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import TYPE_CHECKING

from sigmasight_pipeline.cli.console import note, warn
from sigmasight_pipeline.cli.installation import Installation

if TYPE_CHECKING:
    from sigmasight_pipeline.operations import restatement
    from sigmasight_pipeline.operations.launcher import Chunk


def follow_changes(
    installation: Installation,
    run: Callable[[list[Chunk]], object],
    *,
    trigger: str,
    before: date | None = None,
    portfolios: Sequence[str] = (),
) -> None:
    """Have `run` compute anew what is older than the inputs it was made from, until nothing is; say what it is.

    With `before`, only where that begins before this session: a range that starts there needs what comes before it.
    With `portfolios` (codes), only what concerns them.
    """
    from sigmasight_pipeline import sessions
    from sigmasight_pipeline.operations import backfills, restatement

    database, settings, tried = installation.database, installation.settings, set[int]()

    def look() -> restatement.OutOfDate | None:
        return restatement.out_of_date(database, settings, sessions.calendar(), trigger=trigger, portfolios=portfolios)

    while (stale := look()) is not None:
        if before is not None and stale.first >= before:
            return
        if stale.changes <= tried:
            warn(f"What depends on {stale.what} was computed anew and is older all the same: `sigmasight audit`.")
            return
        if waiting := backfills.open_requests(database):
            warn(f"{stale.what} is not followed yet; it is looked at again when this has ended: {waiting[0]}.")
            return
        note(f"Going on with what depends on {stale.what}: {stale.first} to {stale.last}.")
        run(list(stale.chunks))
        tried |= stale.changes
