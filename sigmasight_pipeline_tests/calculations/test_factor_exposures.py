"""Factor exposures by hand: which beta a position takes, dollars and their rounding, coverage, every status."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.calculations.exposures import MissingGreeksError
from sigmasight_pipeline.calculations.factor_exposures import (
    book_factor_exposures,
    portfolio_factor_exposures,
    position_factor_exposures,
    position_interest_rate_betas,
)
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, private, sessions_frame, stock

MON, TUE, WED = (date(2024, 3, day) for day in (4, 5, 6))
CALL = "AAA240315C00100000"

FACTORS = frame(
    tables.factor_definitions,
    [
        {"factor": factor, "name": factor, "kind": kind, "display_order": order, "active": active}
        for order, (factor, kind, active) in enumerate(
            [
                ("Oil", "shock_only", True),
                ("Market", "style", True),
                ("Interest_Rate", "rate", True),
                ("Short_Interest", "characteristic", True),
                ("Value", "style", False),
            ]
        )
    ],
)
ACTIVE = ["Interest_Rate", "Market", "Oil", "Short_Interest"]


def beta(symbol: str, factor: str, value: float | None, day: date = TUE, **fields: Any) -> dict[str, Any]:
    """A row of ``symbol_factor_betas``; the raw beta is another one, so that taking it would show."""
    row = {"session_date": day, "symbol": symbol, "factor": factor, "beta": value, "n_obs": 252, "quality": "ok"}
    return row | {"beta_raw": None if value is None else value * 10} | fields


def value(position_id: int, exposure: Any, source: str = "market", day: date = TUE, owner: int = 1) -> dict[str, Any]:
    return {"session_date": day, "position_id": position_id, "portfolio_id": owner, "symbol": f"as of {position_id}",
            "price_source": source, "exposure": exposure}  # fmt: skip


def greeks(position_id: int, adjusted: Any, day: date = TUE, owner: int = 1) -> dict[str, Any]:
    return {"session_date": day, "position_id": position_id, "portfolio_id": owner, "delta_adjusted_exposure": adjusted,
            "status": "fallback" if adjusted is None else "ok"}  # fmt: skip


POSITIONS = [
    stock(1, "AAA", 10, 1, MON),
    option(2, CALL, -1, 1, MON),
    stock(3, "BBB", -5, 1, MON),
    private(4, "AAA", 1, 1, MON),
    stock(5, "AAA", 1, 1, MON),
    option(6, "BBB240315P00100000", 1, 1, MON),
    stock(7, "NEVER", 1, 1, MON),
]
VALUES = [
    value(1, "1000.00"),
    value(2, "-200.00", "model"),
    value(3, "-300.00"),
    value(4, "500.00", "mark"),
    value(5, "0.00", "exit"),
    value(6, "50.00", "carried"),
    value(7, "70.00"),
]
GREEKS = [greeks(1, "1000.00"), greeks(2, "-450.00"), greeks(3, "-300.00"), greeks(6, None), greeks(7, "70.00")]
BETAS = [
    beta("AAA", "Market", 1.5),
    beta("BBB", "Market", 0.333),
    beta("AAA", "Interest_Rate", -4.0, std_error=0.5, r_squared=0.25),
    beta("BBB", "Interest_Rate", None, quality="insufficient_history", n_obs=59),
    beta("AAA", "Oil", None, quality="factor_without_data", n_obs=0),
    beta("BBB", "Oil", None, quality="factor_without_data", n_obs=0),
    beta(CALL, "Market", 99.0),
    beta("AAA", "Value", 5.0),
]

# position: (beta, dollars, quality) by factor
PRIVATE = (None, "0.00", "private")
NO_DATA = (None, None, "factor_without_data")
EXPECTED: dict[int, dict[str, tuple[Any, Any, str]]] = {
    1: {"Interest_Rate": (-4.0, "-4000.00", "ok"), "Market": (1.5, "1500.00", "ok"), "Oil": NO_DATA},
    2: {"Interest_Rate": (-4.0, "1800.00", "ok"), "Market": (1.5, "-675.00", "ok"), "Oil": NO_DATA},
    3: {"Interest_Rate": (None, None, "insufficient_history"), "Market": (0.333, "-99.90", "ok"), "Oil": NO_DATA},
    4: {"Interest_Rate": PRIVATE, "Market": PRIVATE, "Oil": PRIVATE, "Short_Interest": PRIVATE},
    6: {
        "Interest_Rate": (None, None, "insufficient_history"),
        "Market": (0.333, None, "no_delta_adjusted_exposure"),
        "Oil": NO_DATA,
    },
    7: {"Interest_Rate": (None, None, "no_beta"), "Market": (None, None, "no_beta"), "Oil": NO_DATA},
}


def inputs(**rows: Any) -> dict[str, pl.DataFrame]:
    """The frames of the book above, or with other rows by name."""
    made = {
        "positions": (tables.positions, POSITIONS),
        "instruments": (tables.instruments, []),
        "position_values": (tables.position_values, VALUES),
        "position_greeks": (tables.position_greeks, GREEKS),
        "symbol_factor_betas": (tables.symbol_factor_betas, BETAS),
    }
    frames = {name: frame(table, rows.get(name, default)) for name, (table, default) in made.items()}
    return {"factors": rows.get("factors", FACTORS), **frames}


def by_position(result: pl.DataFrame) -> dict[int, dict[str, tuple[Any, Any, str]]]:
    found: dict[int, dict[str, tuple[Any, Any, str]]] = {}
    for row in result.iter_rows(named=True):
        found.setdefault(row["position_id"], {})[row["factor"]] = (row["beta"], row["exposure_dollar"], row["quality"])
    return found


def columns(table: Any) -> dict[str, Any]:
    return {name: dtype for name, dtype in polars_schema(table).items() if name not in PROVENANCE}


def test_positions_by_hand() -> None:
    """Dollars = delta-adjusted exposure x winsorised beta; none at the exit; the reason for every NULL."""
    result = position_factor_exposures(sessions=[TUE], **inputs())
    assert dict(result.schema) == columns(tables.position_factor_exposures)
    wanted = {
        key: {
            factor: (slope, None if dollars is None else Decimal(dollars), quality)
            for factor, (slope, dollars, quality) in ({"Short_Interest": NO_DATA} | of_factor).items()
        }
        for key, of_factor in EXPECTED.items()
    }
    assert by_position(result) == wanted
    keys = result.select("session_date", "position_id", "factor")
    assert keys.equals(keys.sort(keys.columns))
    assert [key for (key,) in keys.select("factor").head(4).iter_rows()] == ACTIVE
    reverse = {name: rows.reverse() for name, rows in inputs().items()}
    assert position_factor_exposures(sessions=[TUE], **reverse).equals(result)


def test_a_held_position_without_a_row_of_greeks_is_an_error() -> None:
    with pytest.raises(MissingGreeksError, match="position 7 has no Greeks at 2024-03-05"):
        position_factor_exposures(sessions=[TUE], **inputs(position_greeks=GREEKS[:-1]))


def test_no_positions_or_factors_is_no_rows() -> None:
    for frames in (inputs(position_values=[]), inputs(factors=FACTORS.clear())):
        assert position_factor_exposures(sessions=[TUE], **frames).is_empty()
    assert position_interest_rate_betas(sessions=[TUE], **_rates(inputs(position_values=[]))).is_empty()


@pytest.mark.parametrize(
    ("adjusted", "slope", "dollars"),
    [
        # ties go to the even cent
        ("0.50", 0.01, "0.00"),
        ("1.50", 0.01, "0.02"),
        ("2.50", 0.01, "0.02"),
        ("-1.50", 0.01, "-0.02"),
        ("9999999999.99", 1.0, "9999999999.99"),
        ("123.45", -16.8, "-2073.96"),
        ("0.00", 3.0, "0.00"),
    ],
)
def test_dollars_are_rounded_once_half_even(adjusted: str, slope: float, dollars: str) -> None:
    frames = inputs(
        position_values=[value(1, adjusted)],
        position_greeks=[greeks(1, adjusted)],
        symbol_factor_betas=[beta("AAA", "Market", slope)],
    )
    result = by_position(position_factor_exposures(sessions=[TUE], **frames))
    assert result[1]["Market"] == (slope, Decimal(dollars), "ok"), (adjusted, slope)


def _rates(frames: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {name: rows for name, rows in frames.items() if name != "position_greeks"}


def test_interest_rate_betas_by_hand() -> None:
    """The view needs no Greeks: a fallback option has its underlying's beta all the same."""
    result = position_interest_rate_betas(sessions=[TUE], **_rates(inputs()))
    assert dict(result.schema) == columns(tables.position_interest_rate_betas)
    assert result.drop("session_date", "portfolio_id").rows() == [
        (1, "AAA", -4.0, 0.5, 0.25, 252, "ok"),
        (2, "AAA", -4.0, 0.5, 0.25, 252, "ok"),
        (3, "BBB", None, None, None, 59, "insufficient_history"),
        (4, "AAA", None, None, None, 0, "private"),
        (6, "BBB", None, None, None, 59, "insufficient_history"),
        (7, "NEVER", None, None, None, 0, "no_beta"),
    ]
    without = FACTORS.filter(pl.col("kind") != "rate")
    for frames in (inputs(factors=without), inputs(symbol_factor_betas=BETAS[:2])):
        rows = position_interest_rate_betas(sessions=[TUE], **_rates(frames))
        assert rows["quality"].to_list() == [*["factor_without_data"] * 3, "private", *["factor_without_data"] * 2]
        assert (rows["ir_beta"].null_count(), rows["n_obs"].to_list()) == (6, [0] * 6)


