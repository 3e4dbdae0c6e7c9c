"""The product in the Dagster UI: scheduled sessions, backfills launched there, checks, and no secret anywhere."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

import dagster as dg
import polars as pl
import psycopg
import pytest
from polars.testing import assert_frame_equal

from sigmasight_pipeline.assets import factors, operations, reference, risk, valuation
from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.demo import portfolios
from sigmasight_pipeline.operations import backfills
from sigmasight_pipeline.operations.instance import project_folder
from sigmasight_pipeline.operations.launcher import RANGE_END_TAG, RANGE_START_TAG
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import (
    CALENDAR,
    assert_same,
    everything,
    import_demo,
    installation,
    rows,
    run_history,
)
from sigmasight_pipeline_tests.end_to_end.webserver import Webserver, dev, waited
from sigmasight_pipeline_tests.operations.receivers import Webhook, webhook

SHORT = {
    "first_session": "2023-09-01",
    "regression_window": "40",
    "min_observations": "20",
    "correlation_window": "30",
    "accuracy_window": "30",
}
"""Less history than usual: Dagster extends a backfill to every session that looks back on one of it."""

FIRST, LOADED, LAST = date(2024, 1, 2), date(2024, 1, 24), date(2024, 2, 2)
SCHEDULED = date(2024, 1, 25)
BY_NAME = CALENDAR.between(date(2024, 1, 26), date(2024, 1, 31))
BY_SELECTION = CALENDAR.between(date(2024, 2, 1), LAST)

MARKET_DATA = ["daily_prices", "corporate_actions", "option_prices", "treasury_yields", "daily_returns"]
VALUATION = [str(asset.key.path[0]) for asset in valuation.ASSETS]
COMPUTED = [str(asset.key.path[0]) for module in (valuation, factors, risk, operations) for asset in module.ASSETS]
REFERENCE = [str(asset.key.path[0]) for asset in reference.ASSETS]


RANGE_TAGS = (RANGE_START_TAG, RANGE_END_TAG)
UNKNOWN_PORTFOLIO = {"ops": {"position_values": {"config": {"portfolios": ["nobody"]}}}}

EVERYTHING_SECONDS = 1200.0
"""What a backfill of every asset may take: Dagster cuts it into a run per step of the chain, one after another."""

Expected = Callable[[], dict[str, pl.DataFrame]]


@pytest.fixture(scope="module")
def expected(server: EmbeddedServer) -> Expected:
    """Every row through the last session as the launcher computes them in this process, on databases of their own.

    Computed when first asked for, which is while the daemon sleeps between two looks at its backfills.
    """

    @cache
    def compute() -> dict[str, pl.DataFrame]:
        with temporary_home() as home, installation(server, home, **SHORT) as other:
            import_demo(other)
            run_history(other, FIRST, LAST, size=10)
            return everything(other)

    return compute


@pytest.fixture(scope="module")
def told() -> Iterator[Webhook]:
    with webhook() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def opened(server: EmbeddedServer, told: Webhook) -> Iterator[Installation]:
    """An installation loaded through `LOADED`, its Dagster UI and daemon about to start."""
    settings = {**SHORT, "alert_webhook_url": told.url}
    with temporary_home() as home, installation(server, home, **settings) as opened:
        import_demo(opened)
        run_history(opened, FIRST, LOADED)
        yield opened


@pytest.fixture(scope="module")
def ui(opened: Installation) -> Iterator[Webserver]:
    before = dagsters_own_folders()
    with dev(opened.settings.home_path) as running:
        yield running
    report = "; ".join(f"{what} {seconds:.1f} s" for what, seconds in running.seconds.items())
    print(f"\nsigmasight dev: {report}")  # noqa: T201  # shown with -s: what is measured is told, never asserted
    assert dagsters_own_folders() == before, "all state belongs under SIGMASIGHT_HOME"


def dagsters_own_folders() -> set[str]:
    """What Dagster makes beside the dagster.yaml it reads, as far as it is there in the checkout."""
    names = {"storage", "history", "schedules", "logs", ".logs_queue", ".telemetry", ".nux"}
    return {path.name for path in project_folder().iterdir()} & names


def assert_right_through(
    opened: Installation, expected: Expected, last: date, names: Collection[str] | None = None
) -> None:
    """Every table (of `names`, where given) has the expected rows through `last` and none after it."""
    found = everything(opened)
    for name, frame in expected().items():
        if names is not None and name not in names:
            continue
        day = pl.col("ex_date" if name == tables.corporate_actions.name else "session_date")
        assert_frame_equal(found[name], frame.filter(day <= last), check_exact=True)


def assert_green_is_stored(opened: Installation, names: Collection[str], last: date) -> None:
    """No partition of these assets after `last`, the newest session with prices, is materialised."""
    for name in names:
        green = opened.launcher.instance.get_materialized_partitions(dg.AssetKey(name))
        assert max(green) == str(last), f"{name} is green with nothing in it: {sorted(green)[-3:]}"


def test_a_scheduled_session_goes_through_the_daemon(opened: Installation, ui: Webserver) -> None:
    answer = ui.tick("after_close", datetime.combine(SCHEDULED + timedelta(days=1), time(0, 30), UTC))
    (request,) = answer["runRequests"]
    tags = {tag["key"]: tag["value"] for tag in request["tags"]}
    assert tags["dagster/asset_partition_range_start"] == tags["dagster/asset_partition_range_end"] == str(SCHEDULED)
    run = ui.finished_run(ui.launch_run("daily", request["tags"]))
    ui.seconds["scheduled session, launch to success"] = run["endTime"] - run["creationTime"]
    ui.seconds["of which running"] = run["endTime"] - run["startTime"]
    assert rows(opened, tables.portfolio_snapshots, [SCHEDULED]).height == len(portfolios.books())
    again = ui.tick("after_close", datetime.combine(SCHEDULED + timedelta(days=1), time(0, 30), UTC))
    assert not again["runRequests"]
    assert again["skipReason"] == f"{SCHEDULED} is done, the newest snapshot is of {SCHEDULED}"
    assert_green_is_stored(opened, [*MARKET_DATA, *COMPUTED], SCHEDULED)


def spoilt(opened: Installation) -> date:
    """A session with values no engine computed."""
    day = CALENDAR.between(FIRST, LOADED)[3]
    with opened.database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.position_values SET market_value = market_value + 1, stale = true "
            "WHERE session_date = %s",
            (day,),
        )
    return day


def test_a_backfill_of_one_asset_launched_in_the_ui_repairs_it(opened: Installation, ui: Webserver) -> None:
    before = everything(opened)
    launched = ui.launch_backfill([tables.position_values.name], [spoilt(opened)])
    runs = ui.finished_backfill(launched, reaches_on=True)["runs"]
    began, ended = min(run["creationTime"] for run in runs), max(run["endTime"] for run in runs)
    ui.seconds[f"backfill of one asset, {len(runs)} runs, first queued to last ended"] = ended - began
    assert_same(opened, before)


@pytest.mark.slow
def test_backfills_launched_in_the_ui_end_with_right_data(
    opened: Installation, expected: Expected, ui: Webserver
) -> None:
    """Valuation of four new sessions, and at the same time one asset alone that repairs a spoiled session."""
    launched = {
        "backfill of two groups": ui.launch_backfill([*MARKET_DATA, *VALUATION], BY_NAME),
        "backfill of one asset": ui.launch_backfill([tables.position_values.name], [spoilt(opened)]),
    }
    expected()
    for name, backfill in launched.items():
        runs = ui.finished_backfill(backfill, reaches_on=True)["runs"]
        began, ended = min(run["creationTime"] for run in runs), max(run["endTime"] for run in runs)
        ui.seconds[f"{name}, {len(runs)} runs, first queued to last ended"] = ended - began
    # the scheduled session of the test before is among them
    assert_right_through(opened, expected, BY_NAME[-1], [*MARKET_DATA, *VALUATION])
    assert_green_is_stored(opened, [*MARKET_DATA, *VALUATION], BY_NAME[-1])


@pytest.mark.slow
def test_a_backfill_of_every_asset_and_one_of_the_snapshots_alone(
    opened: Installation, expected: Expected, ui: Webserver
) -> None:
    """Reference assets included, as "Materialize all" has it; then the chain from a spoiled session on."""
    launched = ui.launch_backfill([*REFERENCE, *MARKET_DATA, *COMPUTED], [*BY_NAME, *BY_SELECTION])
    ui.finished_backfill(launched, reaches_on=True, patience=EVERYTHING_SECONDS)
    assert_green_is_stored(opened, [*MARKET_DATA, *COMPUTED], LAST)
    assert_right_through(opened, expected, LAST)
    spoiled = CALENDAR.between(FIRST, LOADED)[3]
    with opened.database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.portfolio_snapshots SET net_asset_value = net_asset_value + 1, "
            "cash_balance = cash_balance + 1 WHERE session_date >= %s",
            (spoiled,),
        )
    alone = ui.launch_backfill([tables.portfolio_snapshots.name], [spoiled])
    ui.finished_backfill(alone, reaches_on=True, patience=EVERYTHING_SECONDS)
    assert_right_through(opened, expected, LAST)


ASSETS = """query Assets($days: [String!]) { assetNodes { assetKey { path } groupName description kinds isPartitioned
  owners { ... on TeamAssetOwner { team } }
  metadataEntries { label ... on TableSchemaMetadataEntry { schema { columns { name description } } } }
  ofNone: assetMaterializations(limit: 1) { ...Figures }
  ofDay: latestMaterializationByPartition(partitions: $days) { ...Figures } } }
