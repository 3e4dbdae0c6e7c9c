"""Domain rules of correlations: matrices that are matrices, portfolios and clusters that agree with them.

What belongs here: rules on ``pairwise_correlations``, ``correlation_calculations`` and ``correlation_clusters`` (with
``correlation_cluster_positions``, which is written with it) as written. What does not: bounds a row can be judged by
alone (``checks.schema``), and rules on exposures (``checks.exposures``).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from sigmasight_pipeline.calculations.correlations import CLUSTER_CORRELATION, DUPLICATE_CORRELATION
from sigmasight_pipeline.calculations.portfolio_lives import of_alive
from sigmasight_pipeline.calculations.position_prices import EXIT_SOURCES
from sigmasight_pipeline.checks.rules import Judged, Rule, findings
from sigmasight_pipeline.checks.valuation import PORTFOLIO_ROWS

LEAST_QUALITY = 0.8
"""Share of a portfolio's pairs that should have a correlation."""

_KEYS = ["session_date", "portfolio_id"]
_PAIR = "portfolio {}: {} and {}"
_MEMBERS = "correlation_cluster_positions"


def _held_symbols(judged: Judged) -> pl.DataFrame:
    """(session_date, portfolio_id, symbol) of what portfolios hold, options by their underlying."""
    owner = pl.coalesce("underlying_symbol", "symbol")
    public = judged.inputs["positions"].filter(pl.col("investment_class") != "PRIVATE")
    rows = judged.inputs["position_values"].filter(
        ~pl.col("price_source").is_in(EXIT_SOURCES), pl.col("session_date").is_in(list(judged.sessions))
    )
    return (
        of_alive(rows, judged.inputs["portfolios"])
        .drop("symbol")
        .join(public.select("position_id", owner.alias("symbol")), on="position_id")
        .select(*_KEYS, "symbol")
        .unique()
    )


def _pair_rows(judged: Judged) -> pl.DataFrame:
    sizes = judged.frame.group_by(_KEYS).agg(
        rows=pl.len(),
        symbols=pl.col("symbol_1").n_unique(),
        own=(pl.col("symbol_1") == pl.col("symbol_2")).sum(),
    )
    count = pl.col("symbols")
    uneven = sizes.filter((pl.col("rows") != count * count) | (pl.col("own") != count))
    strangers = (
        judged.frame.select(*_KEYS, symbol="symbol_1")
        .unique()
        .join(_held_symbols(judged), on=[*_KEYS, "symbol"], how="anti")
    )
    return pl.concat(
        [
            findings(uneven, pl.format("portfolio {}: {} rows for {} symbols", "portfolio_id", "rows", "symbols")),
            findings(
                strangers, pl.format("portfolio {} has rows of {}, which it does not hold", "portfolio_id", "symbol")
            ),
        ]
    )


PAIR_ROWS = Rule(
    "expected_rows",
    "ERROR",
    "Every two symbols of a portfolio have a row in both directions, every symbol one with itself, held ones only.",
    _pair_rows,
)


def _asymmetric(judged: Judged) -> pl.DataFrame:
    figures = ["correlation", "p_value", "n_obs", "status"]
    turned = judged.frame.select(*_KEYS, *figures, symbol_1="symbol_2", symbol_2="symbol_1")
    keys = [*_KEYS, "symbol_1", "symbol_2"]
    differing = judged.frame.filter(pl.col("symbol_1") < pl.col("symbol_2")).join(turned, on=keys, suffix="_turned")
    wrong = differing.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_turned")) for name in figures))
    return findings(wrong, pl.format(_PAIR + " differ by direction", "portfolio_id", "symbol_1", "symbol_2"))


SYMMETRIC = Rule("symmetric", "ERROR", "A pair has the same figures in both directions, to the last bit.", _asymmetric)

BOUNDED = Rule(
    "bounded",
    "ERROR",
    "Correlations lie in [-1, 1], p-values in [0, 1], and are there exactly where the status is ok.",
    lambda judged: findings(
        judged.frame.filter(
            (pl.col("correlation").abs() > 1)
            | ~pl.col("p_value").is_between(0, 1)
            | (pl.col("correlation").is_null() == (pl.col("status") == "ok"))
        ),
        pl.format(
            _PAIR + ": correlation {} with p {} and status {}",
            "portfolio_id",
            "symbol_1",
            "symbol_2",
            pl.col("correlation").cast(pl.String).fill_null("none"),
            pl.col("p_value").cast(pl.String).fill_null("none"),
            "status",
        ),
    ),
)

UNIT_DIAGONAL = Rule(
    "unit_diagonal",
    "ERROR",
    "The correlation of a symbol with itself is exactly 1, without a p-value.",
    lambda judged: findings(
        judged.frame.filter(
            pl.col("symbol_1") == pl.col("symbol_2"),
            (pl.col("correlation") != 1).fill_null(value=False) | pl.col("p_value").is_not_null(),
        ),
        pl.format("portfolio {}: {} with itself is {}", "portfolio_id", "symbol_1", "correlation"),
    ),
)


def _observations(judged: Judged) -> pl.DataFrame:
    own = judged.frame.filter(pl.col("symbol_1") == pl.col("symbol_2")).select(*_KEYS, "symbol_1", own="n_obs")
    beyond = judged.frame.join(own, on=[*_KEYS, "symbol_1"]).filter(
        (pl.col("n_obs") > pl.col("own")) | (pl.col("correlation").is_not_null() & (pl.col("n_obs") < 3))
    )
    return findings(
        beyond,
        pl.format(_PAIR + ": {} common observations of {}", "portfolio_id", "symbol_1", "symbol_2", "n_obs", "own"),
    )


