"""How a rule is tested: what it judges, one fault planted in it, and what it must say of the fault.

What belongs here: building what a rule looks at, comparing findings, and finding every rule of a module. What does
not: the rules' cases (the test module of each module of rules).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from types import ModuleType
from typing import Any

import polars as pl

from sigmasight_pipeline.checks.rules import Judged, Rule
from sigmasight_pipeline.storage.database import Database

NOWHERE = Database("postgresql://nobody@127.0.0.1:9/none")
"""For rules that must get by without a database."""

LIMITS = {"large_move": 0.5, "split_tolerance": 0.05, "coverage_error": 0.8, "coverage_warning": 0.95,
          "regression_window": 252, "min_observations": 60}  # fmt: skip

Finding = tuple[date, int | None, str]
"""Session, portfolio and the sentence."""


def judged(
    sessions: Sequence[date],
    frame: pl.DataFrame | None = None,
    inputs: Mapping[str, pl.DataFrame] | None = None,
    *,
    database: Database = NOWHERE,
) -> Judged:
    """What a rule may look at, with the limits the settings start with."""
    return Judged(
        sessions=sessions,
        frame=pl.DataFrame() if frame is None else frame,
        inputs=inputs or {},
        database=database,
        limits=LIMITS,
    )


def found(rule: Rule, what: Judged) -> list[Finding]:
    """What the rule finds, as (session, portfolio, sentence); the verdict must be storable as rows too."""
    verdict = rule.verdict(what)
    assert verdict.passed == verdict.findings.is_empty()
    assert verdict.findings["detail"].null_count() == 0, "a finding without a sentence"
    return list(verdict.findings.iter_rows())


def changed(frame: pl.DataFrame, where: Mapping[str, object], **values: Any) -> pl.DataFrame:
    """`frame` with `values` in the rows whose columns are those of `where`; there must be one at least."""
    chosen = pl.all_horizontal(pl.col(name) == value for name, value in where.items())
    assert frame.filter(chosen).height, f"no row has {where}"
    return frame.with_columns(
        pl.when(chosen).then(pl.lit(value).cast(frame.schema[name])).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


def rules_of(module: ModuleType) -> set[str]:
    """Names of the variables of `module` that are rules, or rules listed only in a sequence, by position."""
    own = {id(value) for value in vars(module).values() if isinstance(value, Rule)}
    listed = {
        f"{name}[{number}]"
        for name, value in vars(module).items()
        if isinstance(value, (list, tuple))
        for number, item in enumerate(value)
        if isinstance(item, Rule) and id(item) not in own
    }
    return listed | {name for name, value in vars(module).items() if isinstance(value, Rule)}


def names_of(module: ModuleType, rules: Iterable[Rule]) -> set[str]:
    """The variables of `module` that hold `rules`."""
    tested = {id(rule) for rule in rules}
    return {name for name, value in vars(module).items() if id(value) in tested}
