"""What can go wrong with settings, servers, prices and ranges: one sentence each, an exit status, nothing changed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from functools import partial

import pytest

from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.cli.commands import SESSIONS, CommandLine, on_server, together, write_prices


@pytest.fixture(scope="module")
def cli(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """An installation whose one import, of a stock and an option on it, waits to be applied."""
    folder = tmp_path_factory.mktemp("errors")
    write_prices(folder)
    (folder / "my.csv").write_text(
        "ticker,quantity,entry_price,entry_date\nAAA,100,100,2024-01-02\nAAA240315C00100000,-1,5,2024-01-02\n"
    )
    with on_server(server, folder) as commands:
        commands("import", "my.csv", "--name", "My book", "--equity", "1000000", "--no-run")
        yield commands


def test_settings_that_cannot_be_used_are_named(cli: CommandLine) -> None:
    cases = [
        ("SIGMASIGHT_PRICE_SOURCE", "nonsense", "SIGMASIGHT_PRICE_SOURCE cannot be 'nonsense': input should be"),
        ("SIGMASIGHT_FIRST_SESSION", "abc", "SIGMASIGHT_FIRST_SESSION cannot be 'abc': input should be a valid date"),
        ("SIGMASIGHT_HOME", "my.csv", "my.csv/dagster cannot be made (Not a directory); set SIGMASIGHT_HOME"),
        ("SIGMASIGHT_DATABASE_URL", "mysql://u:hidden@h/x", "SIGMASIGHT_DATABASE_URL is mysql://u:***@h/x; write it"),
        (
            "SIGMASIGHT_DATABASE_URL",
            "postgresql://u:hidden@127.0.0.1:1/x",
            "No PostgreSQL server answers at 127.0.0.1:1",
        ),
    ]
    sentences = together(partial(cli.fails, "status", changes={name: value}) for name, value, _ in cases)
    for (*case, said), sentence in zip(cases, sentences, strict=True):
        assert said in sentence, case
        assert "hidden" not in sentence


def test_a_wrong_password(cli: CommandLine) -> None:
    wrong = {
        name: cli.variables[name].replace(cli.secrets[0], "hidden")
        for name in ("SIGMASIGHT_DATABASE_URL", "DAGSTER_DATABASE_URL")
    }
    for sentence in together(partial(cli.fails, "backfill", changes={name: url}) for name, url in wrong.items()):
        assert 'refused the password of role "sigmasight"' in sentence
        assert "hidden" not in sentence


def test_a_database_that_is_missing_empty_or_newer(cli: CommandLine, server: EmbeddedServer, database_url: str) -> None:
    missing = server.url("test_missing")
    absent, empty = together(
        partial(cli.fails, "status", changes={"SIGMASIGHT_DATABASE_URL": url}) for url in (missing, database_url)
    )
    assert 'Database "test_missing" does not exist' in absent
    assert "run `sigmasight db upgrade`" in empty

    (version,) = cli.rows("SELECT version_num FROM sigmasight.alembic_version")[0]
    cli.execute("UPDATE sigmasight.alembic_version SET version_num = '9999'")
    try:
        before = cli.contents()
        commands = (["status"], ["import", "my.csv", "--name", "X", "--equity", "5"], ["db", "upgrade"])
        for sentence in together(partial(cli.fails, *command) for command in commands):
            assert f"is at migration 9999, newer than this code's {version}" in sentence
        assert cli.contents() == before
    finally:
        cli.execute(f"UPDATE sigmasight.alembic_version SET version_num = '{version}'")


def test_prices_that_cannot_be_read(cli: CommandLine) -> None:
    none, empty, malformed = (cli.folder / name for name in ("none", "empty", "malformed"))
    empty.mkdir()
    malformed.mkdir()
    (malformed / "prices.csv").write_text("symbol,date,close\nAAA,2024-01-02,100\nAAA,2024-01-03,1x0\n")
    before = cli.contents()
    said = together(
        partial(cli.fails, "backfill", changes={"SIGMASIGHT_FILES_DIR": str(f)}) for f in (none, empty, malformed)
    )
    assert f"the folder of the files source, {none}, does not exist: create it" in said[0]
    assert f"{empty} has neither prices.csv nor prices.parquet: put one there" in said[1]
    assert said[2] == f"{malformed}/prices.csv, line 3: close is '1x0'; expected a number or nothing"
    assert cli.contents() == before


def test_ranges_that_cannot_be_run(cli: CommandLine) -> None:
    cases = [
        ("--portfolio nope", 2, "unknown portfolio(s) nope; known: my-book"),
        ("--from 2023-02-01 --to 2023-03-01", 2, "prices are available for 2024-01-02 to 2024-02-15"),
        ("--from 2024-02-30", 2, "--from 2024-02-30: write the date as YYYY-MM-DD"),
        ("--from 2024-02-01 --to 2024-01-02", 2, "--from 2024-02-01 lies after --to 2024-01-02"),
        ("--form 2024-02-01", 2, "No such option: --form"),
    ]
    before = cli.contents()
    sentences = together(partial(cli.fails, "backfill", *case.split(), status=status) for case, status, _ in cases)
    for (case, _, said), sentence in zip(cases, sentences, strict=True):
        assert said in sentence, case
    assert cli.contents() == before


def test_a_taken_port(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = cli.fails("dev", "--port", port)
    assert said == f"cannot listen on 127.0.0.1:{port} (Address already in use); choose another with --port"


def test_what_fails_inside_a_run_is_one_sentence(cli: CommandLine) -> None:
    """An engine's and the source's own words, without the names of classes and steps' wrappers."""
    actions = cli.folder / "market" / "corporate_actions.csv"
    actions.write_text("symbol,ex_date,kind,split_from,split_to,cash_amount\nAAA,2024-01-11,split,two,3,\n")
    said = cli.fails("backfill", "--to", "2024-01-12", status=1)
    assert "(daily 2024-01-02 to 2024-01-12 (9 sessions)) failed: market_prices: " in said
    assert said.endswith(f"{actions}, line 2: split_from is 'two'; expected a number or nothing")
    assert cli.rows("SELECT count(*) FROM sigmasight.daily_prices") == [(0,)]

    actions.write_text("symbol,ex_date,kind,split_from,split_to,cash_amount\nAAA,2024-01-11,split,2,3,\n")
    said = cli.fails("backfill", "--to", "2024-01-12", status=1)
    assert "the check corporate_actions.value_continuous_through_splits failed: " in said
    assert "2024-01-11: AAA: value changed by " in said

    write_prices(cli.folder, factors={("AAA", day): Decimal("0.67") for day in SESSIONS if day >= date(2024, 1, 11)})
    said = cli.fails("backfill", "--to", "2024-01-12", status=1)
    assert ": position_values: " in said
    assert said.count("AAA240315C00100000") == 1

    write_prices(cli.folder)
    actions.unlink()
    said = cli.fails("backfill", "--from", "2024-01-08", "--to", "2024-01-12", status=1)
    assert "portfolio_snapshots: my-book cannot be valued at 2024-01-08: there is no snapshot of the session" in said
    assert said.endswith("2024-01-05; run from the first missing session")
    assert cli.rows("SELECT count(*) FROM sigmasight.portfolio_snapshots") == [(0,)]
