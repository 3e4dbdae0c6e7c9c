"""A domain rule, its verdict per session, and the two places a verdict goes: the Dagster UI and a table.

What belongs here: the shape of a rule and of a verdict. What does not: the rules themselves (the sibling
modules) and schema rules (``checks.schema``).

A range run yields one Dagster evaluation without partition, so the verdicts per session are rows of
``data_quality_results`` and the evaluation names the failing sessions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from importlib.util import find_spec
from typing import Any, Literal

import dagster as dg
import polars as pl

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import polars_schema

Severity = Literal["ERROR", "WARN"]

SHOWN_SESSIONS = 20
SHOWN_FINDINGS = 20

FINDINGS: dict[str, pl.DataType] = {
    "session_date": pl.Date(),
    "portfolio_id": pl.Int64(),
    "detail": pl.String(),
}
"""What a rule returns: one row per thing it objects to; portfolio_id is NULL where it concerns all of them."""

FIGURES: dict[str, pl.DataType] = {"session_date": pl.Date(), "figure": pl.String(), "value": pl.Float64()}
"""What a rule measures, whether it objects or not: named figures by session."""


def measured(frame: pl.DataFrame | None = None) -> pl.DataFrame:
    """`frame` (it has the columns of FIGURES) as a rule's figures; none without."""
    if frame is None:
        return pl.DataFrame(schema=FIGURES)
    return frame.select(pl.col(name).cast(dtype) for name, dtype in FIGURES.items())


@dataclass(frozen=True)
class Judged:
    """What a rule may look at: the rows just written, what they were made from, and the database after the write.

    A rule judges `sessions` (oldest first) of `portfolio_ids` (None: of all portfolios), which its run computed, and
    nothing else: what is wrong with others is nothing this run could put right, and must not stop it.
    """

    sessions: Sequence[date]
    frame: pl.DataFrame
    inputs: Mapping[str, pl.DataFrame]
    database: Database
    portfolio_ids: Sequence[int] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def owners(self) -> list[int] | None:
        """The portfolios the run computed, for a query; None: all of them."""
        return None if self.portfolio_ids is None else list(self.portfolio_ids)


@dataclass(frozen=True)
class Rule:
    """One data-quality rule of an asset. ERROR blocks what is downstream, WARN does not.

    `measure` gives the figures (FIGURES) that stand beside its verdict, passed or not. `peer` is a module that judges
    and need not be installed: without it the rule objects to nothing, and its verdict says that it was not judged.
    """

    name: str
    severity: Severity
    description: str
    judge: Callable[[Judged], pl.DataFrame]
    measure: Callable[[Judged], pl.DataFrame] | None = None
    peer: str | None = None

    def spec(self, asset: str) -> dg.AssetCheckSpec:
        """The rule as Dagster shows it on the asset."""
        return dg.AssetCheckSpec(
            name=self.name, asset=asset, description=self.description, blocking=self.severity == "ERROR"
        )

    def verdict(self, judged: Judged) -> Verdict:
        """Judge, and sort what was found by session."""
        if self.peer is not None and find_spec(self.peer) is None:
            absent = f"not judged: {self.peer} is not installed"
            return Verdict(rule=self, sessions=tuple(judged.sessions), findings=nothing(), not_judged=absent)
        found = self.judge(judged).select(pl.col(name).cast(dtype) for name, dtype in FINDINGS.items())
        if judged.owners is not None:
            found = found.filter(pl.col("portfolio_id").is_null() | pl.col("portfolio_id").is_in(judged.owners))
        findings = found.sort("session_date", "detail")
        figures = measured() if self.measure is None else self.measure(judged)
        return Verdict(rule=self, sessions=tuple(judged.sessions), findings=findings, figures=figures)