@pytest.mark.parametrize(
    ("case", "links", "traded"),
    [
        ("not renamed", [], ["AAA", "AAA", "AAA"]),
        ("renamed after Monday", [("AAA", MON, "NEW")], ["AAA", "NEW", "NEW"]),
        ("twice", [("AAA", MON, "MID"), ("MID", TUE, "NEW")], ["AAA", "MID", "NEW"]),
        ("to itself in the end", [("AAA", MON, "MID"), ("MID", TUE, "AAA")], ["AAA", "MID", "MID"]),
        ("another one", [("BBB", MON, "NEW")], ["AAA", "AAA", "AAA"]),
        ("after the run", [("AAA", date(2024, 3, 7), "NEW")], ["AAA", "AAA", "AAA"]),
        ("no successor known", [("AAA", MON, None)], ["AAA", "AAA", "AAA"]),
    ],
)
def test_a_renamed_symbol_takes_the_beta_of_the_name_it_trades_under(
    case: str, links: list[tuple[str, date, str | None]], traded: list[str]
) -> None:
    """As its prices do; of options the underlying is what was renamed, of PRIVATE positions nothing."""
    days = [MON, TUE, WED]
    slopes = {"AAA": -1.0, "MID": -2.0, "NEW": -3.0}
    frames = inputs(
        positions=[POSITIONS[0], POSITIONS[1], POSITIONS[3]],
        position_values=[value(key, 100, day=day) for day in days for key in (1, 2, 4)],
        position_greeks=[greeks(key, 100, day=day) for day in days for key in (1, 2)],
        instruments=[{"symbol": old, "last_session": last, "replaced_by": new} for old, last, new in links],
        symbol_factor_betas=[
            beta(symbol, "Interest_Rate", slope, day) for day in days for symbol, slope in slopes.items()
        ],
    )
    rows = position_interest_rate_betas(sessions=days, **_rates(frames))
    for key in (1, 2):
        own = rows.filter(position_id=key)
        assert own["symbol"].to_list() == traded, (case, key)
        assert own["ir_beta"].to_list() == [slopes[symbol] for symbol in traded], (case, key)
    assert rows.filter(position_id=4)["symbol"].to_list() == ["AAA"] * 3, case
    dollars = position_factor_exposures(sessions=days, **frames).filter(position_id=2, factor="Interest_Rate")
    assert dollars["exposure_dollar"].to_list() == [100 * slopes[symbol] for symbol in traded], case
    for day in days:  # alone as in the range
        alone = position_interest_rate_betas(sessions=[day], **_rates(frames))
        assert alone.equals(rows.filter(session_date=day)), (case, day)


