"""Domain rules of betas: of symbols on factors, and the interest-rate betas of positions.

What belongs here: rules on ``symbol_factor_betas`` as written, and on the interest-rate betas of what is held. What
does not: rules on exposures made of them, and schema rules (``checks.schema``).

`Judged.inputs` are what the engine read: calendar, instruments, factors, returns, yields. `Judged.limits` has
regression_window and min_observations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from zlib import crc32

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sigmasight_pipeline.calculations.factor_exposures import position_interest_rate_betas
from sigmasight_pipeline.calculations.factor_model import KNOWN_BETAS, REGRESSED_INSTRUMENTS
from sigmasight_pipeline.calculations.factor_returns import RATE_KIND, RATE_TENOR, REGRESSED_KINDS
from sigmasight_pipeline.checks.rules import Judged, Rule, findings, nothing

OWN_BETA_TOLERANCE = 1e-9
REFIT_TOLERANCE = 1e-9
REFITTED_ROWS = 2
"""Rows of each session that statsmodels estimates again."""

COVERAGE = 0.8
"""Share of the symbols with enough history that should have a beta on a factor."""

LARGE_BETA = 5.0
VOLATILITY = "Volatility"
VOLATILITY_INSTRUMENT = 0.5
"""Beta on the Volatility factor's proxy from which a symbol is a volatility instrument: a futures fund has about 1."""

LARGEST_WINSORISED_SHARE = 0.05
"""Winsorising at the 1st and 99th percentile moves 2 % of the stocks' betas."""

LARGE_RATE_BETA = 40.0
"""Betas beyond are possible, but more often a wrong price: real equities have -10 to +16 on the 10-year yield."""

DURATION_TOLERANCE = 0.25
"""A bond fund's rate beta is within this share of minus its modified duration."""

_BETA = "{} on {}"
_KEY = ["session_date", "symbol", "factor"]


def _days(judged: Judged) -> pl.DataFrame:
    return pl.DataFrame({"session_date": list(judged.sessions)}, schema={"session_date": pl.Date()})


def _regressed(judged: Judged) -> pl.DataFrame:
    return judged.inputs["factors"].filter(pl.col("active"), pl.col("kind").is_in(REGRESSED_KINDS))


def _expected_rows(judged: Judged) -> pl.DataFrame:
    """Rows that are missing, and rows nothing asks for."""
    priced = judged.inputs["instruments"].filter(pl.col("kind").is_in(REGRESSED_INSTRUMENTS))
    last = pl.col("last_session")
    expected = (
        _days(judged)
        .join(priced.select("symbol", "last_session"), how="cross")
        .filter(last.is_null() | (last >= pl.col("session_date")))
        .join(_regressed(judged).select("factor"), how="cross")
    )
    missing = expected.join(judged.frame, on=_KEY, how="anti")
    surplus = judged.frame.join(expected, on=_KEY, how="anti")
    return pl.concat(
        [
            findings(missing, pl.format(_BETA + " has no row", "symbol", "factor")),
            findings(surplus, pl.format(_BETA + " has a row but is not asked for", "symbol", "factor")),
        ]
    )


EXPECTED_ROWS = Rule(
    "expected_rows",
    "ERROR",
    "Every stock, ETF, fund and index still traded has a row for every active factor and session, nothing else has.",
    _expected_rows,
)


def _own_factor(judged: Judged) -> pl.DataFrame:
    own = judged.frame.filter(pl.col("quality") == "ok").join(
        judged.inputs["factors"].select("factor", symbol="proxy_symbol"), on=["factor", "symbol"]
    )
    off = pl.max_horizontal((pl.col(name) - 1.0).abs() for name in ("beta", "beta_raw"))
    return findings(
        own.filter(off.fill_null(float("inf")) > OWN_BETA_TOLERANCE),
        pl.format(_BETA + ", its own factor: beta is {} (as estimated {})", "symbol", "factor", "beta", "beta_raw"),
    )


OWN_FACTOR = Rule(
    "beta_of_proxies",
    "ERROR",
    f"The beta of a proxy on its own factor, as of the market proxy on Market, is 1 within {OWN_BETA_TOLERANCE:g}.",
    _own_factor,
)

