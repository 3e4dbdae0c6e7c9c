"""What a person sees in the Dagster UI, in a real browser: the asset graph, and the pages of assets."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import groupby

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import Table

from sigmasight_pipeline.checks import stress as stress_rules
from sigmasight_pipeline.checks import valuation as valuation_rules
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.definitions import defs
from sigmasight_pipeline.settings import get_settings
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR, import_demo, installation, run_history
from sigmasight_pipeline_tests.end_to_end.webserver import Webserver, dev

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MILLISECONDS = 120_000

FIRST, LAST = date(2024, 1, 2), date(2024, 1, 8)

ASSETS_OF = {
    str(group): [spec.key.to_user_string() for spec in specs]
    for group, specs in groupby(
        sorted(defs.resolve_all_asset_specs(), key=lambda spec: str(spec.group_name)), lambda spec: spec.group_name
    )
}
"""Names of the assets by group."""

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")]


@pytest.fixture(scope="module")
def ui(server: EmbeddedServer) -> Iterator[Webserver]:
    with temporary_home() as home, installation(server, home, first_session="2023-09-01") as opened:
        import_demo(opened)
        run_history(opened, FIRST, LAST)
        with dev(home) as running:
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def page(ui: Webserver, browser: Browser) -> Iterator[Page]:
    # large enough that a graph is not zoomed out, which would cut names, and nothing has to be scrolled into view
    opened = browser.new_page(base_url=ui.url, viewport={"width": 3600, "height": 3600})
    opened.set_default_timeout(PATIENCE_MILLISECONDS)
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    yield opened
    opened.close()


def test_the_graph_has_six_groups() -> None:
    assert set(ASSETS_OF) == {"reference", "market_data", "valuation", "factors", "risk", "operations"}
    assert {"symbol_factor_betas", "portfolio_factor_exposures"} <= set(ASSETS_OF["factors"])
    assert {"stress_test_results", "portfolio_risk_metrics", "pnl_attribution"} <= set(ASSETS_OF["risk"])


@pytest.mark.parametrize("group", ASSETS_OF)
def test_the_graph_shows_every_asset_in_its_group(page: Page, group: str) -> None:
    """Of one opened group and the closed others, the graph shows the assets of the opened one."""
    page.goto(f"/asset-groups?expanded=global@global:{group}")
    for name in (*ASSETS_OF, *ASSETS_OF[group]):
        expect(page.get_by_text(name, exact=True).first).to_be_attached()
    for other in ASSETS_OF.keys() - {group}:
        for name in ASSETS_OF[other]:
            expect(page.get_by_text(name, exact=True)).to_have_count(0)


@pytest.mark.parametrize(
    ("table", "group", "engine", "figures"),
    [
        (
            tables.portfolio_snapshots,
            "valuation",
            "snapshots.portfolio_snapshots",
            ("net_asset_value_all_portfolios", "daily_pnl_all_portfolios"),
        ),
        (
            tables.stress_test_results,
            "risk",
            "stress.stress_results",
            ("worst_impact", "worst_pnl", "share_with_figure"),
        ),
    ],
    ids=lambda value: str(getattr(value, "name", "")),
)
def test_the_page_of_an_asset_says_what_it_is_and_plots_its_figures(
    page: Page, table: Table, group: str, engine: str, figures: Sequence[str]
) -> None:
    page.goto(f"/assets/{table.name}")
    shown = [
        str(table.comment),
        engine,
        get_settings().asset_owners[0].removeprefix("team:"),
        group,
        "Polars",
        "Postgres",
        table.fullname,
    ]
    for text in (*shown, *(str(column.comment) for column in table.columns)):
        expect(page.get_by_text(text).first).to_be_visible()
    for column in table.columns:
        expect(page.get_by_text(column.name, exact=True).first).to_be_visible()
    page.get_by_role("button", name="Plots").click()
    page.get_by_role("button", name="Events").last.click()
    for figure in (*figures, "dagster/row_count"):
        expect(page.get_by_text(figure, exact=True).first).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()


def test_partitions_are_sessions_and_carry_their_own_figures(page: Page) -> None:
    page.goto(f"/assets/daily_prices?view=partitions&partition={LAST}")
    for text in ("coverage", "dagster/row_count", "Materialized"):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    expect(page.get_by_text(str(CALENDAR.offset(LAST, 1)), exact=True).first).to_be_visible()
    expect(page.get_by_text("2024-01-06", exact=True)).to_have_count(0)  # a Saturday


@pytest.mark.parametrize(
    ("table", "rules", "rule"),
    [
        (tables.portfolio_snapshots, valuation_rules.SNAPSHOTS, "cash_identity"),
        (tables.stress_test_results, stress_rules.STRESS_TEST_RESULTS, "positions_add_up"),
    ],
    ids=lambda value: str(getattr(value, "name", "")),
)
def test_checks_are_named_explained_and_passed(page: Page, table: Table, rules: Sequence[Rule], rule: str) -> None:
    descriptions = {one.name: one.description for one in rules}
    page.goto(f"/assets/{table.name}?view=checks&checkDetail={rule}")
    # and one that the clock evaluates: whether the newest session is there
    expect(page.get_by_text(f"Checks ({len(descriptions) + 1})", exact=True)).to_be_visible()
    for name in descriptions:
        # the list is narrow: long names are cut in the middle
        shown = re.compile(rf"^({name}|{name[:4]}\w*…\w*{name[-4:]})$")
        expect(page.get_by_text(shown).first).to_be_visible()
    expect(page.get_by_text("Passed", exact=True).first).to_be_visible()
    expect(page.get_by_text(descriptions[rule]).first).to_be_visible()
