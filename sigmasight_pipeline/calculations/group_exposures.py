"""Parts of a portfolio: exposure and P&L by tag, sector, underlying and position type, and tag filters.

What belongs here: which group a position belongs to, and sums by group. What does not: sums over whole
portfolios and delta-adjusted exposure (``exposures``), and values of positions (``valuation``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from enum import StrEnum

import polars as pl

from sigmasight_pipeline.calculations.exposures import portfolio_sessions, with_delta_adjusted
from sigmasight_pipeline.calculations.money import MONEY

UNCLASSIFIED = "unclassified"
"""Sector of what has none."""

_KEYS = ["session_date", "portfolio_id"]


class TagMatch(StrEnum):
    """Whether a position needs one of the tags named, or all of them."""

    ANY = "any"
    ALL = "all"


class UnknownTagError(ValueError):
    """Tags were named that do not exist. `unknown` and `known` are sorted."""

    def __init__(self, unknown: Collection[str], known: Collection[str]) -> None:
        self.unknown, self.known = tuple(sorted(unknown)), tuple(sorted(known))
        super().__init__(f"there is no tag {', '.join(self.unknown)}; the tags are: {', '.join(self.known) or 'none'}")


def positions_with_tags(
    position_tags: pl.DataFrame, tags: pl.DataFrame, names: Collection[str], match: TagMatch
) -> pl.Series:
    """position_id, ascending, of the positions that carry any or all of the tags `names`; none without names.

    `tags` and `position_tags` are rows of the tables of those names. Raises UnknownTagError, and ValueError where
    `match` is neither any nor all.
    """
    wanted, known = set(names), set(tags.get_column("name"))
    if wanted - known:
        raise UnknownTagError(wanted - known, known)
    needed = len(wanted) if TagMatch(match) is TagMatch.ALL else 1
    chosen = tags.filter(pl.col("name").is_in(list(wanted))).select("tag_id")
    return (
        position_tags.join(chosen, on="tag_id", how="semi")
        .group_by("position_id")
        .agg(carried=pl.col("tag_id").n_unique())
        .filter(pl.col("carried") >= needed)
        .get_column("position_id")
        .sort()
    )


def group_exposures(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    instruments: pl.DataFrame,
    tags: pl.DataFrame,
    position_tags: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
) -> pl.DataFrame:
    """One row per group of every portfolio at every open session of `sessions` of its life.

    Columns are those of ``group_exposures`` without provenance, ordered by session_date, portfolio_id, group_kind
    and group_name. `position_values` and `position_greeks` are the rows of these sessions (others change nothing).

    Groups: each tag (a position with several counts fully in each), sector (an option has its underlying's;
    `unclassified` without one), underlying (an option with its underlying's stock) and position type. daily_pnl
    is of every position with a row, its exit session included, so that sectors, underlyings and position types
    each add up to the portfolio's; everything else is of those still held, so a group may have P&L alone. PRIVATE
    positions count with their exposure. delta_adjusted_net is NULL, and greeks_status partial, where that of one
    position is unknown. Sums are exact. Raises exposures.MissingGreeksError and timeline.SessionWindowError.
    """
    wanted = portfolio_sessions(sessions, calendar, portfolios)
    rows = with_delta_adjusted(position_values.join(wanted, on=_KEYS, how="semi"), positions, position_greeks).select(
        *_KEYS, "position_id", "is_held", "exposure", "delta_adjusted", "daily_pnl"
    )
    groups = _groups(positions, instruments, tags, position_tags)
    exposure, known = pl.col("exposure"), pl.col("delta_adjusted").is_not_null().all()
    keys = [*_KEYS, "group_kind", "group_name"]
    sums = [
        # one kind after the other: together the rows would be held several times over
        rows.join(group, on="position_id")
        .group_by(*_KEYS, "group_name")
        .agg(
            long_exposure=exposure.filter(exposure > 0).sum(),
            short_exposure=exposure.filter(exposure < 0).sum(),
            delta_adjusted_net=pl.when(known).then(pl.col("delta_adjusted").sum()),
            greeks_status=pl.when(known).then(pl.lit("ok")).otherwise(pl.lit("partial")),
            daily_pnl=pl.col("daily_pnl").sum(),
            position_count=pl.col("is_held").sum(),
        )
        .with_columns(group_kind=pl.lit(kind))
        for kind, group in groups.items()
    ]
    long, short = pl.col("long_exposure"), pl.col("short_exposure")
    return (
        pl.concat(sums)
        .select(
            *keys,
            long.cast(MONEY),
            short.cast(MONEY),
            (long - short).cast(MONEY).alias("gross_exposure"),
            (long + short).cast(MONEY).alias("net_exposure"),
            pl.col("delta_adjusted_net").cast(MONEY),
            "greeks_status",
            pl.col("daily_pnl").cast(MONEY),
            pl.col("position_count").cast(pl.Int32),
        )
        .sort(keys)
    )


def _groups(
    positions: pl.DataFrame, instruments: pl.DataFrame, tags: pl.DataFrame, position_tags: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """position_id and group_name of every position by kind of group; without tags a position is in no tag group."""
    is_option = pl.col("investment_class") == "OPTIONS"
    underlying = pl.when(is_option).then(pl.col("underlying_symbol")).otherwise(pl.col("symbol"))
    own = positions.select("position_id", group_name=underlying)
    sectors = own.join(
        instruments.select(pl.col("symbol").alias("group_name"), "sector"), on="group_name", how="left"
    ).select("position_id", group_name=pl.col("sector").fill_null(UNCLASSIFIED))
    return {
        "tag": position_tags.join(tags, on="tag_id").select("position_id", group_name="name"),
        "sector": sectors,
        "underlying": own,
        "position_type": positions.select("position_id", group_name="position_type"),
    }
