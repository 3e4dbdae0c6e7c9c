"""What a person sees in the Dagster UI, in a real browser: the asset graph, and the page of the snapshots."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import date
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.definitions import defs
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

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")]


@pytest.fixture(scope="module")
def ui(server: EmbeddedServer) -> Iterator[Webserver]:
    with temporary_home() as home, installation(server, home, first_session="2023-12-01") as opened:
        import_demo(opened)
        run_history(opened, FIRST, LAST)
        with dev(home) as running:
            yield running


@pytest.fixture
def page(ui: Webserver) -> Iterator[Page]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        # tall enough that nothing of a page has to be scrolled into view before it is drawn
        opened = browser.new_page(base_url=ui.url, viewport={"width": 1600, "height": 5000})
        opened.set_default_timeout(PATIENCE_MILLISECONDS)
        expect.set_options(timeout=PATIENCE_MILLISECONDS)
        yield opened
        browser.close()


def test_the_graph_shows_every_asset_in_its_group(page: Page) -> None:
    specs = defs.resolve_all_asset_specs()
    groups = sorted({str(spec.group_name) for spec in specs})
    assert groups == ["factors", "market_data", "reference", "risk", "valuation"]
    page.goto("/asset-groups?expanded=" + quote(",".join(f"global@global:{group}" for group in groups)))
    for name in (*groups, *(spec.key.to_user_string() for spec in specs)):
        # long names are cut in the middle when the graph is zoomed out
        shown = re.compile(rf"^({name}|{name[:4]}\w*…\w*{name[-4:]})$")
        expect(page.get_by_text(shown).first).to_be_attached()


def test_the_page_of_an_asset_says_what_it_is_and_plots_its_figures(page: Page) -> None:
    table = tables.portfolio_snapshots
    page.goto(f"/assets/{table.name}")
    shown = [
        str(table.comment),
        catalog.OWNERS[0].removeprefix("team:"),
        "valuation",
        "Polars",
        "Postgres",
        table.fullname,
    ]
    for text in (*shown, *(str(column.comment) for column in table.columns)):
        expect(page.get_by_text(text).first).to_be_visible()
    page.get_by_role("button", name="Plots").click()
    page.get_by_role("button", name="Events").last.click()
    for figure in ("net_asset_value", "daily_pnl", "dagster/row_count"):
        expect(page.get_by_text(figure, exact=True).first).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()


def test_partitions_are_sessions_and_carry_their_own_figures(page: Page) -> None:
    page.goto(f"/assets/daily_prices?view=partitions&partition={LAST}")
    for text in ("coverage", "dagster/row_count", "Materialized"):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    expect(page.get_by_text(str(CALENDAR.offset(LAST, 1)), exact=True).first).to_be_visible()
    expect(page.get_by_text("2024-01-06", exact=True)).to_have_count(0)  # a Saturday


def test_checks_are_named_explained_and_passed(page: Page) -> None:
    page.goto("/assets/portfolio_snapshots?view=checks&checkDetail=cash_identity")
    for text in ("cash_identity", "net_asset_value_identity", "Passed"):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    expect(page.get_by_text("Net asset value is cash plus market value, exactly.").first).to_be_visible()