OBSERVATIONS = Rule(
    "observations_within_window",
    "ERROR",
    "No regression has more observations than its window sessions, or fewer than the minimum where it has a beta.",
    lambda judged: findings(
        judged.frame.filter(
            (pl.col("n_obs") > pl.col("window_sessions"))
            | (pl.col("window_sessions") > judged.limits["regression_window"])
            | (pl.col("beta").is_not_null() & (pl.col("n_obs") < judged.limits["min_observations"]))
        ),
        pl.format(_BETA + ": {} observations, {} sessions", "symbol", "factor", "n_obs", "window_sessions"),
    ),
)


@dataclass(frozen=True)
class _Histories:
    """One-session returns of symbols and changes of the Treasury yield, by session number."""

    number_of: Mapping[date, int]
    of_symbols: Mapping[str, Mapping[int, float]]
    of_yield: Mapping[int, float]

    @classmethod
    def of(cls, judged: Judged, symbols: Sequence[str | None]) -> _Histories:
        """Those of `symbols`; deliberately dictionaries, so that they can disagree with the engine's matrices."""
        opened = judged.inputs["calendar"].filter(~pl.col("is_closed")).select("session_date").sort("session_date")
        numbered = opened.with_row_index("number").with_columns(pl.col("number").cast(pl.Int64))
        wanted = (
            judged.inputs["returns"]
            .filter(pl.col("symbol").is_in(symbols), pl.col("sessions_spanned") == 1)
            .join(numbered, on="session_date")
        )
        levels = dict(
            judged.inputs["yields"]
            .filter(pl.col("tenor") == RATE_TENOR, pl.col("observed_date") == pl.col("session_date"))
            .join(numbered, on="session_date")
            .select("number", "yield")
            .iter_rows()
        )
        return cls(
            dict(numbered.select("session_date", "number").iter_rows()),
            {
                str(symbol): dict(rows.select("number", "simple_return").iter_rows())
                for (symbol,), rows in wanted.group_by(["symbol"])
            },
            {number: level - levels[number - 1] for number, level in levels.items() if number - 1 in levels},
        )


def _sample(frame: pl.DataFrame) -> pl.DataFrame:
    """REFITTED_ROWS rows of each session, by a hash of the session, so that other pairs come up from day to day."""
    ordered = frame.filter(pl.col("quality") == "ok").sort(_KEY)
    picked = [
        rows.slice(crc32(f"{day} {draw}".encode()) % rows.height, 1)
        for (day,), rows in ordered.group_by(["session_date"], maintain_order=True)
        for draw in range(REFITTED_ROWS)
    ]
    return pl.concat([ordered.clear(), *picked]).unique(maintain_order=True)


def _refit(judged: Judged) -> pl.DataFrame:
    sample = _sample(judged.frame).join(
        judged.inputs["factors"].select("factor", "kind", "proxy_symbol"), on="factor", maintain_order="left"
    )
    histories = _Histories.of(judged, [*sample["symbol"], *sample["proxy_symbol"]])
    told = [
        {"session_date": row["session_date"], "detail": f"{row['symbol']} on {row['factor']}: {difference}"}
        for row in sample.iter_rows(named=True)
        for difference in _differences(row, histories, int(judged.limits["regression_window"]))
    ]
    return findings(pl.DataFrame(told), pl.col("detail")) if told else nothing()


def _differences(row: Mapping[str, Any], histories: _Histories, window: int) -> Iterator[str]:
    """What statsmodels finds otherwise than `row` says."""
    y = histories.of_symbols.get(str(row["symbol"]), {})
    x = histories.of_yield if row["kind"] == RATE_KIND else histories.of_symbols.get(str(row["proxy_symbol"]), {})
    last = histories.number_of[row["session_date"]]
    both = sorted(number for number in y.keys() & x.keys() if last - window < number <= last)
    if len(both) != row["n_obs"]:
        yield f"n_obs is {row['n_obs']}, the inputs have {len(both)}"
        return
    fitted = _statsmodels(np.array([y[number] for number in both]), np.array([x[number] for number in both]))
    for name, (value, unit) in fitted.items():
        stored = row[name]
        # a perfect fit has no t statistic, where statsmodels divides rounding by rounding
        if stored is None and name == "t_stat":
            continue
        if not isinstance(stored, float) or abs(stored - value) > REFIT_TOLERANCE * max(abs(value), unit):
            yield f"{name} is {stored}, statsmodels finds {value}"


