"""What Dagster is told of every asset: metadata from the registry, partitions, look-backs, and its rules as checks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from importlib import import_module
from itertools import permutations
from pkgutil import iter_modules

import dagster as dg
import pytest

from sigmasight_pipeline import checks
from sigmasight_pipeline.assets import catalog, factors, market_data, operations, reference, risk, valuation
from sigmasight_pipeline.assets.session_asset import SessionAsset
from sigmasight_pipeline.checks import market_data as market_data_rules
from sigmasight_pipeline.checks import operations as operations_rules
from sigmasight_pipeline.checks import reference as reference_rules
from sigmasight_pipeline.checks import valuation as valuation_rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.definitions import defs
from sigmasight_pipeline.settings import get_settings
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.windows import Kind, look_back, on_sessions

GRAPH = defs.resolve_asset_graph()
SPECS = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
NAMES = sorted(SPECS)
SESSION_ASSETS = [name for name in NAMES if SPECS[name].partitions_def is not None]
REGISTRY = {str(table.name): table for table in tables.every_table()}
"""Tables as readers know them: of one that is stored packed, the rows its view gives."""
GROUPS = (reference, market_data, valuation, factors, risk, operations)
DECLARED = [value for module in GROUPS for value in vars(module).values() if isinstance(value, SessionAsset)]

NOT_BY_ASSETS = {
    "portfolio_imports",
    "backfill_progress",
    "input_changes",
    "recomputation_changes",
    "inbox_files",
    "result_retention",
    "alert_outbox",
    "array_members",
}
"""What the pipeline keeps about itself: accepted files that wait to be applied, ranges, changes, files, messages,
places in stored arrays."""

DERIVED = {name for name, table in REGISTRY.items() if tables.is_derived(table)}
"""What nobody writes, because a view makes it of other tables."""

KEPT_BESIDE_RUNS = {spec.key.to_user_string() for spec in operations.EXTERNAL}
"""What the UI shows although nothing materialises it."""

OF_NO_RUN = {"no_gap_given_up", "fresh"}
"""Checks that are evaluated by the clock."""


def node(name: str) -> dg.AssetKey:
    return dg.AssetKey(name)


def checks_of(name: str) -> set[tuple[str, str | None, bool]]:
    specs = [GRAPH.get_check_spec(key) for key in GRAPH.get_check_keys_for_assets({node(name)})]
    return {(spec.name, spec.description, spec.blocking) for spec in specs if spec.name not in OF_NO_RUN}


def told(rules: Sequence[Rule]) -> set[tuple[str, str | None, bool]]:
    return {(rule.name, rule.description, rule.severity == "ERROR") for rule in rules}


@pytest.mark.parametrize("name", NAMES)
def test_every_asset_says_what_it_is(name: str) -> None:
    spec, table = SPECS[name], REGISTRY[name]
    assert spec.group_name in {module.GROUP for module in GROUPS}
    assert spec.owners
    assert {"postgres", "polars"} <= spec.kinds
    assert spec.code_version
    grain = "run" if name in KEPT_BESIDE_RUNS else "session" if name in SESSION_ASSETS else "reference"
    assert spec.tags["grain"] == grain
    # the first sentence is the table's comment: grain and meaning
    assert table.comment
    assert table.comment.endswith(".")
    assert spec.description is not None
    assert spec.description == table.comment or spec.description.startswith(table.comment + "\n\n")
    schema = "sigmasight" if tables.packing_of(table) is None else "staging"
    assert spec.metadata["dagster/table_name"] == f"{schema}.{name}"
    assert spec.metadata["primary_key"] == ", ".join(column.name for column in table.primary_key.columns)


@pytest.mark.parametrize("name", NAMES)
def test_every_column_is_described(name: str) -> None:
    schema, table = SPECS[name].metadata["dagster/column_schema"], REGISTRY[name]
    assert [column.name for column in schema.columns] == list(polars_schema(table))
    for shown in schema.columns:
        column = table.columns[shown.name]
        assert shown.description, shown.name
        assert shown.description == column.comment
        assert shown.constraints.nullable == bool(column.nullable)
        assert shown.type == str(column.type).lower()
        assert ("primary_key" in shown.tags) == column.primary_key
        # one line per bound or closed list
        assert len(shown.constraints.other) == len(column.info), shown
    assert schema.constraints.other == [f"primary key ({SPECS[name].metadata['primary_key']})"]


def test_bounds_are_shown_as_people_write_them() -> None:
    shown = {
        (name, column.name): column.constraints.other
        for name in NAMES
        for column in SPECS[name].metadata["dagster/column_schema"].columns
    }
    assert shown["daily_prices", "close"] == ["> 0"]
    assert shown["daily_prices", "source"] == []
    assert shown["treasury_yields", "yield"] == [">= -0.05", "<= 0.3"]
    assert shown["corporate_actions", "kind"] == ["one of split, dividend"]


def test_session_assets_share_one_partitions_definition() -> None:
    first = get_settings().first_session
    for name in SESSION_ASSETS:
        assert SPECS[name].partitions_def is catalog.partitions(), name
        policy = GRAPH.get(node(name)).backfill_policy
        assert policy == dg.BackfillPolicy.multi_run(max_partitions_per_run=252), name
    # a partition is a session: the weekend of New Year 2024 and the holiday are none
    assert catalog.partitions().start.date() == first
    keys = catalog.partitions().get_partition_keys_in_range(dg.PartitionKeyRange("2023-12-28", "2024-01-03"))
    assert keys == ["2023-12-28", "2023-12-29", "2024-01-02", "2024-01-03"]


def test_unpartitioned_are_the_reference_assets() -> None:
    unpartitioned = {name for name in NAMES if name not in SESSION_ASSETS} - KEPT_BESIDE_RUNS
    assert unpartitioned == catalog.UNPARTITIONED
    assert unpartitioned == {name for name in NAMES if SPECS[name].group_name == "reference"}


def test_every_table_is_written_by_one_asset() -> None:
    assert set(catalog.WRITTEN_WITH.values()) <= set(NAMES)
    assert set(NAMES).isdisjoint(catalog.WRITTEN_WITH)
    assert {*NAMES, *catalog.WRITTEN_WITH, *NOT_BY_ASSETS} == set(REGISTRY) - DERIVED
    assert DERIVED
    assert NOT_BY_ASSETS.isdisjoint({*NAMES, *catalog.WRITTEN_WITH})
    for name in set(REGISTRY) - DERIVED:
        table = REGISTRY[name]
        assert catalog.asset_name(table) == catalog.WRITTEN_WITH.get(name, name)


@pytest.mark.parametrize("declared", DECLARED, ids=lambda declared: declared.name)
def test_declared_reads_become_dependencies(declared: SessionAsset) -> None:
    longest: dict[str, int] = {}
    for read in declared.reads.values():
        upstream = catalog.asset_name(read.table)
        longest[upstream] = max(longest.get(upstream, 0), read.look_back_sessions)
        # of a session table as it is now, a re-run would not be the same as the first run
        assert read.kind is not Kind.AS_OF or upstream in catalog.UNPARTITIONED, read
    found = {dep.asset_key.to_user_string(): dep.partition_mapping for dep in SPECS[declared.name].deps}
    assert set(found) == set(longest)
    for upstream, sessions in longest.items():
        mapping = dg.TimeWindowPartitionMapping(start_offset=-sessions, end_offset=0) if sessions else None
        assert found[upstream] == mapping, upstream


def test_look_backs_are_those_of_the_settings() -> None:
    settings = get_settings()
    expected = {
        "daily_prices": settings.max_carried_volatility_age + 1,
        "option_prices": settings.max_carried_volatility_age + 1,
        "treasury_yields": settings.max_yield_age + settings.max_carried_volatility_age + 1,
    }
    for name in ("position_greeks", "position_values"):
        mappings = {dep.asset_key.to_user_string(): dep.partition_mapping for dep in SPECS[name].deps}
        for upstream, sessions in expected.items():
            mapping = mappings[upstream]
            assert isinstance(mapping, dg.TimeWindowPartitionMapping)
            assert (mapping.start_offset, mapping.end_offset) == (-sessions, 0), upstream


@pytest.mark.parametrize(
    ("upstream", "downstream", "session", "needed"),
    [
        # six sessions back over Independence Day and a weekend
        ("daily_prices", "position_values", date(2024, 7, 8), date(2024, 6, 27)),
        ("position_values", "portfolio_exposures", date(2024, 7, 8), date(2024, 7, 8)),
        # what is before the first session is not asked for
        ("daily_prices", "position_values", date(2022, 12, 2), date(2022, 12, 1)),
    ],
)
def test_look_backs_count_sessions(upstream: str, downstream: str, session: date, needed: date) -> None:
    shared = catalog.partitions()
    mapping = GRAPH.get(node(downstream)).partition_mappings.get(node(upstream), dg.TimeWindowPartitionMapping())
    result = mapping.get_upstream_mapped_partitions_result_for_partitions(
        shared.subset_with_partition_keys([session.isoformat()]), shared, shared
    )
    keys = sorted(result.partitions_subset.get_partition_keys())
    expected = shared.get_partition_keys_in_range(dg.PartitionKeyRange(needed.isoformat(), session.isoformat()))
    assert keys == list(expected)


def test_snapshots_depend_on_their_own_previous_session() -> None:
    snapshots = GRAPH.get(node("portfolio_snapshots"))
    assert snapshots.has_self_dependency
    assert snapshots.partition_mappings[node("portfolio_snapshots")] == dg.TimeWindowPartitionMapping(
        start_offset=-1, end_offset=-1
    )
    assert [name for name in NAMES if GRAPH.get(node(name)).has_self_dependency] == ["portfolio_snapshots"]


RULES: dict[str, Sequence[Rule]] = {
    "trading_sessions": [reference_rules.HORIZON],
    "factor_definitions": reference_rules.FACTOR_DEFINITIONS,
    "stress_test_scenarios": reference_rules.STRESS_TEST_SCENARIOS,
    "instruments": reference_rules.INSTRUMENTS,
    "portfolios": [reference_rules.EQUITY_POSITIVE],
    "positions": reference_rules.POSITION_RULES,
    "daily_prices": market_data_rules.DAILY_PRICES,
    "corporate_actions": [market_data_rules.SPLITS_CONTINUOUS],
    "option_prices": market_data_rules.OPTION_CLOSES,
    "treasury_yields": [market_data_rules.YIELDS_COMPLETE],
    "portfolio_snapshots": valuation_rules.SNAPSHOTS,
    "calculation_audit": operations_rules.CALCULATION_AUDIT,
    **{declared.name: declared.rules for declared in DECLARED},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_of_an_asset_is_a_check(name: str) -> None:
    assert checks_of(name) == told(RULES.get(name, []))


@pytest.mark.parametrize("name", sorted(set(NAMES) - KEPT_BESIDE_RUNS))
def test_every_asset_has_a_check_of_what_it_wrote(name: str) -> None:
    """Beside those that only look at the clock."""
    assert checks_of(name)


RULE_MODULES = [
    import_module(f"{checks.__name__}.{found.name}") for found in iter_modules(checks.__path__) if found.name != "rules"
]


def test_every_rule_belongs_to_an_asset() -> None:
    attached = {id(rule) for rules in RULES.values() for rule in rules}
    for module in RULE_MODULES:
        listed = [value for value in vars(module).values() if isinstance(value, (list, tuple))]
        for rule in [*vars(module).values(), *(item for values in listed for item in values)]:
            assert not isinstance(rule, Rule) or id(rule) in attached, rule.name


def test_declared_engines_and_filters() -> None:
    for declared in DECLARED:
        description = SPECS[declared.name].description or ""
        assert f"`{declared.engine.__module__.rsplit('.', 1)[-1]}.{declared.engine.__name__}`" in description
        by_portfolio = "portfolio_id" in declared.table.columns
        assert (SPECS[declared.name].tags.get("filter") == "portfolio") == by_portfolio


def test_a_table_an_asset_writes_itself_is_no_dependency() -> None:
    reads = [*valuation.VALUES.reads.values()]
    names = {dep.asset_key.to_user_string() for dep in catalog.dependencies(reads, self_name="instruments")}
    assert "instruments" not in names
    # marks are written with positions: one dependency stands for both
    assert sorted(names) == sorted({catalog.asset_name(read.table) for read in reads} - {"instruments"})


def test_description_starts_with_grain_and_ends_with_the_engine() -> None:
    def engine() -> None:
        """What it computes,
        in two lines.

        And how.
        """

    table = tables.portfolio_exposures
    parts = catalog.described(table, "More.", engine).split("\n\n")
    assert parts == [table.comment, "More.", "Engine `test_catalog.engine`: What it computes, in two lines."]
    assert catalog.described(table) == table.comment


def test_the_audit_depends_on_everything_that_is_audited() -> None:
    by_run = {name for name in SESSION_ASSETS if SPECS[name].group_name in ("valuation", "factors", "risk")}
    assert by_run <= {dep.asset_key.to_user_string() for dep in SPECS["calculation_audit"].deps}
    assert all(not GRAPH.get(node(name)).is_materializable for name in KEPT_BESIDE_RUNS)


@pytest.mark.parametrize("order", list(permutations((0, 5, 20))))
def test_of_several_reads_of_one_table_the_longest_counts(order: tuple[int, ...]) -> None:
    table = tables.daily_returns
    reads = [look_back(table, sessions=count) if count else on_sessions(table) for count in order]
    (dep,) = catalog.dependencies(reads)
    assert dep.partition_mapping == dg.TimeWindowPartitionMapping(start_offset=-20, end_offset=0)
