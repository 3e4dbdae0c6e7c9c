"""Factors, scenarios and sectors are data: a row exchanged in a file and a re-run change what they should, no more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from importlib import resources
from pathlib import Path

import polars as pl
import pytest

from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.demo import portfolios
from sigmasight_pipeline.operations import scenarios
from sigmasight_pipeline.operations.launcher import Chunk
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import (
    expect,
    import_demo,
    installation,
    rows,
    run_history,
    run_sessions,
)

FIRST, LAST = date(2024, 1, 2), date(2024, 2, 9)
SHIPPED = resources.files("sigmasight_pipeline.assets")
EXTRA = """
  - id: own_oil_shock
    name: Oil up a fifth
    category: commodity
    severity: mild
    shocks: {Oil: 0.20, Market: -0.03}
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with temporary_home() as folder:
        yield folder


@pytest.fixture(scope="module")
def opened(server: EmbeddedServer, folder: Path) -> Iterator[Installation]:
    files = {"factors_file": folder / "factors.csv", "scenarios_file": folder / "scenarios.yaml"}
    files["factors_file"].write_text(SHIPPED.joinpath("factor_definitions.csv").read_text())
    files["scenarios_file"].write_text(SHIPPED.joinpath("stress_scenarios.yaml").read_text())
    stated = {name: str(path) for name, path in files.items()}
    # 62 sessions before the first: regressions begin to have enough in the first week
    with installation(server, folder / "state", first_session="2023-10-16", **stated) as opened:
        import_demo(opened)
        run_history(opened, FIRST, LAST)
        yield opened


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new))


def again(opened: Installation) -> None:
    expect(opened.launcher.run(Chunk(job="reference")))
    expect(run_sessions(opened, LAST))


def test_too_short_a_history_is_said_and_counted(opened: Installation) -> None:
    betas = rows(opened, tables.symbol_factor_betas)
    enough = pl.col("n_obs") >= 60
    regressed = betas.filter(pl.col("factor") != "Interest_Rate")
    assert set(regressed.filter(~enough)["quality"]) == {"insufficient_history"}
    assert set(regressed.filter(enough)["quality"]) == {"ok", "constant"}, "a money market fund is constant"
    assert regressed.filter(~enough)["beta"].null_count() == regressed.filter(~enough).height > 0
    exposures = rows(opened, tables.portfolio_factor_exposures, [FIRST]).filter(pl.col("positions_total") > 0)
    assert set(exposures["status"]) <= {"low_coverage", "factor_without_data"}
    assert exposures["exposure_dollar"].null_count() == exposures.height
    stress = rows(opened, tables.stress_test_results, [FIRST])
    # a portfolio without positions loses nothing in a shock that needs no moments
    assert set(stress["status"]) <= {"factor_without_data", "low_coverage", "no_positions", "window_not_stored"}
    assert stress.filter(pl.col("status") != "no_positions")["total_pnl"].drop_nulls().is_empty()


def test_another_proxy_is_one_row_and_a_run(opened: Installation, folder: Path) -> None:
    before = rows(opened, tables.symbol_factor_betas, [LAST])
    rewrite(folder / "factors.csv", ",SIZE,", ",IWM,")
    again(opened)
    after = rows(opened, tables.symbol_factor_betas, [LAST])
    size = pl.col("factor") == "Size"
    assert after.filter(~size).equals(before.filter(~size)), "no other factor's figures change"
    of_iwm = after.filter(size & (pl.col("symbol") == "IWM")).row(0, named=True)
    assert of_iwm["beta"] == pytest.approx(1, abs=1e-9)
    of_old = after.filter(size & (pl.col("symbol") == "SIZE")).row(0, named=True)
    assert abs(of_old["beta"] - 1) > 1e-6


def test_a_factor_switched_off_is_gone_and_its_scenarios_say_so(opened: Installation, folder: Path) -> None:
    rewrite(folder / "factors.csv", "Oil,Oil,shock_only,USO,10,true", "Oil,Oil,shock_only,USO,10,false")
    again(opened)
    assert "Oil" not in set(rows(opened, tables.symbol_factor_betas, [LAST])["factor"])
    stress = rows(opened, tables.stress_test_results, [LAST])
    oil = stress.filter(pl.col("scenario_id").is_in(["oil_crash_65", "covid_crash_2020"]))
    assert set(oil["status"]) == {"factor_without_data"}
    assert oil["total_pnl"].null_count() == oil.height, "never counted as 0"
    assert set(stress.filter(pl.col("scenario_id") == "market_crash_35")["status"]) == {"ok"}
    rewrite(folder / "factors.csv", "Oil,Oil,shock_only,USO,10,false", "Oil,Oil,shock_only,USO,10,true")


