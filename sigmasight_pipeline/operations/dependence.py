"""How far what is stored depends on earlier sessions: which assets read a table, and how many sessions later still.

What belongs here: that, read off the declared assets. What does not: what to do about it (``gaps``, ``tidy``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache

import dagster as dg

from sigmasight_pipeline.assets import graph
from sigmasight_pipeline.assets import operations as audit
from sigmasight_pipeline.operations import jobs
from sigmasight_pipeline.storage import tables

SNAPSHOTS = tables.portfolio_snapshots.name

CARRIED = frozenset({tables.daily_prices.name, tables.option_prices.name, tables.corporate_actions.name})
"""A price stands for every later session until the next one, so whatever reads one may change at any later session."""


@cache
def _edges() -> dict[str, dict[str, float]]:
    """Of every asset, how many sessions later each of those that read it may still depend on a session's rows."""
    names = jobs.asset_names("daily")
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for spec in (spec for assets in graph.ASSETS for spec in assets.specs):
        child = spec.key.to_user_string()
        for dep in spec.deps:
            parent, mapping = dep.asset_key.to_user_string(), dep.partition_mapping
            if parent not in found or child not in found:
                continue
            if parent == child or parent in CARRIED:
                found[parent][child] = math.inf
            else:
                back = mapping.start_offset if isinstance(mapping, dg.TimeWindowPartitionMapping) else 0
                found[parent][child] = -back
    return found


def readers(name: str) -> list[str]:
    """Assets of the daily job that read the table `name`."""
    return list(_edges()[name])


def read_back(name: str) -> float:
    """How many sessions later an asset may still read a session of the table `name` (inf: any; 0: no later one)."""
    return max(_edges().get(name, {}).values(), default=0.0)


def reach(engines: Iterable[str]) -> dict[str, float]:
    """`engines` and every asset that depends on them, with the sessions after theirs it may change at (inf: all)."""
    found: dict[str, float] = dict.fromkeys(_whole_steps(engines), 0.0)
    waiting = list(found)
    while waiting:
        parent = waiting.pop()
        for child, later in _edges()[parent].items():
            if found.get(child, -1.0) < found[parent] + later:
                found[child] = found[parent] + later
                waiting.append(child)
    return found


def _whole_steps(names: Iterable[str]) -> set[str]:
    """`names` and the assets written by the same steps, which run together or not at all."""
    wanted = set(names)
    steps = [{spec.key.to_user_string() for spec in assets.specs} for assets in graph.ASSETS]
    return wanted.union(*(step for step in steps if step & wanted))


@cache
def chained() -> frozenset[str]:
    """Engines by portfolio that snapshots are made from, and they themselves."""
    by_portfolio = {str(table.name) for table in audit.PORTFOLIO_TABLES}
    return frozenset(name for name in by_portfolio if name == SNAPSHOTS or SNAPSHOTS in graph.downstream([name]))