def _statsmodels(y: NDArray[np.float64], x: NDArray[np.float64]) -> dict[str, tuple[float, float]]:
    """Figures of the regression of y on x with intercept, and below what size each is compared absolutely."""
    # its import takes a second, which no process that judges nothing should pay
    from statsmodels.regression.linear_model import OLS  # noqa: PLC0415

    fit = OLS(y, np.column_stack([np.ones(len(x)), x])).fit()
    alpha, beta = fit.params
    spread = float(np.sqrt(fit.centered_tss / fit.df_resid))
    # the residuals of a near-perfect fit carry rounding of 1e-16 of the series, and so does what is made of them
    return {
        "beta_raw": (beta, fit.bse[1]),
        "alpha": (alpha, spread),
        "std_error": (fit.bse[1], abs(beta)),
        "t_stat": (fit.tvalues[1], 1.0 + 1e-6 * fit.tvalues[1] ** 2),
        "p_value": (fit.pvalues[1], 1.0),
        "r_squared": (fit.rsquared, 1.0),
        "residual_volatility": (float(np.sqrt(fit.mse_resid)), spread),
    }


REFIT = Rule(
    "statsmodels_agrees",
    "ERROR",
    f"statsmodels finds the same figures for {REFITTED_ROWS} regressions of every session, chosen by a hash.",
    _refit,
)


def _coverage(judged: Judged) -> pl.DataFrame:
    """Judged by the returns of each symbol alone: what then still has no beta lost it to the factor's gaps."""
    opened = judged.inputs["calendar"].filter(~pl.col("is_closed"))["session_date"].sort()
    window, least = int(judged.limits["regression_window"]), judged.limits["min_observations"]
    # signed: early in the calendar the window begins before the first session
    first = opened.search_sorted(_days(judged)["session_date"]).cast(pl.Int64) + 1 - window
    spans = _days(judged).with_columns(begins=opened.gather(first.clip(lower_bound=0)))
    symbols = judged.frame.select("symbol").unique()
    one_session = (
        judged.inputs["returns"].filter(pl.col("sessions_spanned") == 1).join(symbols, on="symbol", how="semi")
    )
    counts = (
        one_session.sort("session_date")
        .with_columns(so_far=pl.int_range(1, pl.len() + 1).over("symbol"))
        .select("session_date", "symbol", "so_far")
    )

    def counted(before: pl.Expr) -> pl.DataFrame:
        """Returns of each symbol up to a date of each session."""
        asked = spans.with_columns(until=before).join(symbols, how="cross").sort("until")
        return asked.join_asof(
            counts, left_on="until", right_on="session_date", by="symbol", coalesce=False, check_sortedness=False
        ).select("session_date", "symbol", pl.col("so_far").fill_null(0))

    history = counted(pl.col("session_date")).join(
        counted(pl.col("begins").dt.offset_by("-1d")), on=["session_date", "symbol"], suffix="_before"
    )
    enough = history.filter(pl.col("so_far") - pl.col("so_far_before") >= least)
    share = pl.col("quality").is_in(KNOWN_BETAS).mean()
    low = (
        judged.frame.filter(pl.col("quality") != "factor_without_data")
        .join(enough, on=["session_date", "symbol"], how="semi")
        .group_by("session_date", "factor")
        .agg(share=share, symbols=pl.len())
        .filter(pl.col("share") < COVERAGE)
    )
    return findings(
        low,
        pl.format(
            "{}: only {}% of {} symbols with enough history have a beta",
            "factor",
            (pl.col("share") * 100).round(1).cast(pl.String),
            "symbols",
        ),
    )


BETA_COVERAGE = Rule(
    "beta_coverage",
    "WARN",
    f"At least {COVERAGE:.0%} of the symbols with enough history have a beta on every factor that has data.",
    _coverage,
)


def _large(judged: Judged) -> pl.DataFrame:
    """Volatility instruments are told by what they are sensitive to, which no list of symbols could keep up with."""
    slope = pl.col("beta").abs()
    of_volatility = judged.frame.filter((pl.col("factor") == VOLATILITY) & (slope >= VOLATILITY_INSTRUMENT))
    large = (
        judged.frame.filter(slope > LARGE_BETA)
        .join(judged.inputs["factors"].filter(pl.col("kind") == RATE_KIND), on="factor", how="anti")
        .join(of_volatility, on=["session_date", "symbol"], how="anti")
    )
    return findings(large, pl.format(_BETA + ": beta {}", "symbol", "factor", pl.col("beta").round(2).cast(pl.String)))