def portfolios(
    frames: dict[str, pl.DataFrame] | None = None, nav: Any = "2000.00", **fields: Any
) -> dict[str, dict[str, Any]]:
    """The rows of portfolio 1 on Tuesday by factor, from the engine of positions."""
    frames = inputs() if frames is None else frames
    nav_rows = [] if nav is None else [{"session_date": TUE, "portfolio_id": 1, "net_asset_value": nav}]
    result = portfolio_factor_exposures(
        sessions=[TUE],
        calendar=sessions_frame([MON, TUE]),
        portfolios=frame(tables.portfolios, [portfolio(1, MON)]),
        factors=frames["factors"],
        positions=frames["positions"],
        position_values=frames["position_values"],
        position_greeks=frames["position_greeks"],
        position_factor_exposures=position_factor_exposures(sessions=[TUE], **frames),
        portfolio_snapshots=frame(tables.portfolio_snapshots, nav_rows),
        **fields,
    )
    assert dict(result.schema) == columns(tables.portfolio_factor_exposures)
    assert result["factor"].to_list() == frames["factors"].filter("active")["factor"].sort().to_list()
    return {row["factor"]: row for row in result.iter_rows(named=True)}


def test_a_book_is_its_positions_and_its_portfolios() -> None:
    frames = inputs()
    nav = frame(tables.portfolio_snapshots, [{"session_date": TUE, "portfolio_id": 1, "net_asset_value": "2000.00"}])
    of_portfolios, of_positions = book_factor_exposures(
        sessions=[TUE],
        calendar=sessions_frame([MON, TUE]),
        portfolios=frame(tables.portfolios, [portfolio(1, MON)]),
        portfolio_snapshots=nav,
        min_coverage=0.75,
        **frames,
    )
    assert of_positions.equals(position_factor_exposures(sessions=[TUE], **frames))
    assert {row["factor"]: row for row in of_portfolios.to_dicts()} == portfolios(min_coverage=0.75)
    assert portfolios(min_coverage=0.75) != portfolios(min_coverage=0.99), "the minimum is passed on"