OBSERVATIONS = Rule(
    "n_obs", "ERROR", "No pair has more observations than either symbol, no correlation fewer than 3.", _observations
)

DUPLICATES = Rule(
    "duplicate_instruments",
    "WARN",
    f"No two symbols of a portfolio are correlated above {DUPLICATE_CORRELATION}: they would be one instrument.",
    lambda judged: findings(
        judged.frame.filter(pl.col("symbol_1") < pl.col("symbol_2"), pl.col("correlation") > DUPLICATE_CORRELATION),
        pl.format(
            _PAIR + " may be one instrument: correlation {}", "portfolio_id", "symbol_1", "symbol_2", "correlation"
        ),
    ),
)

PAIRWISE_CORRELATIONS: Sequence[Rule] = (PAIR_ROWS, SYMMETRIC, BOUNDED, UNIT_DIAGONAL, OBSERVATIONS, DUPLICATES)


def _counts(judged: Judged) -> pl.DataFrame:
    held = _held_symbols(judged).group_by(_KEYS).agg(held=pl.len())
    pairs = judged.inputs["pairwise_correlations"].group_by(_KEYS).agg(paired=pl.col("symbol_1").n_unique())
    included, excluded = pl.col("positions_included"), pl.col("positions_excluded")
    wrong = (
        judged.frame.join(held, on=_KEYS, how="left")
        .join(pairs, on=_KEYS, how="left")
        .with_columns(pl.col("held", "paired").fill_null(0))
        .filter((included != pl.col("paired")) | (included + excluded != pl.col("held")))
    )
    return findings(
        wrong,
        pl.format(
            "portfolio {}: {} symbols included and {} excluded, {} held and {} correlated",
            "portfolio_id",
            "positions_included",
            "positions_excluded",
            "held",
            "paired",
        ),
    )


COUNTS_AGREE = Rule(
    "counts_agree",
    "ERROR",
    "The symbols included are those that were correlated; with the excluded ones they are all that are held.",
    _counts,
)


def _coverage(judged: Judged) -> pl.DataFrame:
    """Portfolios with too few correlations, and which symbols have too few returns for any."""
    low = judged.frame.filter(pl.col("data_quality") < LEAST_QUALITY)
    young = (
        judged.inputs["pairwise_correlations"]
        .filter(pl.col("symbol_1") == pl.col("symbol_2"), pl.col("status") == "insufficient_history")
        .group_by(_KEYS)
        .agg(symbols=pl.col("symbol_1").sort().str.join(", "))
        .select(*_KEYS, named=pl.format(" ({}: too few returns)", "symbols"))
    )
    told = low.join(young, on=_KEYS, how="left").with_columns(pl.col("named").fill_null(""))
    return findings(
        told,
        pl.format("portfolio {}: {}% of its pairs{}", "portfolio_id", (pl.col("data_quality") * 100).round(1), "named"),
    )


COVERAGE = Rule(
    "coverage",
    "WARN",
    f"At least {LEAST_QUALITY:.0%} of the pairs of a portfolio's symbols that vary have a correlation.",
    _coverage,
)

CORRELATION_CALCULATIONS: Sequence[Rule] = (PORTFOLIO_ROWS, COUNTS_AGREE, COVERAGE)


def _cluster_members(judged: Judged) -> pl.DataFrame:
    edges = (
        judged.inputs["pairwise_correlations"]
        .filter(pl.col("symbol_1") != pl.col("symbol_2"), pl.col("correlation") >= CLUSTER_CORRELATION)
        .select(*_KEYS, symbol="symbol_1")
        .unique()
    )
    members = judged.inputs[_MEMBERS].select(*_KEYS, "symbol")
    keys = [*_KEYS, "symbol"]
    return pl.concat(
        [
            findings(
                edges.join(members, on=keys, how="anti"),
                pl.format("portfolio {}: {} is in no cluster", "portfolio_id", "symbol"),
            ),
            findings(
                members.join(edges, on=keys, how="anti"),
                pl.format("portfolio {}: {} is in a cluster without a reason", "portfolio_id", "symbol"),
            ),
            findings(
                members.filter(pl.struct(keys).is_duplicated()).unique(),
                pl.format("portfolio {}: {} is in two clusters", "portfolio_id", "symbol"),
            ),
        ]
    )


CLUSTER_MEMBERS = Rule(
    "expected_rows",
    "ERROR",
    f"Every symbol correlated at {CLUSTER_CORRELATION} or more with another is in one cluster, and no other symbol is.",
    _cluster_members,
)


def _cluster_totals(judged: Judged) -> pl.DataFrame:
    keys = [*_KEYS, "cluster_number"]
    sums = judged.inputs[_MEMBERS].group_by(keys).agg(members=pl.len(), worth=pl.col("value").sum())
    apart = judged.frame.join(sums, on=keys, how="full", coalesce=True).filter(
        pl.col("member_count").ne_missing(pl.col("members").cast(pl.Int32))
        | pl.col("total_value").ne_missing(pl.col("worth"))
    )
    return findings(
        apart, pl.format("portfolio {}: cluster {} is not the sum of its members", "portfolio_id", "cluster_number")
    )


CLUSTER_TOTALS = Rule(
    "cluster_totals", "ERROR", "Count and value of a cluster are those of its members, to the cent.", _cluster_totals
)

CORRELATION_CLUSTERS: Sequence[Rule] = (CLUSTER_MEMBERS, CLUSTER_TOTALS)
