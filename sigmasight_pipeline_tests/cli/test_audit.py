"""`sigmasight audit` and `sigmasight checks`: what they print, as text and as JSON, and how they end."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from sigmasight_pipeline.cli.console import OptionError, UserError
from sigmasight_pipeline.cli.exit_status import ExitStatus
from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.cli.main import _command_tree, status_of
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import installation
from sigmasight_pipeline_tests.storage import audit_world


@pytest.fixture(scope="module")
def opened(server: EmbeddedServer) -> Iterator[Installation]:
    with temporary_home() as home, installation(server, home) as made:
        audit_world.build(made.database)
        yield made


@pytest.fixture
def faulty(opened: Installation) -> Iterator[Installation]:
    """A broken cash identity, a check of severity ERROR that fails, one of severity WARN, and one that passes."""
    with opened.database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.portfolio_snapshots SET cash_balance = 499.99 "
            "WHERE session_date = '2024-01-08' AND portfolio_id = 2"
        )
        for check, severity, passed in (("cash", "ERROR", False), ("large", "WARN", False), ("rows", "ERROR", True)):
            connection.execute(
                "INSERT INTO sigmasight.data_quality_results VALUES ('2024-01-08', 'portfolio_snapshots', %s, 'run', "
                "%s, %s, 'other: residual 0.01; more of it', '{\"portfolio_ids\": [2]}', now())",
                (check, severity, passed),
            )
    yield opened
    with opened.database.connect() as connection:
        connection.execute("UPDATE sigmasight.portfolio_snapshots SET cash_balance = 500")
        connection.execute("DELETE FROM sigmasight.data_quality_results")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(_command_tree(arguments[0]), list(arguments), env={"COLUMNS": "100"})


def test_a_healthy_page(opened: Installation) -> None:
    done = run("audit")
    assert done.exit_code == 0, done.output
    assert done.stdout.rstrip().endswith("Healthy: nothing was found.")
    assert max(map(len, done.stdout.splitlines())) <= 100
    for words in ("│ book      │", "telescoping", "Prices: 2 symbols on 10 sessions", "first priced on 2024-01-02"):
        assert words in done.stdout


def test_findings_come_with_their_command(faulty: Installation) -> None:
    done = run("audit")
    assert done.exit_code == 1
    assert (
        "ERROR cash_identity (other, 2024-01-08): net asset value is not cash plus market value; worst residual 0.01\n"
        "      sigmasight repair --from 2024-01-08 --to 2024-01-16 --portfolio other\n"
    ) in done.stdout
    assert "2 finding(s) of severity ERROR, 0 of severity WARN" in done.stdout


def test_json_is_one_document(faulty: Installation) -> None:
    done = run("audit", "--json", "--portfolio", "other", "--from", "2024-01-03", "--to", "2024-01-10")
    document = json.loads(done.stdout)
    assert done.exit_code == 1
    assert document["looked_at"]["portfolios"] == ["other"]
    assert [found["code"] for found in document["findings"]] == ["cash_identity", "check_failed"]
    assert document["sections"]["snapshots"][0]["present"] == 6


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--portfolio", "nope"), "unknown portfolio(s) nope; known: book, other"),
        (("--from", "2024-02-01", "--to", "2024-01-01"), "lies after"),
        (("--from", "yesterday"), "--from yesterday: write the date as YYYY-MM-DD"),
    ],
)
def test_what_cannot_be_asked_for_ends_with_2(opened: Installation, arguments: tuple[str, ...], sentence: str) -> None:
    error = run("audit", *arguments).exception
    assert error is not None
    status = error.exit_status if isinstance(error, UserError) else status_of(error)
    assert (status, sentence in str(error)) == (ExitStatus.COULD_NOT, True), error


@pytest.mark.parametrize("spoilt", ["port", "schema"])
def test_a_database_that_cannot_be_read_ends_with_2(
    opened: Installation, monkeypatch: pytest.MonkeyPatch, spoilt: str
) -> None:
    from sigmasight_pipeline.settings import get_settings

    url = "postgresql://nobody:secret@127.0.0.1:1/none" if spoilt == "port" else opened.dagster_url
    with monkeypatch.context() as changed:
        changed.setenv("SIGMASIGHT_DATABASE_URL", url)
        get_settings.cache_clear()
        error = run("audit", "--json").exception
    get_settings.cache_clear()
    assert error is not None
    assert status_of(error) is ExitStatus.COULD_NOT
    assert "secret" not in str(error)


def test_checks_failing_first(faulty: Installation) -> None:
    done = run("checks")
    assert done.exit_code == 1
    first, what, second, *_, last = done.stdout.splitlines()
    assert first == "ERROR portfolio_snapshots.cash: 1 of 1 session(s), 2024-01-08, other"
    assert what == "      2024-01-08: other: residual 0.01 and 1 more"
    assert second.startswith("WARN  portfolio_snapshots.large")
    assert last == "2 check(s) fail, 1 pass on every session they judged."


def test_checks_can_be_chosen(faulty: Installation) -> None:
    warned = run("checks", "--severity", "WARN", "--json")
    assert warned.exit_code == 0, "no ERROR among them"
    document = json.loads(warned.stdout)
    assert document["counts"] == {"failing": 1, "passing": 0}
    assert [row["check_name"] for row in document["checks"]] == ["large"]
    both = json.loads(run("checks", "--failing", "--json").stdout)["checks"]
    assert [row["check_name"] for row in both] == ["cash", "large"]
    assert [row["check_name"] for row in json.loads(run("checks", "--limit", "1", "--json").stdout)["checks"]] == [
        "cash"
    ]
    assert "pass  portfolio_snapshots.rows: 1 session(s)" in run("checks", "--asset", "portfolio_snapshots").stdout
    assert isinstance(run("checks", "--asset", "nope").exception, OptionError)


def test_no_check_has_run(opened: Installation) -> None:
    done = run("checks")
    assert (done.exit_code, done.stdout) == (0, "No check has run yet.\n")
