"""What may land in a table at all: the model says what the registry says, and every broken rule is named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import polars as pl
import pytest
from sqlalchemy import Column, Double, Table

from sigmasight_pipeline.checks.schema import SHOWN_FAILURES, InvalidFrameError, pandera_model, validate
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame, polars_schema
from sigmasight_pipeline_tests.storage.sample_rows import rows, weekdays

TABLES = tables.every_table()
DAYS = weekdays(2, date(2024, 1, 2))
VALUES = tables.position_values
GOOD = rows(VALUES, DAYS, 3)
PRICES = rows(tables.daily_prices, DAYS, 3)


def whole(table: Table, count: int = 4) -> pl.DataFrame:
    """Valid rows of any table, the identity the database gives included."""
    alone = names(table.primary_key.columns) == ["session_date"]
    frame = rows(table, weekdays(count, DAYS[0]), 1) if alone else rows(table, DAYS[:1], count)
    given = [column.name for column in table.columns if column.identity is not None]
    identified = frame.with_columns(pl.int_range(1, frame.height + 1, dtype=pl.Int64).alias(name) for name in given)
    return identified.select(names(table.columns))


def names(columns: Any) -> list[str]:
    return [str(column.name) for column in columns]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_model_is_the_registry(table: Table) -> None:
    model = pandera_model(table)
    assert list(model.columns) == names(table.columns)
    assert model.unique == names(table.primary_key.columns)
    assert model.strict
    for column in table.columns:
        assert model.columns[column.name].nullable == bool(column.nullable), column
        assert model.columns[column.name].dtype.type == polars_schema(table)[column.name], column
        # a bound of another name would be stated in the registry and judged by nothing
        assert set(column.info) <= {"ge", "gt", "le", "isin"}, column


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_good_rows_pass_unchanged(table: Table) -> None:
    frame = whole(table)
    assert validate(table, frame).equals(frame)
    shuffled = frame.select(reversed(frame.columns))
    assert validate(table, shuffled).columns == names(table.columns)
    assert validate(table, empty_frame(table)).is_empty()
    nulls = frame.with_columns(
        pl.lit(None, dtype).alias(name)
        for name, dtype in polars_schema(table).items()
        if table.columns[name].nullable and not table.columns[name].primary_key
    )
    assert validate(table, nulls).equals(nulls)


def forbidden(column: Column[Any]) -> list[tuple[object, str]]:
    """Every single value the registry forbids in a column, and the rule's name."""
    found: list[tuple[object, str]] = [] if column.nullable else [(None, "not_nullable")]
    info = column.info
    if "isin" in info:
        found.append(("no such value", "isin"))
    if "ge" in info:
        found.append((info["ge"] - 1, "greater_than_or_equal_to"))
    if "gt" in info:
        found.append((info["gt"], "greater_than"))
    if "le" in info:
        found.append((info["le"] + 1, "less_than_or_equal_to"))
    if isinstance(column.type, Double):
        found += [(float(value), "finite") for value in ("nan", "inf", "-inf")]
    return found


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_forbidden_value_is_named_with_its_column(table: Table) -> None:
    """In each round one value per column, all in the second row: the failures must be exactly as many as were made."""
    frame, schema = whole(table), polars_schema(table)
    rules = {str(column.name): forbidden(column) for column in table.columns}
    for number in range(max(map(len, rules.values()))):
        made = {name: found[number] for name, found in rules.items() if len(found) > number}
        second = pl.int_range(pl.len()) == 1
        bad = frame.with_columns(
            pl.when(second).then(pl.lit(value).cast(schema[name])).otherwise(pl.col(name)).alias(name)
            for name, (value, _) in made.items()
        )
        with pytest.raises(InvalidFrameError) as refused:
            validate(table, bad)
        for name, (value, rule) in made.items():
            told = [one for one in refused.value.failures if one.startswith(f"column {name}: {rule}")]
            assert len(told) == 1, f"{table.name}.{name} = {value!r}: {refused.value.failures}"
            assert told[0].endswith("(row 1)"), told
        columns = {one.split(":")[0].removeprefix("column ") for one in refused.value.failures}
        assert columns == set(made), refused.value.failures


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_must_have_its_type(table: Table) -> None:
    other = {
        name: pl.lit("text") if dtype != pl.String() else pl.lit(1) for name, dtype in polars_schema(table).items()
    }
    with pytest.raises(InvalidFrameError) as refused:
        validate(table, whole(table, 1).with_columns(**other), DAYS)
    typed = [failure for failure in refused.value.failures if ": dtype(" in failure]
    assert [failure.split(":")[0] for failure in typed] == [f"column {name}" for name in other]