def test_portfolio_by_hand() -> None:
    """Gross 1,870: 1,000 + 450 + 300 + 70, and 50 of market value for the option without Greeks; 500 are PRIVATE."""
    rows = portfolios(min_coverage=0.75)
    market = rows["Market"]
    assert market["exposure_dollar"] == Decimal("725.10")
    assert market["beta"] == 72510 / 200000
    assert market["coverage"] == 1750 / 1870
    assert market["private_share"] == 500 / 2370
    assert (market["positions_covered"], market["positions_total"], market["status"]) == (3, 5, "ok")
    rate = rows["Interest_Rate"]
    assert (rate["exposure_dollar"], rate["coverage"], rate["status"]) == (Decimal("-2200.00"), 1450 / 1870, "ok")
    assert rate["beta"] == -1.1
    for factor in ("Oil", "Short_Interest"):
        row = rows[factor]
        assert (row["exposure_dollar"], row["beta"], row["status"]) == (None, None, "factor_without_data"), factor
        assert (row["coverage"], row["positions_covered"]) == (0.0, 0), factor
    strict = portfolios()["Interest_Rate"]
    assert (strict["exposure_dollar"], strict["beta"], strict["status"]) == (None, None, "low_coverage")
    assert strict["coverage"] == 1450 / 1870


@pytest.mark.parametrize(
    ("covered", "min_coverage", "status"),
    [(81, 0.8, "ok"), (80, 0.8, "ok"), (79, 0.8, "low_coverage"), (79, 0.79, "ok"), (0, 0.8, "low_coverage")],
)
@pytest.mark.parametrize("private_size", [0, 900])
def test_coverage_is_of_the_gross_of_public_and_option_positions(
    covered: int, min_coverage: float, status: str, private_size: int
) -> None:
    """NEVER has no beta. What is PRIVATE changes neither coverage nor exposure."""
    frames = inputs(
        position_values=[value(1, 1), value(7, -1), value(4, private_size)],
        position_greeks=[greeks(1, covered), greeks(7, covered - 100)],
    )
    row = portfolios(frames, min_coverage=min_coverage)["Market"]
    assert (row["coverage"], row["status"]) == (covered / 100, status)
    assert row["exposure_dollar"] == (Decimal(covered * 3) / 2 if status == "ok" else None)
    assert row["private_share"] == private_size / (100 + private_size)