def test_a_scenario_more_is_a_few_lines(opened: Installation, folder: Path) -> None:
    path = folder / "scenarios.yaml"
    path.write_text(path.read_text().rstrip() + EXTRA)
    again(opened)
    own = rows(opened, tables.stress_test_results, [LAST]).filter(pl.col("scenario_id") == "own_oil_shock")
    assert own.height == len(portfolios.books())
    assert set(own["status"]) == {"ok"}
    path.write_text(path.read_text().rstrip() + "\n    active: false\n")
    again(opened)
    assert "own_oil_shock" not in set(rows(opened, tables.stress_test_results, [LAST])["scenario_id"])
    stored = rows(opened, tables.stress_test_scenarios).filter(pl.col("scenario_id") == "own_oil_shock")
    assert stored["active"].to_list() == [False], "kept, and not computed"


OWN = """
  - id: own_replay
    name: November 2023
    category: replay
    severity: mild
    replay: {from: 2023-11-01, to: 2023-12-01}
  - id: own_contradiction
    name: Growth gains while the market falls
    category: combined
    severity: severe
    shocks: {Market: -0.20, Growth: 0.30, Momentum: -0.40}
"""


def test_scenarios_of_ones_own_say_what_is_applied_of_them(opened: Installation, folder: Path) -> None:
    path, before = folder / "scenarios.yaml", (folder / "scenarios.yaml").read_text()
    path.write_text(before.rstrip() + OWN)
    again(opened)
    session, documents = scenarios.described(opened.database)
    assert session == LAST
    told = {str(document["scenario_id"]): document for document in documents}
    replayed, contradiction = told["own_replay"], told["own_contradiction"]
    assert (replayed["kind"], replayed["status"], replayed["findings"]) == ("replay", "ok", [])
    assert (replayed["window_from"], replayed["window_to"]) == (date(2023, 11, 1), date(2023, 12, 1))
    positions = rows(opened, tables.stress_position_results, [LAST]).filter(scenario_id="own_replay")
    assert set(positions["return_source"]) == {"own"}, "every symbol of the demo traded then"
    proxy = rows(opened, tables.daily_returns).filter(
        pl.col("symbol") == "SPY",
        pl.col("session_date") > date(2023, 11, 1),
        pl.col("session_date") <= date(2023, 12, 1),
    )
    shocks = rows(opened, tables.stress_scenario_shocks, [LAST])
    stated = shocks.filter(scenario_id="own_replay", factor="Market").item(0, "stated")
    assert stated == pytest.approx((1 + proxy["simple_return"]).product() - 1, abs=1e-14)
    finding = "stated shocks not honoured, Growth is stated as 0.3 and applied as -"
    assert str(contradiction["findings"]).startswith(f"['{finding}")
    assert told["covid_crash_2020"]["findings"] == []
    assert scenarios.marks(opened.database, [LAST]) == {(LAST, "own_contradiction"): "stated shocks not honoured"}
    assert "own_contradiction: stated shocks not honoured" in verdict(opened)
    path.write_text(path.read_text().rstrip() + "\n    accepted: It is a question, not a forecast.\n")
    again(opened)
    assert verdict(opened) == "passed"
    assert scenarios.marks(opened.database, [LAST]), "accepted, and marked all the same"
    path.write_text(before)


def verdict(opened: Installation) -> str:
    """What the newest check of stated shocks found."""
    newest = (
        "SELECT description FROM sigmasight.data_quality_results WHERE check_name = 'stated_shocks_honoured' "
        "AND session_date = %s ORDER BY checked_at DESC LIMIT 1"
    )
    return str(opened.database.query(newest, [LAST]).item())


def test_a_wrong_scenario_changes_nothing_and_names_its_line(opened: Installation, folder: Path) -> None:
    path, before = folder / "scenarios.yaml", rows(opened, tables.stress_test_scenarios)
    text = path.read_text()
    path.write_text(text.replace("Oil: 0.20", "Oyl: 0.20"))
    outcome = opened.launcher.run(Chunk(job="reference"))
    path.write_text(text)
    assert not outcome.succeeded
    said = " ".join(outcome.errors)
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "Oil: 0.20" in row)
    assert "Oyl" in said
    assert f"line {line}" in said
    assert rows(opened, tables.stress_test_scenarios).equals(before)
