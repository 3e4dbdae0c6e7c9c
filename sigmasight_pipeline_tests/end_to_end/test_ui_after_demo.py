"""What a person sees and does in the Dagster UI after ``sigmasight demo`` and ``sigmasight dev``, in a real browser.

The window of the demo is shortened; everything else is the commands as they are. ``SIGMASIGHT_TEST_PICTURES`` names a
folder for a picture of every page that was looked at.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from sigmasight_pipeline.checks import market_data as price_rules
from sigmasight_pipeline.checks import valuation as valuation_rules
from sigmasight_pipeline.cli.demo import FIRST_SESSION
from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.cli.commands import COMMAND
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR, assert_same, everything, installation
from sigmasight_pipeline_tests.end_to_end.test_ui import ARGUMENTS, CHROMIUM, PATIENCE_MILLISECONDS
from sigmasight_pipeline_tests.end_to_end.webserver import Webserver, dev, waited

LAST = date(2024, 2, 9)
DAYS = CALENDAR.between(FIRST_SESSION, LAST)
JOBS = ("daily", "market_data", "reference")
PAGE_SECONDS = 60.0
"""A page that takes longer than this hangs, however busy the machine is."""

INK = """canvas => {
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 200 && data[i + 2] - data[i + 1] > 80) { count += 1; }
  }
  return count;
}"""
"""Pixels of a plot in the colour of its line; the grid and the letters are grey."""

RUNS = """query Runs($job: String!) { runsOrError(filter: {pipelineName: $job}) { ... on Runs { results {
  runId status parentRunId tags { key value } } } } }"""
BACKFILLS = """{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status
  runs(limit: 100) { id status tags { key value } assetSelection { path } } } } } }"""
MATERIALIZED = """query Statuses($path: [String!]!) { assetNodeOrError(assetKey: {path: $path}) { ... on AssetNode {
  partitionKeys
  partitionStats { numMaterialized numPartitions numFailed numMaterializing } } } }"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]


@pytest.fixture(scope="module")
def opened(server: EmbeddedServer) -> Iterator[Installation]:
    """The demo, made by its command: two months of prices before it, so that betas and value at risk have figures."""
    with temporary_home() as home, installation(server, home, first_session="2023-09-01") as made:
        made.database.close()
        subprocess.run([*COMMAND, "demo", "--through", str(LAST)], cwd=home, check=True, capture_output=True)
        yield made


