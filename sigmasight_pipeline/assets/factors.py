"""Factor assets: factor moments, betas of symbols, factor exposures of positions and portfolios, interest-rate betas.

What belongs here: declarations of what each reads, the engine it calls and its rules. What does not: formulas.
"""

from collections.abc import Mapping

import polars as pl

from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.assets.session_asset import SessionAsset, session_asset
from sigmasight_pipeline.calculations import factor_exposures, factor_model, factor_moments
from sigmasight_pipeline.checks import factor_betas as beta_rules
from sigmasight_pipeline.checks import factor_exposures as exposure_rules
from sigmasight_pipeline.checks import stress as stress_rules
from sigmasight_pipeline.settings import Settings, get_settings
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.windows import Read, as_of, look_back, on_sessions

GROUP = "factors"

REGRESSION_WINDOW = get_settings().regression_window
"""Look-backs become partition mappings, so they are those of the settings the code location was loaded with."""

_RETURNS: dict[str, Read] = {
    "calendar": as_of(tables.trading_sessions),
    "factors": as_of(tables.factor_definitions),
    "returns": look_back(tables.daily_returns, sessions=REGRESSION_WINDOW - 1),
    # a change of the first session of the window needs the yield of the session before
    "yields": look_back(tables.treasury_yields, sessions=REGRESSION_WINDOW),
}

_HELD: dict[str, Read] = {
    "positions": as_of(tables.positions),
    "position_values": on_sessions(tables.position_values),
}


_BETA_FIGURES = ("beta", "beta_raw", "std_error", "r_squared", "n_obs", "quality")


def _window(settings: Settings) -> Mapping[str, object]:
    return {"regression_window": settings.regression_window, "min_observations": settings.min_observations}


def _share(status: str) -> pl.Expr:
    return pl.col(status).is_in(factor_model.KNOWN_BETAS).mean()


FACTOR_CORRELATIONS = SessionAsset(
    table=tables.factor_correlations,
    reads=_RETURNS,
    engine=factor_moments.factor_correlations,
    group=GROUP,
    early=True,
    priced=True,
    code_version="2",
    rules=stress_rules.FACTOR_CORRELATIONS,
    parameters=lambda settings: {**_window(settings), "half_life": settings.factor_half_life},
    figures={"share_of_pairs": _share("status"), "fewest_common_sessions": pl.col("n_obs").min()},
    grain=(tables.factor_definitions, tables.factor_definitions),
)

SYMBOL_FACTOR_BETAS = SessionAsset(
    table=tables.symbol_factor_betas,
    reads={**_RETURNS, "instruments": as_of(tables.instruments)},
    engine=factor_model.symbol_factor_betas,
    group=GROUP,
    early=True,
    priced=True,
    code_version="2",
    rules=beta_rules.SYMBOL_FACTOR_BETAS,
    parameters=lambda settings: {
        **_window(settings),
        "winsorize_min_symbols": settings.winsorize_min_symbols,
        "winsorize_percentile": settings.winsorize_percentile,
        "beta_cap": settings.beta_cap,
    },
    figures={
        "share_with_beta": _share("quality"),
        "mean_market_beta": pl.col("beta").filter(pl.col("factor") == "Market").mean(),
        "winsorised": (pl.col("beta") != pl.col("beta_raw")).sum(),
    },
    grain=(tables.instruments, tables.factor_definitions),
    description="Betas belong to symbols and are computed once however many positions hold them; a run with a "
    "portfolio filter recomputes the session's whole cross-section.",
)

PORTFOLIO_FACTOR_EXPOSURES = SessionAsset(
    table=tables.portfolio_factor_exposures,
    reads={
        **_HELD,
        "calendar": as_of(tables.trading_sessions),
        "portfolios": as_of(tables.portfolios),
        "instruments": as_of(tables.instruments),
        "factors": as_of(tables.factor_definitions),
        "position_greeks": on_sessions(tables.position_greeks),
        "symbol_factor_betas": on_sessions(tables.symbol_factor_betas, columns=_BETA_FIGURES),
        "portfolio_snapshots": on_sessions(tables.portfolio_snapshots),
    },
    engine=factor_exposures.book_factor_exposures,
    beside=("position_factor_exposures",),
    group=GROUP,
    priced=True,
    code_version="3",
    rules=(*exposure_rules.PORTFOLIO_FACTOR_EXPOSURES, *beta_rules.POSITION_INTEREST_RATE_BETAS),
    parameters=lambda settings: {"min_coverage": settings.min_coverage},
    figures={
        **catalog.over_all_portfolios("market_exposure", of="exposure_dollar", where=pl.col("factor") == "Market"),
        "lowest_coverage": pl.col("coverage").filter(pl.col("factor") == "Market").min(),
    },
    grain=(tables.positions, tables.factor_definitions),
    description="Factors overlap: their exposures may add up to more than the net asset value, and that is right. What "
    "each position adds is laid out by the view `staging.position_factor_exposures`.",
)

ASSETS = [
    session_asset(declared)
    for declared in (
        FACTOR_CORRELATIONS,
        SYMBOL_FACTOR_BETAS,
        PORTFOLIO_FACTOR_EXPOSURES,
    )
]