@dataclass(frozen=True)
class Verdict:
    """What a rule found in the sessions of one run."""

    rule: Rule
    sessions: tuple[date, ...]
    findings: pl.DataFrame
    figures: pl.DataFrame = field(default_factory=measured)
    not_judged: str | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return self.findings.is_empty()

    @classmethod
    def stored(cls, rule: Rule, rows: Sequence[Mapping[str, Any]]) -> Verdict:
        """The verdict rows of ``data_quality_results`` (session_date, passed, description) amount to."""
        failed = [row for row in rows if not row["passed"]]
        found = pl.DataFrame(
            {
                "session_date": [row["session_date"] for row in failed],
                "portfolio_id": [None] * len(failed),
                "detail": [row["description"] for row in failed],
            },
            schema=FINDINGS,
        )
        return cls(rule, tuple(row["session_date"] for row in rows), found)

    def __add__(self, other: Verdict) -> Verdict:
        """The verdict on the sessions of both."""
        return Verdict(
            self.rule,
            (*self.sessions, *other.sessions),
            pl.concat([self.findings, other.findings]),
            pl.concat([self.figures, other.figures]),
            self.not_judged or other.not_judged,
        )

    @property
    def failing_sessions(self) -> list[date]:
        """Sessions something was found in, oldest first."""
        return self.findings["session_date"].unique().sort().to_list()

    def dagster_result(self, asset: str) -> dg.AssetCheckResult:
        """The evaluation for the UI: how many sessions failed, the first of them, and what was found."""
        failing = self.failing_sessions
        metadata: dict[str, dg.MetadataValue | int | str] = {
            "sessions_checked": len(self.sessions),
            "sessions_failing": len(failing),
        }
        if failing:
            metadata["failing_sessions"] = ", ".join(day.isoformat() for day in failing[:SHOWN_SESSIONS])
            metadata["findings"] = dg.MetadataValue.md(
                "\n".join(
                    f"- {row['session_date']}: {row['detail']}"
                    for row in self.findings.head(SHOWN_FINDINGS).iter_rows(named=True)
                )
            )
        return dg.AssetCheckResult(
            asset_key=asset,
            check_name=self.rule.name,
            passed=self.passed,
            severity=dg.AssetCheckSeverity[self.rule.severity],
            description=self.sentence,
            metadata=metadata,
        )

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if self.not_judged is not None:
            return self.not_judged
        if self.passed:
            return f"passed on {len(self.sessions)} session(s)"
        first = self.findings.row(0, named=True)
        return (
            f"{self.findings.height} finding(s) on {len(self.failing_sessions)} of {len(self.sessions)} "
            f"session(s), first {first['session_date']}: {first['detail']}"
        )

    def rows(self, asset: str, run_id: str, checked_at: datetime) -> pl.DataFrame:
        """One row of ``data_quality_results`` per session."""
        found = {
            day: (count, shown, portfolio_ids)
            for day, count, shown, portfolio_ids in self.findings.group_by("session_date", maintain_order=True)
            .agg(
                pl.len(),
                pl.col("detail").head(SHOWN_FINDINGS),
                pl.col("portfolio_id").drop_nulls().unique().sort(),
            )
            .iter_rows()
        }
        figures = {
            day: dict(zip(names, values, strict=True))
            for day, names, values in self.figures.sort("figure", maintain_order=True)
            .group_by("session_date", maintain_order=True)
            .agg("figure", "value")
            .iter_rows()
        }
        passed = self.not_judged or "passed"
        # a finding may concern a session outside the run (a gap before it); its verdict belongs there too
        days = sorted({*self.sessions, *found})
        return pl.DataFrame(
            {
                "session_date": days,
                "asset": [str(asset)] * len(days),  # SQLAlchemy's name type is a str that Polars cannot take
                "check_name": [self.rule.name] * len(days),
                "run_id": [run_id] * len(days),
                "severity": [self.rule.severity] * len(days),
                "passed": [day not in found for day in days],
                "description": ["; ".join(found[day][1]) if day in found else passed for day in days],
                "metadata": [_metadata(found.get(day), figures.get(day)) for day in days],
                "checked_at": [checked_at] * len(days),
            },
            schema=polars_schema(tables.data_quality_results),
        )


def _metadata(found: tuple[int, list[str], list[int]] | None, figures: Mapping[str, float] | None) -> str | None:
    """What is behind a verdict, as JSON: how many findings, of which portfolios (none: of all), and its figures.

    `found`: how many findings of a session, those that are shown, and the portfolios concerned.
    """
    told: dict[str, Any] = {}
    if found is not None:
        told["findings"], _, told["portfolio_ids"] = found
    if figures is not None:
        told["figures"] = dict(figures)
    return json.dumps(told) if told else None


def findings(frame: pl.DataFrame, detail: pl.Expr) -> pl.DataFrame:
    """Rows of `frame` (it has ``session_date``) as findings, `detail` telling what is wrong with each."""
    portfolio = pl.col("portfolio_id") if "portfolio_id" in frame.columns else pl.lit(None, dtype=pl.Int64)
    return frame.select("session_date", portfolio.alias("portfolio_id"), detail.alias("detail"))


def nothing() -> pl.DataFrame:
    """No findings."""
    return pl.DataFrame(schema=FINDINGS)
