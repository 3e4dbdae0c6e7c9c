"""Rules of ``calculation_audit``: a row for every portfolio and engine, and nothing that should be there missing.

What belongs here: judging the audit as written. What does not: what should be there (``calculations.completeness``),
and the rules of the audited tables themselves (the sibling modules).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from sigmasight_pipeline.calculations.completeness import (
    ALL_PORTFOLIOS,
    ESTIMATES,
    PORTFOLIO_ENGINES,
    PURGED,
    SYMBOL_ENGINES,
)
from sigmasight_pipeline.calculations.portfolio_lives import lives
from sigmasight_pipeline.checks.rules import Judged, Rule, findings

EVERYBODY = "all portfolios"

_SESSION = "session_date"


def _with_code(judged: Judged, frame: pl.DataFrame) -> pl.DataFrame:
    codes = judged.inputs["portfolios"].select("portfolio_id", "code")
    return frame.join(codes, on="portfolio_id", how="left").with_columns(pl.col("code").fill_null(EVERYBODY))


def _rows(judged: Judged) -> pl.DataFrame:
    """Open portfolios and engines without a row; those of engines by symbol stand for all portfolios."""
    # the audit has rows before an inception, which say that nothing is expected
    books = lives(judged.inputs["portfolios"]).select("portfolio_id", "closing_date")
    if judged.portfolio_ids is not None:
        books = books.filter(pl.col("portfolio_id").is_in(list(judged.portfolio_ids)))
    everybody = pl.DataFrame({"portfolio_id": [ALL_PORTFOLIOS], "closing_date": [date.max]}, schema=books.schema)
    pairs = pl.concat(
        [
            owners.join(pl.DataFrame({"engine": [engine.name for engine in engines]}), how="cross")
            for owners, engines in ((books, PORTFOLIO_ENGINES), (everybody, SYMBOL_ENGINES))
        ]
    )
    days = pl.DataFrame({_SESSION: list(judged.sessions)}, schema={_SESSION: pl.Date()})
    due = days.join(pairs, how="cross").filter(pl.col(_SESSION) <= pl.col("closing_date"))
    gone = due.join(judged.frame, on=[_SESSION, "portfolio_id", "engine"], how="anti")
    return findings(_with_code(judged, gone), pl.format("{} has no row of {}", "code", "engine"))


ROW_PER_ENGINE = Rule(
    "row_per_portfolio_and_engine",
    "ERROR",
    "Every portfolio has a row per engine and session, every engine that works by symbol one for all of them.",
    _rows,
)


def _named(judged: Judged, frame: pl.DataFrame, text: str) -> pl.DataFrame:
    """One finding per session and portfolio, naming the engines of `frame` with their reasons."""
    each = pl.format(f"{{}} {text}", "engine", "reason")
    by_portfolio = (
        _with_code(judged, frame)
        .sort("engine")
        .group_by(_SESSION, "portfolio_id", "code", maintain_order=True)
        .agg(engines=each.str.join(", "))
        .with_columns(pl.col("portfolio_id").replace(ALL_PORTFOLIOS, None))
    )
    return findings(by_portfolio, pl.format("{}: {}", "code", "engines"))


NOTHING_MISSING = Rule(
    "nothing_missing",
    "WARN",
    "What should be there of every portfolio and engine is there (`sigmasight gaps --fill` computes what is not).",
    lambda judged: _named(
        judged,
        judged.frame.filter(
            pl.col("status").is_in(["missing", "partial"]), pl.col(_SESSION).is_in(list(judged.sessions))
        ),
        "({})",
    ),
)

WINDOWS_FULL = Rule(
    "windows_full",
    "ERROR",
    "No beta was estimated from fewer returns than are stored of its window (`sigmasight gaps --fill` computes those "
    "that were anew).",
    lambda judged: _named(
        judged,
        judged.frame.filter(
            pl.col("engine") == ESTIMATES,
            pl.col("reason").str.starts_with("estimated from"),
            pl.col(_SESSION).is_in(list(judged.sessions)),
        ),
        "({})",
    ),
)

NOTHING_UNEXPECTED = Rule(
    "nothing_unexpected",
    "WARN",
    "No rows are there where none belong: before inception, of nothing held, on sessions that end no week.",
    lambda judged: _named(
        judged,
        judged.frame.filter(
            # a range computed anew puts back what was removed for its age; the next purge takes it again
            pl.col("status") == "not_expected",
            pl.col("reason") != PURGED,
            pl.col("rows_present") > 0,
        ),
        "(rows there: {})",
    ),
)

CALCULATION_AUDIT: Sequence[Rule] = (ROW_PER_ENGINE, NOTHING_MISSING, WINDOWS_FULL, NOTHING_UNEXPECTED)
