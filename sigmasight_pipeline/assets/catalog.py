"""How a table looks as a Dagster asset: key, column schema, description, and which asset writes which table.

What belongs here: metadata made from the table registry, the partitions definition, and partition mappings made from
declared reads. What does not: computing anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import dagster as dg
import polars as pl
from sqlalchemy import Table

from sigmasight_pipeline.assets.partition_memory import remember
from sigmasight_pipeline.assets.partitions import session_partitions
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.settings import get_settings
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.windows import Read

KINDS = {"postgres", "polars"}

MAX_SESSIONS_PER_RUN = 252
"""Planned events are written when a run is created: ten times as many sessions took minutes and were then failed."""

WRITTEN_WITH: dict[str, str] = {
    tables.portfolio_cash_flows.name: tables.portfolios.name,
    tables.tags.name: tables.positions.name,
    tables.position_tags.name: tables.positions.name,
    tables.position_marks.name: tables.positions.name,
    tables.daily_price_revisions.name: tables.daily_prices.name,
    tables.rejected_prices.name: tables.daily_prices.name,
    tables.symbol_scenario_returns.name: tables.stress_test_results.name,
    tables.option_scenario_pnl.name: tables.stress_test_results.name,
    tables.stress_scenario_diagnostics.name: tables.stress_test_results.name,
    tables.stress_scenario_shocks.name: tables.stress_test_results.name,
    tables.position_risk_contributions.name: tables.portfolio_simulated_risk.name,
    tables.correlation_cluster_positions.name: tables.correlation_clusters.name,
}
"""Tables written by another table's asset; the tables not named here have an asset of their own name."""

UNPARTITIONED = frozenset(
    table.name
    for table in (
        tables.portfolios,
        tables.positions,
        tables.instruments,
        tables.factor_definitions,
        tables.stress_test_scenarios,
        tables.trading_sessions,
    )
)


@cache
def partitions() -> dg.DailyPartitionsDefinition:
    """The session partitions every session asset shares, made once when the code location loads."""
    settings = get_settings()
    made = session_partitions(settings.first_session, last_session=settings.last_session)
    remember(made)
    return made


def asset_name(table: Table) -> str:
    """Name of the asset that writes `table`."""
    return WRITTEN_WITH.get(table.name, table.name)


def dependency(read: Read, *, self_name: str | None = None) -> dg.AssetDep | None:
    """The Dagster dependency a declared read stands for; None for a table the asset itself writes."""
    upstream = asset_name(read.table)
    if upstream == self_name:
        return None
    if upstream in UNPARTITIONED:
        return dg.AssetDep(upstream)
    if read.look_back_sessions == 0:
        return dg.AssetDep(upstream)
    return dg.AssetDep(
        upstream,
        partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-read.look_back_sessions, end_offset=0),
    )


def dependencies(reads: list[Read], *, self_name: str | None = None) -> list[dg.AssetDep]:
    """One dependency per upstream asset: of several reads of one, the longest look-back."""
    longest: dict[str, Read] = {}
    for read in reads:
        name = asset_name(read.table)
        if name not in longest or read.look_back_sessions > longest[name].look_back_sessions:
            longest[name] = read
    found = (dependency(read, self_name=self_name) for read in longest.values())
    return [dep for dep in found if dep is not None]


def own_previous_session(name: str) -> dg.AssetDep:
    """The self-dependency of an asset on its own previous session."""
    return dg.AssetDep(name, partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1))


def column_schema(table: Table) -> dg.TableSchema:
    """The table's columns with types, constraints and descriptions, as the UI shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=str(column.type).lower(),
                description=column.comment,
                constraints=dg.TableColumnConstraints(
                    nullable=bool(column.nullable), unique=False, other=_bounds(column.info)
                ),
                tags={"primary_key": "true"} if column.primary_key else {},
            )
            for column in table.columns
        ],
        constraints=dg.TableConstraints(
            other=[f"primary key ({', '.join(c.name for c in table.primary_key.columns)})"]
        ),
    )


POOL_TAG = "sigmasight/pool"
"""Tag of steps that take from a pool, under which a run's executor knows not to start two of them at once."""


LAUNCH_RANGES = (
    "Launch a range of sessions from the page of the job `daily`, as one run, or with `sigmasight backfill`: launched "
    "from here, Dagster extends it through every look-back and cuts it into a run per step of the chain."
)
"""Last paragraph of what every session asset says of itself."""


