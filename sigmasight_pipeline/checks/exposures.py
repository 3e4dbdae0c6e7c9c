"""Domain rules of exposures: totals that must tie to the cent, sums of Greeks, and what they leave out.

What belongs here: rules on ``portfolio_exposures`` and ``group_exposures`` as written. What does not: rules on values
and snapshots (``checks.valuation``), on single positions' Greeks (``checks.greeks``), and factor exposures
(``checks.factor_exposures``).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from sigmasight_pipeline.calculations.exposures import GREEKS, SIDES, held
from sigmasight_pipeline.calculations.group_exposures import UNCLASSIFIED
from sigmasight_pipeline.calculations.portfolio_lives import of_alive
from sigmasight_pipeline.checks.rules import Judged, Rule, findings
from sigmasight_pipeline.checks.valuation import PORTFOLIO_ROWS

GREEKS_TOLERANCE = 1e-9
"""Relative to the sum of absolute Greeks: how far two sums of the same numbers in different order may lie apart."""

LARGEST_UNCLASSIFIED = 0.05
"""Share of the gross exposure without a sector from which a breakdown by sector says little."""

PARTITIONS_OF_A_PORTFOLIO = ("sector", "underlying", "position_type")
"""Kinds of group that every position is in exactly one of."""

_KEYS = ["session_date", "portfolio_id"]


def _exposure_ties(judged: Judged) -> pl.DataFrame:
    sides = judged.frame.filter(
        (pl.col("gross_exposure") != pl.col("long_exposure") - pl.col("short_exposure"))
        | (pl.col("net_exposure") != pl.col("long_exposure") + pl.col("short_exposure"))
        | (
            pl.col("gross_exposure")
            != pl.col("stock_exposure") + pl.col("option_exposure") + pl.col("private_exposure")
        )
    )
    return findings(sides, pl.format("portfolio {}: sides and kinds do not add up to gross and net", "portfolio_id"))


EXPOSURES_TIE = Rule(
    "exposures_tie",
    "ERROR",
    "Gross is long less short, net is long plus short, and the kinds add up to gross, to the cent.",
    _exposure_ties,
)


def _delta_adjusted_ties(judged: Judged) -> pl.DataFrame:
    private = judged.inputs["positions"].filter(pl.col("investment_class") == "PRIVATE").select("position_id")
    amounts = pl.concat(
        [
            judged.inputs["position_greeks"].select(*_KEYS, amount="delta_adjusted_exposure"),
            judged.inputs["position_values"].join(private, on="position_id").select(*_KEYS, amount="exposure"),
        ]
    )
    expected = amounts.group_by(_KEYS).agg(expected=pl.col("amount").sum())
    long, short, gross, net = (pl.col(f"delta_adjusted_{side}") for side in SIDES)
    given = pl.col("greeks_status") != "low_coverage"
    wrong = (
        judged.frame.join(expected, on=_KEYS, how="left")
        .with_columns(pl.when(given).then(pl.col("expected").fill_null(0)))
        .filter(gross.ne_missing(long - short) | net.ne_missing(long + short) | net.ne_missing(pl.col("expected")))
    )
    return findings(wrong, pl.format("portfolio {}: delta-adjusted sides and positions do not add up", "portfolio_id"))


DELTA_ADJUSTED_TIE = Rule(
    "delta_adjusted_tie",
    "ERROR",
    "Delta-adjusted gross is long less short, and net long plus short and the sum of positions, to the cent; NULL "
    "where coverage is low.",
    _delta_adjusted_ties,
)


def _greeks_sums(judged: Judged) -> pl.DataFrame:
    rows = judged.inputs["position_greeks"].filter(pl.col("status") != "fallback")
    sums = rows.group_by(_KEYS).agg(
        **{f"sum_{greek}": pl.col(greek).sum() for greek in GREEKS},
        **{f"size_{greek}": pl.col(greek).abs().sum() for greek in GREEKS},
    )
    told = judged.frame.filter(pl.col("greeks_status") != "low_coverage").join(sums, on=_KEYS, how="left")
    return pl.concat(
        [
            findings(
                told.with_columns(pl.col(f"sum_{greek}", f"size_{greek}").fill_null(0.0)).filter(
                    pl.col(greek).is_null()
                    | ((pl.col(greek) - pl.col(f"sum_{greek}")).abs() > GREEKS_TOLERANCE * pl.col(f"size_{greek}"))
                ),
                pl.format(
                    f"portfolio {{}}: net {greek} {{}}, its positions' {{}}",
                    "portfolio_id",
                    _text(greek),
                    _text(f"sum_{greek}"),
                ),
            )
            for greek in GREEKS
        ]
    )


def _text(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String).fill_null("none")


NET_GREEKS = Rule(
    "net_greeks",
    "ERROR",
    "The Greeks of a portfolio are the sums of its positions', fallback rows left out.",
    _greeks_sums,
)


def _percent(share: str) -> pl.Expr:
    return pl.format("{}%", (pl.col(share) * 100).round(1)).fill_null("nothing")


GREEKS_COVERAGE = Rule(
    "greeks_coverage",
    "WARN",
    "Every position has Greeks of its own: none is left out of its portfolio's totals.",
    lambda judged: findings(
        judged.frame.filter(pl.col("greeks_status") != "ok"),
        pl.format(
            "portfolio {}: {}, Greeks of {} of the gross exposure are known",
            "portfolio_id",
            "greeks_status",
            _percent("delta_adjusted_coverage"),
        ),
    ),
)

EXPOSURES: Sequence[Rule] = (PORTFOLIO_ROWS, EXPOSURES_TIE, DELTA_ADJUSTED_TIE, NET_GREEKS, GREEKS_COVERAGE)


def _group_sums(judged: Judged) -> pl.DataFrame:
    """Groups of each kind against the values of positions, which ``portfolio_exposures`` are sums of as well."""
    exposure = pl.col("exposure")
    rows = judged.inputs["position_values"].filter(pl.col("session_date").is_in(list(judged.sessions)))
    whole = (
        of_alive(rows, judged.inputs["portfolios"])
        .group_by(_KEYS)
        .agg(
            long_exposure=exposure.filter(exposure > 0).sum(),
            short_exposure=exposure.filter(exposure < 0).sum(),
            gross_exposure=exposure.abs().sum(),
            net_exposure=exposure.sum(),
            daily_pnl=pl.col("daily_pnl").sum(),
        )
    )
    figures = [f"{side}_exposure" for side in SIDES] + ["daily_pnl"]
    found = []
    for kind in PARTITIONS_OF_A_PORTFOLIO:
        groups = judged.frame.filter(pl.col("group_kind") == kind).group_by(_KEYS).agg(pl.col(figures).sum())
        both = whole.join(groups, on=_KEYS, how="full", coalesce=True, suffix="_of_groups").with_columns(
            pl.selectors.decimal().fill_null(0)
        )
        found += [
            findings(
                both.filter(pl.col(figure) != pl.col(f"{figure}_of_groups")),
                pl.format(
                    f"portfolio {{}}: {figure} of groups by {kind} is {{}}, of positions {{}}",
                    "portfolio_id",
                    _text(f"{figure}_of_groups"),
                    _text(figure),
                ),
            )
            for figure in figures
        ]
    return pl.concat(found)


GROUPS_TIE = Rule(
    "groups_tie",
    "ERROR",
    "Sectors, underlyings and position types each add up to their portfolio, exposure and P&L, to the cent.",
    _group_sums,
)


def _unclassified(judged: Judged) -> pl.DataFrame:
    """Portfolios with too much that has no sector, by dollars, and what that is, for who writes a sectors file."""
    gross = pl.col("gross_exposure")
    unknown = gross.filter(pl.col("group_name") == UNCLASSIFIED).sum()
    shares = (
        judged.frame.filter(pl.col("group_kind") == "sector")
        .group_by(_KEYS)
        .agg(share=unknown.cast(pl.Float64) / gross.sum().cast(pl.Float64))
        .filter(pl.col("share") > LARGEST_UNCLASSIFIED)
    )
    known = judged.inputs["instruments"].filter(pl.col("sector").is_not_null()).select("symbol")
    names = (
        judged.inputs["positions"]
        .select("position_id", symbol=pl.coalesce("underlying_symbol", "symbol"))
        .join(known, on="symbol", how="anti")
    )
    symbols = (
        held(judged.inputs["position_values"])
        .select(*_KEYS, "position_id")
        .join(shares, on=_KEYS)
        .join(names, on="position_id")
        .group_by(*_KEYS, "share")
        .agg(symbols=pl.col("symbol").unique().sort().str.join(", "))
    )
    return findings(
        symbols,
        pl.format(
            "portfolio {}: {}% of its gross exposure has no sector ({}); name them in the file SIGMASIGHT_SECTORS_FILE",
            "portfolio_id",
            (pl.col("share") * 100).round(1),
            "symbols",
        ),
    )


SECTORS_KNOWN = Rule(
    "sectors_known",
    "WARN",
    f"At most {LARGEST_UNCLASSIFIED:.0%} of the dollars of a book are `{UNCLASSIFIED}`: funds and indices that belong "
    "to no sector have one that says so (`fund:bond`).",
    _unclassified,
)

GROUP_EXPOSURES: Sequence[Rule] = (GROUPS_TIE, SECTORS_KNOWN)