Change = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.mark.parametrize(
    ("change", "failures"),
    [
        pytest.param(
            lambda f: f.drop("price", "stale"), ["missing column price", "missing column stale"], id="missing"
        ),
        pytest.param(lambda f: f.with_columns(extra=1), ["unknown column extra"], id="unknown"),
        pytest.param(
            lambda f: f.with_columns(market_value=pl.col("market_value").cast(pl.Float64)),
            ["column market_value: dtype('Decimal(precision=20, scale=2)') broken by 'Float64'"],
            id="money as a float",
        ),
        pytest.param(
            lambda f: f.with_columns(price=pl.col("price").cast(pl.Decimal(20, 2))),
            ["column price: dtype('Decimal(precision=20, scale=6)') broken by 'Decimal(precision=20, scale=2)'"],
            id="too few decimals",
        ),
        pytest.param(
            lambda f: f.with_columns(computed_at=pl.col("computed_at").dt.replace_time_zone(None)),
            ["column computed_at: dtype('Datetime(time_unit='us', time_zone='UTC')') broken by"],
            id="instant without a zone",
        ),
        pytest.param(
            lambda f: f.with_columns(session_date=pl.col("session_date").cast(pl.String)),
            ["column session_date: dtype('Date') broken by 'String'"],
            id="sessions as text",
        ),
        pytest.param(
            lambda f: pl.concat([f, f.head(2)]),
            [f"duplicate key session_date {DAYS[0]}, position_id 0 (row 0) and 3 more"],
            id="duplicate key",
        ),
        pytest.param(
            lambda f: f.with_columns(session_date=pl.lit(date(2024, 1, 4))).unique("position_id"),
            ["column session_date: row of a foreign session 2024-01-04"],
            id="foreign session",
        ),
        pytest.param(
            lambda f: f.with_columns(
                weight=pl.lit(float("nan")), price_source=pl.lit("guess"), symbol=pl.lit(None, pl.String)
            ),
            [
                "column weight: finite broken by 'NaN' (row 0) and 5 more",
                "column price_source: isin(['market', ",
                "broken by 'guess' (row 0) and 5 more",
                "column symbol: not_nullable broken by None (row 0) and 5 more",
            ],
            id="all at once",
        ),
    ],
)
def test_refused_with_all_that_is_wrong(change: Change, failures: list[str]) -> None:
    assert validate(VALUES, GOOD, DAYS).equals(GOOD)
    with pytest.raises(InvalidFrameError) as refused:
        validate(VALUES, change(GOOD), DAYS)
    for failure in failures:
        assert failure in str(refused.value)
        assert any(failure in one for one in refused.value.failures), refused.value.failures
    assert str(refused.value).startswith("position_values: ")
    assert "nothing was written" in str(refused.value)


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("close", 0, "greater_than(0) broken by '0.000000' (row 0) and 5 more"),
        ("low", -1, "greater_than(0) broken by '-1.000000' (row 0) and 5 more"),
        ("volume", -0.5, "greater_than_or_equal_to(0) broken by '-0.5' (row 0) and 5 more"),
    ],
)
def test_out_of_bounds_says_the_value_and_how_many(column: str, value: float, rule: str) -> None:
    bad = PRICES.with_columns(pl.lit(value).cast(PRICES.schema[column]).alias(column))
    with pytest.raises(InvalidFrameError) as refused:
        validate(tables.daily_prices, bad, DAYS)
    assert refused.value.failures == [f"column {column}: {rule}"]


def test_bounds_themselves_are_allowed() -> None:
    at = GOOD.with_columns(weight=pl.lit(1.0), price=pl.lit(0).cast(pl.Decimal(20, 6)))
    assert validate(VALUES, at, DAYS).equals(at)
    assert validate(VALUES, at.with_columns(weight=pl.lit(-1.0)), DAYS).height == at.height


def test_sessions_are_judged_only_where_given() -> None:
    assert validate(VALUES, GOOD).equals(GOOD)
    with pytest.raises(InvalidFrameError) as refused:
        validate(VALUES, GOOD, [])
    assert refused.value.failures == [f"column session_date: row of a foreign session {day}" for day in DAYS]


def test_a_long_list_is_cut_and_counted() -> None:
    nulls = GOOD.with_columns(
        pl.lit(None, dtype).alias(name)
        for name, dtype in GOOD.schema.items()
        if not VALUES.columns[name].nullable and name not in ("session_date", "position_id")
    )
    with pytest.raises(InvalidFrameError) as refused:
        validate(VALUES, nulls)
    count = len(refused.value.failures)
    assert count > SHOWN_FAILURES
    assert f"{count} rule(s) broken" in str(refused.value)
    assert f"and {count - SHOWN_FAILURES} more. " in str(refused.value)
    assert refused.value.failures[SHOWN_FAILURES] not in str(refused.value)


def test_the_message_does_not_grow_with_the_rows() -> None:
    many = rows(VALUES, DAYS[:1], 5_000).with_columns(position_id=pl.lit(7, pl.Int64), weight=pl.lit(2.0))
    with pytest.raises(InvalidFrameError) as refused:
        validate(VALUES, many)
    assert len(refused.value.failures) == 2
    assert len(str(refused.value)) < 500