def described(table: Table, more: str = "", engine: Callable[..., object] | None = None) -> str:
    """The asset's description: grain and meaning first, then what to know, then the engine's own first paragraph."""
    parts = [table.comment or "", more]
    if engine is not None:
        summary = (inspect.getdoc(engine) or "").split("\n\n", maxsplit=1)[0].replace("\n", " ")
        parts.append(f"Engine `{engine.__module__.rsplit('.', 1)[-1]}.{engine.__name__}`: {summary}")
    return "\n\n".join(part for part in parts if part)


def shown(
    table: Table,
    group: str,
    *,
    grain: str,
    code_version: str,
    filtered: bool = False,
    engine: Callable[..., object] | None = None,
) -> dict[str, Any]:
    """What every asset says of itself: the arguments ``dg.asset`` and ``dg.AssetSpec`` have in common.

    `filtered`: the step takes a portfolio filter (``PortfolioConfig``); the launcher looks for the tag.
    """
    return {
        "group_name": group,
        "owners": list(get_settings().asset_owners),
        "kinds": KINDS,
        "tags": {"grain": grain, **({"filter": "portfolio"} if filtered else {})},
        "code_version": code_version,
        "metadata": {**definition_metadata(table), **code_reference(engine)},
    }


def step_tags(*, pool: str | None = None, early: bool = False) -> dict[str, str]:
    """Tags of a step that the executor goes by: which pool it takes from, and whether it goes before other ready steps.

    `early` is for steps that hold many others up, and for the longest one: last, it would run alone.
    """
    return {**({POOL_TAG: pool} if pool else {}), **({"dagster/priority": "1"} if early else {})}


Decorator = Callable[[Callable[..., Any]], dg.AssetsDefinition]


def reference_asset(
    table: Table,
    group: str,
    *,
    more: str = "",
    rules: Sequence[Rule] = (),
    deps: Sequence[dg.AssetsDefinition] = (),
    code_version: str = "1",
) -> Decorator:
    """Decorator of the function that writes a reference table: an asset without partitions."""
    decorate: Decorator = dg.asset(
        name=str(table.name),
        description=described(table, more),
        deps=deps,
        check_specs=[rule.spec(str(table.name)) for rule in rules],
        **shown(table, group, grain="reference", code_version=code_version),
    )
    return decorate


def partitioned_asset(
    table: Table,
    group: str,
    *,
    more: str = "",
    engine: Callable[..., object] | None = None,
    rules: Sequence[Rule] = (),
    deps: Sequence[dg.AssetDep] = (),
    code_version: str = "1",
    filtered: bool = False,
    pool: str | None = None,
    early: bool = False,
) -> Decorator:
    """Decorator of the function that writes a session table: partitioned by session, at most 252 of them a run."""
    decorate: Decorator = dg.asset(
        name=str(table.name),
        description=f"{described(table, more, engine)}\n\n{LAUNCH_RANGES}",
        deps=deps,
        check_specs=[rule.spec(str(table.name)) for rule in rules],
        partitions_def=partitions(),
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=MAX_SESSIONS_PER_RUN),
        pool=pool,
        op_tags=step_tags(pool=pool, early=early),
        **shown(table, group, grain="session", code_version=code_version, filtered=filtered, engine=engine),
    )
    return decorate


def over_all_portfolios(*columns: str, where: pl.Expr | None = None, of: str | None = None) -> dict[str, pl.Expr]:
    """Figures of a partition that are sums over its portfolios, and are named so: of `columns`, or, of the column `of`
    in rows `where`, under the name given."""
    values = {name: pl.col(of or name) for name in columns}
    return {
        f"{name}_all_portfolios": (value if where is None else value.filter(where)).sum()
        for name, value in values.items()
    }


def _bounds(info: dict[str, object]) -> list[str]:
    signs = {"ge": ">=", "gt": ">", "le": "<="}
    bounds = [f"{signs[name]} {value}" for name, value in info.items() if name in signs]
    values = info.get("isin")
    return [*bounds, *([f"one of {', '.join(values)}"] if isinstance(values, tuple) else [])]


def definition_metadata(table: Table) -> dict[str, object]:
    """Metadata that does not change from run to run."""
    return {
        "dagster/table_name": f"{table.schema}.{table.name}",
        "dagster/column_schema": column_schema(table),
        "primary_key": ", ".join(column.name for column in table.primary_key.columns),
    }


def code_reference(engine: Callable[..., object] | None) -> dict[str, object]:
    """Metadata by which the UI leads from an asset to the source of its engine; none without one."""
    path = None if engine is None else inspect.getsourcefile(engine)
    if engine is None or path is None:
        return {}
    line = inspect.getsourcelines(engine)[1]
    label = f"{engine.__module__.rsplit('.', 1)[-1]}.{engine.__name__}"
    reference = dg.LocalFileCodeReference(file_path=path, line_number=line, label=label)
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}
