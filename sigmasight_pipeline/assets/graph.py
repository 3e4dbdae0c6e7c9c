"""All assets together: what depends on what, and which steps take a portfolio filter.

What belongs here: questions about the whole graph. What does not: assets (the sibling modules), and what is done with
the answers (``operations``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache

import dagster as dg

from sigmasight_pipeline.assets import factors, market_data, operations, reference, risk, valuation

ASSETS: list[dg.AssetsDefinition] = [
    *reference.ASSETS,
    *market_data.ASSETS,
    *valuation.ASSETS,
    *factors.ASSETS,
    *risk.ASSETS,
    *operations.ASSETS,
]


@cache
def _specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for assets in ASSETS for spec in assets.specs}


@cache
def _children() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {name: set() for name in _specs()}
    for name, spec in _specs().items():
        for dep in spec.deps:
            found[dep.asset_key.to_user_string()].add(name)
    return {name: frozenset(names - {name}) for name, names in found.items()}


def downstream(names: Collection[str]) -> list[str]:
    """Every asset that depends on one of `names`, directly or not; `names` themselves only where they do. Sorted."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        fresh = _children()[waiting.pop()] - found
        found |= fresh
        waiting += fresh
    return sorted(found)


def in_groups(groups: Collection[str]) -> tuple[str, ...]:
    """Names of the assets of these groups, sorted."""
    return tuple(sorted(name for name, spec in _specs().items() if spec.group_name in groups))


def check_keys(names: Collection[str]) -> list[dg.AssetCheckKey]:
    """The checks that runs of these assets evaluate, sorted: not those evaluated by the clock, which no step has."""
    specs = [spec for assets in ASSETS for spec in assets.check_specs]
    return sorted(spec.key for spec in specs if spec.asset_key.to_user_string() in names)


def filtered_steps(names: Collection[str], among: Iterable[object] = ()) -> list[str]:
    """Names of the steps that write one of `names` and take a portfolio filter (see the tag on their assets). Sorted.

    `among`: the assets that are asked, all of this pipeline by default.
    """
    found = set()
    for assets in among or ASSETS:
        if isinstance(assets, dg.AssetsDefinition):  # a step may write several assets
            specs = {spec.key.to_user_string(): spec for spec in assets.specs}
            if set(names) & set(specs) and any(spec.tags.get("filter") == "portfolio" for spec in specs.values()):
                found.add(assets.op.name)
    return sorted(found)