fragment Figures on MaterializationEvent { metadataEntries {
  label ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } } }"""

PLOTTED = {
    "daily_prices": {"coverage", "symbols"},
    "portfolio_snapshots": {"net_asset_value_all_portfolios", "daily_pnl_all_portfolios"},
    "portfolio_exposures": {"gross_exposure_all_portfolios", "net_exposure_all_portfolios"},
    "position_values": {"market_value_all_portfolios", "daily_pnl_all_portfolios"},
    "portfolio_factor_exposures": {"market_exposure_all_portfolios", "lowest_coverage"},
    "symbol_factor_betas": {"share_with_beta"},
    "stress_test_results": {"worst_impact"},
    "correlation_calculations": {"average_correlation"},
    "portfolio_risk_metrics": {"highest_factor_var_95"},
    "pnl_attribution": {"specific_all_portfolios", "unexplained_all_portfolios"},
}


def test_the_ui_tells_what_every_asset_is(ui: Webserver) -> None:
    nodes = {node["assetKey"]["path"][0]: node for node in ui.ask(ASSETS, days=[str(LOADED)])["assetNodes"]}
    kept = ["batch_runs", "data_quality_results"]  # by what runs, and of every check: no asset of a run writes them
    assert sorted(nodes) == sorted([*REFERENCE, *MARKET_DATA, *COMPUTED, *kept])
    for name, node in nodes.items():
        table = tables.named(name)
        assert node["groupName"] in ("reference", "market_data", "valuation", "factors", "risk", "operations"), name
        assert [owner["team"] for owner in node["owners"]] == ["portfolio-analytics"], name
        assert set(node["kinds"]) == {"postgres", "polars"}, name
        assert node["description"].startswith(str(table.comment)), name
        (schema,) = [entry["schema"] for entry in node["metadataEntries"] if entry["label"] == "dagster/column_schema"]
        described = [(column["name"], column["description"]) for column in schema["columns"]]
        assert described == [(column.name, column.comment) for column in table.columns], name
        assert all(description for _, description in described), name
        if name in kept:
            continue
        assert node["isPartitioned"] == (name not in REFERENCE), name
        (materialized,) = node["ofDay" if node["isPartitioned"] else "ofNone"]
        figures = {entry["label"]: entry for entry in materialized["metadataEntries"]}
        assert figures["dagster/row_count"]["intValue"] >= 0, name
        assert PLOTTED.get(name, set()) <= figures.keys(), name
        assert all(isinstance(figures[figure]["floatValue"], float) for figure in PLOTTED.get(name, ())), name


CHECKS = """query Checks($asset: AssetKeyInput!) { assetNodeOrError(assetKey: $asset) { ... on AssetNode {
  assetChecksOrError { ... on AssetChecks { checks { name description blocking
    executionForLatestMaterialization { status evaluation { success description
      metadataEntries { label ... on IntMetadataEntry { intValue } } } } } } } } } }"""


def test_check_results_are_in_the_ui_and_in_the_table(opened: Installation, ui: Webserver) -> None:
    verdicts = opened.database.read(tables.data_quality_results)
    seen = 0
    for asset in (*MARKET_DATA, *COMPUTED):
        node = ui.ask(CHECKS, asset={"path": [asset]})["assetNodeOrError"]
        for check in node["assetChecksOrError"].get("checks", []):
            if check["name"] in BY_THE_CLOCK:
                continue
            evaluation = check["executionForLatestMaterialization"]["evaluation"]
            stored = verdicts.filter((pl.col("asset") == asset) & (pl.col("check_name") == check["name"]))
            figures = {entry["label"]: entry.get("intValue") for entry in evaluation["metadataEntries"]}
            assert check["description"], (asset, check)
            assert figures["sessions_checked"] > 0, (asset, check)
            assert set(CALENDAR.between(FIRST, LOADED)) <= set(stored["session_date"]), (asset, check["name"])
            seen += 1
    of_runs = pl.col("asset").is_in([*MARKET_DATA, *COMPUTED]) & pl.col("check_name").is_in(BY_THE_CLOCK).not_()
    assert seen == verdicts.filter(of_runs).select("asset", "check_name").unique().height


BY_THE_CLOCK = ("fresh", "no_gap_given_up")
"""Checks that no run of their asset evaluates."""

INSTANCE = """{ instance { info } topLevelResourceDetails: allTopLevelResourceDetailsOrError(
  repositorySelector: {repositoryLocationName: "sigmasight_pipeline", repositoryName: "__repository__"}) {
  ... on ResourceDetailsList { results { name configuredValues { key value type } } } } }"""


def test_the_password_is_nowhere_to_be_read(server: EmbeddedServer, opened: Installation, ui: Webserver) -> None:
    password = server.address().password
    told = str(ui.ask(INSTANCE))
    assert "SIGMASIGHT_DATABASE_URL" in told, "the database resource is shown by the name of its variable"
    assert password not in told
    with psycopg.connect(opened.dagster_url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (name,) in names:
            found = connection.execute(f'SELECT t::text FROM "{name}" t WHERE t::text LIKE %s', (f"%{password}%",))
            assert found.fetchall() == [], name
        bodies = connection.execute("SELECT snapshot_body FROM snapshots").fetchall()
    assert bodies
    assert not [body for (body,) in bodies if password.encode() in zlib.decompress(body)]
    files = [path for path in opened.settings.home_path.rglob("*") if path.is_file()]
    assert any("compute_logs" in path.parts for path in files)
    assert [path for path in files if password.encode() in path.read_bytes()] == []


SENSORS = """{ sensorsOrError(repositorySelector: {repositoryLocationName: "sigmasight_pipeline",
  repositoryName: "__repository__"}) { ... on Sensors { results {
  name description sensorState { status } } } } }"""


def test_sensors_are_off_until_somebody_turns_them_on(ui: Webserver) -> None:
    found = {sensor["name"]: sensor for sensor in ui.ask(SENSORS)["sensorsOrError"]["results"]}
    assert set(found) == {"backfills", "run_status", "alerts", "inbox", "gaps", "restatement"}
    assert {name for name, sensor in found.items() if sensor["sensorState"]["status"] == "RUNNING"} == set()
    assert all(sensor["description"] for sensor in found.values())


class Sensor:
    """A sensor, ticked by the code server with the cursor its last tick left."""

    def __init__(self, ui: Webserver, name: str) -> None:
        self.ui, self.name, self.cursor = ui, name, None

    def __call__(self) -> str:
        answer = self.ui.tick_sensor(self.name, self.cursor)
        self.cursor = answer["cursor"]
        assert answer["runRequests"] in (None, []), "the sensor `backfills` alone launches runs"
        return str(answer["skipReason"])


def ended(opened: Installation, ui: Webserver, what: str) -> backfills.Backfill:
    """The newest range that was asked for, once the daemon has run it."""
    ui.start_sensor("backfills")

    def found() -> backfills.Backfill | None:
        (newest,) = backfills.recent(opened.database, 1)
        assert newest.status != "failed", newest.error
        return newest if newest.status == "completed" else None

    return waited(found, what)


def test_a_gap_is_found_and_filled_by_the_daemon(opened: Installation, ui: Webserver) -> None:
    before, missing = everything(opened), CALENDAR.between(FIRST, LOADED)[7]
    with opened.database.connect() as connection:
        for table in ("portfolio_snapshots", "stress_test_results", "symbol_scenario_returns"):
            connection.execute(f"DELETE FROM sigmasight.{table} WHERE session_date = %s".encode(), (missing,))
    gaps = Sensor(ui, "gaps")
    assert str(missing) in gaps()
    assert ended(opened, ui, "filling the gap").requested_by == "gap"
    # of the sessions run with some groups only it fills the rest too
    assert_same(opened, before, CALENDAR.between(FIRST, LOADED))
    assert gaps().startswith("0 gap(s)")


def test_a_corrected_price_is_followed_by_the_daemon_once(opened: Installation, ui: Webserver) -> None:
    before, changed = everything(opened), CALENDAR.between(FIRST, LOADED)[9]
    with opened.database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.daily_prices SET close = low WHERE symbol = 'AAPL' AND session_date = %s",
            (changed,),
        )
    restatement = Sensor(ui, "restatement")
    assert "AAPL" in restatement()
    assert ended(opened, ui, "following the price").requested_by == "restatement"
    assert_same(opened, before, [day for day in CALENDAR.between(FIRST, LOADED) if day < changed])
    assert rows(opened, tables.portfolio_snapshots, [changed]).height == len(portfolios.books())
    assert not rows(opened, tables.portfolio_snapshots).equals(before["portfolio_snapshots"])
    for table in (tables.treasury_yields, tables.option_prices, tables.corporate_actions):
        assert_frame_equal(rows(opened, table), before[str(table.name)])
    asked = len(backfills.recent(opened.database, 100))
    restatement()
    assert len(backfills.recent(opened.database, 100)) == asked, "a second tick does nothing"


def test_a_dropped_file_becomes_a_book_with_its_history(opened: Installation, ui: Webserver) -> None:
    inbox = opened.settings.inbox_path
    inbox.mkdir(parents=True, exist_ok=True)
    header = "# name: Dropped book\n# equity: 100000\nticker,quantity,entry_price,entry_date\n"
    (inbox / "dropped-book.csv").write_text(f"{header}AAPL,100,180.00,2024-01-08\nBND,200,72.00,2024-01-08\n")
    (inbox / "broken.csv").write_text("ticker,quantity\nAAPL,many\n")
    look = Sensor(ui, "inbox")
    look()
    assert "dropped-book.csv" in look(), "it lay still for two ticks"
    assert ended(opened, ui, "the history of the dropped book").requested_by == "inbox"
    found = opened.database.query(
        "SELECT p.code, min(session_date) AS first, count(*) AS sessions FROM sigmasight.portfolio_snapshots "
        "JOIN sigmasight.portfolios p USING (portfolio_id) GROUP BY 1 ORDER BY 1"
    )
    newest = rows(opened, tables.portfolio_snapshots)["session_date"].max()
    assert isinstance(newest, date)
    first = date(2024, 1, 8)
    assert found.row(by_predicate=pl.col("code") == "dropped-book", named=False) == (
        "dropped-book",
        first,
        len(CALENDAR.between(first, newest)),
    )
    assert list((inbox / "rejected").glob("broken*.errors.txt"))


def test_a_failed_run_is_recorded_and_told_once(opened: Installation, ui: Webserver, told: Webhook) -> None:
    alerts = Sensor(ui, "alerts")
    alerts()  # what failed before anybody listened, the rejected file among it
    told.got.clear()
    run = ui.launch_run("daily", [{"key": tag, "value": str(LOADED)} for tag in RANGE_TAGS], UNKNOWN_PORTFOLIO)
    waited(lambda: ui.status(run) == "FAILURE" or None, "the failure of a run")
    Sensor(ui, "run_status")()
    (row,) = opened.database.query(
        "SELECT status, error_message, partition_start, trigger FROM sigmasight.batch_runs WHERE run_id = %s", (run,)
    ).to_dicts()
    assert (row["status"], row["partition_start"], row["trigger"]) == ("failure", LOADED, "manual")
    assert "unknown portfolio(s) nobody; known: " in row["error_message"]
    alerts()
    (message,) = told.got
    assert "unknown portfolio(s) nobody" in message["text"]
    alerts()
    assert len(told.got) == 1