NOTHING: list[dict[str, Any]] = []


@pytest.mark.parametrize(
    ("case", "rows", "nav", "expected"),
    [
        ("empty", {"position_values": NOTHING}, 100, ("no_positions", 0, 0.0, None, None)),
        ("only an exit", {"position_values": [VALUES[4]]}, 100, ("no_positions", 0, 0.0, None, None)),
        ("only PRIVATE", {"position_values": [VALUES[3]]}, 100, ("no_positions", 0, 0.0, None, 1.0)),
        ("empty and under water", {"position_values": NOTHING}, -1, ("no_positions", 0, 0.0, None, None)),
        ("no snapshot", {"position_values": VALUES[:1]}, None, ("no_net_asset_value", 1500, None, 1.0, 0.0)),
        ("nothing left", {"position_values": VALUES[:1]}, 0, ("no_net_asset_value", 1500, None, 1.0, 0.0)),
        ("under water", {"position_values": VALUES[:1]}, -100, ("no_net_asset_value", 1500, None, 1.0, 0.0)),
        (
            "worthless, with a beta",
            {"position_values": [value(1, 0)], "position_greeks": [greeks(1, 0)]},
            100,
            ("ok", 0, 0.0, None, None),
        ),
        (
            "worthless, without",
            {"position_values": [value(7, 0)], "position_greeks": [greeks(7, 0)]},
            100,
            ("low_coverage", None, None, None, None),
        ),
        (
            "no betas at all",
            {"position_values": VALUES[:1], "symbol_factor_betas": NOTHING},
            100,
            ("factor_without_data", None, None, 0.0, 0.0),
        ),
    ],
)
def test_statuses_of_a_portfolio(case: str, rows: dict[str, Any], nav: Any, expected: tuple[Any, ...]) -> None:
    found = portfolios(inputs(**rows), nav)
    names = ("status", "exposure_dollar", "beta", "coverage", "private_share")
    assert tuple(found["Market"][name] for name in names) == expected, case
    characteristic = found["Short_Interest"]
    assert (characteristic["status"], characteristic["exposure_dollar"]) == ("factor_without_data", None), case


def test_a_characteristic_has_no_dollars_even_with_rows() -> None:
    """A z-score is no slope: multiplied with an exposure it would be no amount of money."""
    frames = inputs(
        symbol_factor_betas=[*BETAS, beta("AAA", "Short_Interest", 2.0), beta("BBB", "Short_Interest", 1.0)]
    )
    rows = position_factor_exposures(sessions=[TUE], **frames).filter(pl.col("position_id") != 4)
    assert rows.filter(factor="Short_Interest")["exposure_dollar"].null_count() == 5
    assert portfolios(frames)["Short_Interest"]["status"] == "factor_without_data"


def test_rows_since_inception_of_active_portfolios_at_open_sessions() -> None:
    frames = inputs(position_values=[])
    result = portfolio_factor_exposures(
        sessions=[MON, TUE, WED],
        calendar=sessions_frame([MON, TUE, WED], closed=[TUE]),
        portfolios=frame(tables.portfolios, [portfolio(3, MON), portfolio(1, WED), portfolio(2, MON, active=False)]),
        factors=FACTORS,
        positions=frames["positions"],
        position_values=frames["position_values"],
        position_greeks=frames["position_greeks"],
        position_factor_exposures=frame(tables.position_factor_exposures, []),
        portfolio_snapshots=frame(tables.portfolio_snapshots, []),
    )
    expected = [(day, key, factor) for day, key in ((MON, 3), (WED, 1), (WED, 3)) for factor in ACTIVE]
    assert result.select("session_date", "portfolio_id", "factor").rows() == expected