LARGE_BETAS = Rule(
    "large_betas",
    "WARN",
    f"No beta is beyond {LARGE_BETA:g} either way, but on the rate factor and of volatility instruments (a beta on "
    f"{VOLATILITY} of {VOLATILITY_INSTRUMENT:g} or more either way), whose betas are large by nature.",
    _large,
)


def _winsorized(judged: Judged) -> pl.DataFrame:
    changed = (
        judged.frame.filter(pl.col("beta").is_not_null())
        .group_by("session_date")
        .agg(betas=pl.len(), changed=(pl.col("beta") != pl.col("beta_raw")).sum())
        .filter(pl.col("changed") > LARGEST_WINSORISED_SHARE * pl.col("betas"))
    )
    percent = (pl.col("changed") / pl.col("betas") * 100).round(2).cast(pl.String)
    return findings(changed, pl.format("{} of {} betas ({}%) are winsorised or capped", "changed", "betas", percent))


WINSORIZED = Rule(
    "winsorised_share",
    "WARN",
    f"At most {LARGEST_WINSORISED_SHARE:.0%} of the betas are winsorised or capped: more than the tails winsorising is "
    "meant for.",
    _winsorized,
)

FACTORS_WITHOUT_DATA = Rule(
    "factors_without_data",
    "WARN",
    "Every active factor has returns in its window.",
    lambda judged: findings(
        judged.frame.filter(pl.col("quality") == "factor_without_data")
        .select("session_date", "factor")
        .unique()
        .join(judged.inputs["factors"], on="factor"),
        pl.format("{} ({}) has no return", "factor", pl.col("proxy_symbol").fill_null(RATE_TENOR)),
    ),
)

SYMBOL_FACTOR_BETAS: Sequence[Rule] = (
    EXPECTED_ROWS,
    OWN_FACTOR,
    OBSERVATIONS,
    REFIT,
    BETA_COVERAGE,
    LARGE_BETAS,
    WINSORIZED,
    FACTORS_WITHOUT_DATA,
)


def _rate_betas(judged: Judged, *, bond_funds: bool) -> pl.DataFrame:
    """Rows with a beta, and the duration of bond funds."""
    known = judged.inputs["instruments"].select("symbol", "duration")
    names = ("factors", "positions", "instruments", "position_values", "symbol_factor_betas")
    of_positions = position_interest_rate_betas(
        sessions=judged.sessions, **{name: judged.inputs[name] for name in names}
    )
    rows = of_positions.filter(pl.col("ir_beta").is_not_null()).join(known, on="symbol", how="left")
    return rows.filter(pl.col("duration").is_not_null() == bond_funds)


_RATE_BETA = pl.col("ir_beta").round(2).cast(pl.String)

BOND_FUNDS_NEGATIVE = Rule(
    "bond_funds_negative",
    "WARN",
    "A bond fund (an instrument with a duration) loses when yields rise.",
    lambda judged: findings(
        _rate_betas(judged, bond_funds=True).filter(pl.col("ir_beta") >= 0),
        pl.format("position {} ({}): rate beta {}", "position_id", "symbol", _RATE_BETA),
    ),
)

BOND_FUND_DURATION = Rule(
    "bond_fund_duration",
    "WARN",
    f"A bond fund's rate beta is within {DURATION_TOLERANCE:.0%} of minus its duration.",
    lambda judged: findings(
        _rate_betas(judged, bond_funds=True).filter(
            (pl.col("ir_beta") + pl.col("duration")).abs() > DURATION_TOLERANCE * pl.col("duration")
        ),
        pl.format("position {} ({}): rate beta {}, duration {}", "position_id", "symbol", _RATE_BETA, "duration"),
    ),
)

LARGE_RATE_BETAS = Rule(
    "large_rate_betas",
    "WARN",
    f"No rate beta other than a bond fund's is beyond {LARGE_RATE_BETA:g} either way.",
    lambda judged: findings(
        _rate_betas(judged, bond_funds=False).filter(pl.col("ir_beta").abs() > LARGE_RATE_BETA),
        pl.format("position {} ({}): rate beta {}", "position_id", "symbol", _RATE_BETA),
    ),
)

POSITION_INTEREST_RATE_BETAS: Sequence[Rule] = (BOND_FUNDS_NEGATIVE, BOND_FUND_DURATION, LARGE_RATE_BETAS)