@pytest.fixture(scope="module")
def ui(opened: Installation) -> Iterator[Webserver]:
    with dev(opened.settings.home_path) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def page(ui: Webserver, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    shown = browser.new_page(base_url=ui.url, viewport={"width": 1600, "height": 1400})
    shown.set_default_timeout(PATIENCE_MILLISECONDS)
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    yield shown
    if folder := os.environ.get("SIGMASIGHT_TEST_PICTURES"):
        shown.screenshot(path=Path(folder) / f"{request.node.name}.png")
    shown.close()


def go(page: Page, path: str, *, until: Locator) -> None:
    """Open a page and wait until something stands on it, which must not take for ever."""
    started = time.monotonic()
    page.goto(path)
    expect(until).to_be_visible()
    assert time.monotonic() - started < PAGE_SECONDS, f"{path} hangs"


def runs_of(ui: Webserver, job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ui.ask(RUNS, job=job)["runsOrError"]["results"]
    return found


def partitions_of(ui: Webserver, asset: str) -> dict[str, Any]:
    found: dict[str, Any] = ui.ask(MATERIALIZED, path=[asset])["assetNodeOrError"]
    return found


def test_the_timeline_shows_the_runs_of_the_demo(page: Page, ui: Webserver) -> None:
    go(page, "/overview/activity/timeline", until=page.get_by_text("sigmasight_pipeline", exact=True).first)
    for job in JOBS:
        expect(page.get_by_title(job, exact=True).first).to_be_visible()
    # how many there are stands beside the code location
    count = sum(len(runs_of(ui, job)) for job in JOBS)
    expect(page.get_by_text(str(count), exact=True).first).to_be_visible()


def test_the_page_of_the_job_lists_its_runs_and_why_they_ran(page: Page, ui: Webserver) -> None:
    (run,) = runs_of(ui, "daily")
    link = page.get_by_role("link", name=run["runId"][:8]).first
    go(page, "/locations/sigmasight_pipeline/jobs/daily/runs", until=link)
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    expect(page.get_by_text(re.compile(rf"{FIRST_SESSION} to {LAST}")).first).to_be_visible()
    expect(page.get_by_text(re.compile("demo")).first).to_be_visible()


@pytest.mark.parametrize(
    ("asset", "figure"),
    [
        ("portfolio_snapshots", "net_asset_value"),
        ("portfolio_risk_metrics", "factor_var_95"),
        ("daily_prices", "coverage"),
    ],
)
def test_plots_over_partitions_have_points(page: Page, asset: str, figure: str) -> None:
    """The newest 120 partitions are plotted: they end with the history of the demo."""
    plots = page.get_by_role("button", name="Plots")
    go(page, f"/assets/{asset}?view=overview", until=plots.first)
    plots.click()
    title = page.get_by_text(re.compile(figure))
    plot = page.locator("div").filter(has=title).filter(has=page.locator("canvas")).last
    canvas = plot.locator("canvas").first
    expect(canvas).to_be_visible()
    canvas.scroll_into_view_if_needed()
    drawn = waited(lambda: canvas.evaluate(INK) or None, f"a line in the plot of {figure}", 30.0)
    assert drawn > len(DAYS)


@pytest.mark.parametrize(
    ("asset", "rules"),
    [("portfolio_snapshots", valuation_rules.SNAPSHOTS), ("daily_prices", price_rules.DAILY_PRICES)],
)
def test_checks_have_verdicts_and_a_history_of_them(page: Page, ui: Webserver, asset: str, rules: Any) -> None:
    names = [rule.name for rule in rules]
    go(page, f"/assets/{asset}?view=checks&checkDetail={names[0]}", until=page.get_by_text("Evaluation result"))
    verdicts = page.get_by_text(re.compile("^(Succeeded|Failed|Warning)$"))
    expect(verdicts.nth(len(names) - 1)).to_be_visible()
    # only the check that the clock evaluates may wait for its first look
    assert page.get_by_text("Not Evaluated", exact=True).count() <= 1
    page.get_by_text("Execution history", exact=True).click()
    expect(page.get_by_text(re.compile("^(Passed|Failed|Warning)$")).first).to_be_visible()
    for never in ("Skipped", "Execution failed"):
        assert page.get_by_text(never, exact=True).count() == 0
    history = """query History($path: [String!]!, $check: String!) {
      assetCheckExecutions(assetKey: {path: $path}, checkName: $check, limit: 1000) { status runId } }"""
    rows = ui.ask(history, path=[asset], check=names[0])["assetCheckExecutions"]
    assert len({row["runId"] for row in rows}) == len(rows), "one row per run"


def test_a_run_of_the_demo_is_executed_again_from_its_page(page: Page, ui: Webserver, opened: Installation) -> None:
    before = everything(opened)
    (run,) = runs_of(ui, "daily")
    again = page.get_by_role("button", name=re.compile("Re-execute all"))
    go(page, f"/runs/{run['runId']}", until=again)
    again.click()

    def ended() -> dict[str, Any] | None:
        started = [one for one in runs_of(ui, "daily") if one["parentRunId"] == run["runId"]]
        return started[0] if started and started[0]["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

    repeated = waited(ended, "the run that was asked for")
    assert repeated["status"] == "SUCCESS"
    assert_same(opened, before)
    go(page, f"/runs/{repeated['runId']}", until=page.get_by_text("Success", exact=True).first)


def test_a_range_launched_from_the_lineage_page_ends_right(page: Page, ui: Webserver, opened: Installation) -> None:
    """Three sessions of every asset: few runs, nothing that was not there before, and not a figure changed."""
    before = everything(opened)
    known = {name: partitions_of(ui, name) for name in ("portfolio_snapshots", "daily_prices")}
    button = page.get_by_role("button", name=re.compile("Materialize all"))
    go(page, "/asset-groups", until=button)
    button.first.click()
    chosen = page.get_by_placeholder(re.compile("^ex:"))
    chosen.fill(f"[{DAYS[-3]}...{DAYS[-1]}]")
    chosen.press("Enter")
    expect(page.get_by_text("3 partitions").first).to_be_visible()
    page.get_by_role("button", name="Launch backfill").click()

    def ended() -> dict[str, Any] | None:
        launched = ui.ask(BACKFILLS)["partitionBackfillsOrError"]["results"]
        done = launched and launched[0]["status"] not in ("REQUESTED", "CANCELING", "FAILING")
        return dict(launched[0]) if done else None

    backfill = waited(ended, "the backfill", 900.0)
    assert backfill["status"] == "COMPLETED_SUCCESS"
    assert {run["status"] for run in backfill["runs"]} == {"SUCCESS"}
    # the reference, the sessions, and what each session makes from the one before
    assert len(backfill["runs"]) <= 4
    assert_same(opened, before)
    assert {name: partitions_of(ui, name) for name in known} == known
    assert known["portfolio_snapshots"]["partitionKeys"][-1] == str(LAST)
    go(page, f"/runs/b/{backfill['id']}", until=page.get_by_text(re.compile("Succeeded|Completed|Success")).first)
