"""Importing files: what is wrong with one is told line by line, and a wrong one changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import partial

import pytest

from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.cli.commands import LAST, CommandLine, on_server, together, write_prices

HEADER = "ticker,quantity,entry_price,entry_date\n"


@pytest.fixture(scope="module")
def cli(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """An installation with one computed portfolio, `harbor`."""
    folder = tmp_path_factory.mktemp("import")
    write_prices(folder)
    (folder / "harbor.csv").write_text(HEADER + "AAA,100,100,2024-02-01\n")
    with on_server(server, folder) as commands:
        commands("import", "harbor.csv", "--name", "Harbor [one]", "--equity", "50000", "--code", "harbor")
        yield commands


def test_every_error_of_every_row_is_listed_and_nothing_changes(cli: CommandLine) -> None:
    (cli.folder / "bad.csv").write_text(
        "ticker,quantity,entry_price,entry_date,colour\n"
        "AAA,100,99.50,2024-01-02,red\n"
        'AAA,"1,000",99.50,2024-01-03,red\n'
        "BBB,abc,$5,01/02/2024,red\n"
        "# a comment\n"
        "BBB,0,-3,1989-12-29,red\n"
        "AAA,100,99.50,2024-01-02,red\n"
    )
    before = cli.contents()
    done = cli("import", "bad.csv", "--name", "Bad", status=1)
    told = done.error.splitlines()
    assert told[0] == "Error: bad.csv: 9 error(s), nothing was imported:"
    expected = [
        ("column equity", "", "equity_missing"),
        ("line 3, column quantity", "'1,000'", "number_formatted"),
        ("line 4, column quantity", "'abc'", "quantity_not_a_number"),
        ("line 4, column entry_price", "'$5'", "number_formatted"),
        ("line 4, column entry_date", "'01/02/2024'", "date_format"),
        ("line 6, column quantity", "zero", "quantity_zero"),
        ("line 6, column entry_price", "-3", "price_not_positive"),
        ("line 6, column entry_date", "1989-12-29", "date_before_1990"),
        ("line 7, column ticker", "line 2", "duplicate_position"),
    ]
    for line, (place, value, code) in zip(told[1:], expected, strict=True):
        assert line.startswith(f"  {place}: "), line
        assert value in line, line
        assert line.endswith(f"[{code}]"), line
    assert cli.contents() == before


def test_what_is_no_csv_file_is_named(cli: CommandLine) -> None:
    cases = {
        "folder": "folder is a folder; name an ordinary file",
        "none.csv": "none.csv cannot be read (No such file or directory); check the path",
        "large.csv": "large.csv has 11,534,336 bytes, 10,485,760 are allowed; make it smaller",
        "binary.csv": "the text is not UTF-8 (the byte 0x80 does not belong there)",
    }
    (cli.folder / "folder").mkdir()
    (cli.folder / "large.csv").write_bytes(b"x" * 11 * 1024 * 1024)
    (cli.folder / "binary.csv").write_bytes(bytes(range(128, 256)))
    before = cli.contents()
    # what can be read and is wrong is a finding; what cannot be read is none
    ended = together(
        partial(cli, "import", name, "--name", "Bad", "--equity", "5", status=1 if name == "binary.csv" else 2)
        for name in cases
    )
    for (name, said), done in zip(cases.items(), ended, strict=True):
        assert said in done.error, name
    assert cli.contents() == before


def test_marks_and_flows_are_checked_with_the_same_care(cli: CommandLine) -> None:
    cases = {
        "import-marks": (
            "portfolio,symbol,date,price\nharbor,AAA,2024-02-05,5\nharbor,FUND,2024-02-05,5\nnope,AAA,2024-02-05,x\n",
            [
                "line 2, column symbol: AAA is PUBLIC in harbor: only PRIVATE positions",
                "line 3, column symbol: the portfolio harbor never holds 'FUND'",
                "line 4, column portfolio: there is no portfolio 'nope'; the codes are harbor",
                "line 4, column price: 'x' is no number",
            ],
        ),
        "import-flows": (
            "portfolio,date,amount,kind\nharbor,2024-02-01,5,contribution\nharbor,2024-02-05,-5,contribution\n",
            [
                "line 2, column date: 2024-02-01 is not after the inception of harbor, 2024-02-01",
                "line 3, column amount: -5 contradicts the kind contribution",
            ],
        ),
    }
    for command, (content, _) in cases.items():
        (cli.folder / f"{command}.csv").write_text(content)
    before = cli.contents()
    ended = together(partial(cli, command, f"{command}.csv", status=1) for command in cases)
    for (command, (_, said)), done in zip(cases.items(), ended, strict=True):
        told = done.error.splitlines()
        assert told[0] == f"Error: {command}.csv: {len(said)} error(s), nothing was imported:"
        for line, start in zip(told[1:], said, strict=True):
            assert line.startswith(f"  {start}"), line
    assert cli.contents() == before


def test_a_portfolio_is_found_by_its_name_and_renamed_by_its_code(cli: CommandLine) -> None:
    before = cli.contents()
    spelt = ("import", "harbor.csv", "--name", "harbor (ONE)")
    rename = ("import", "harbor.csv", "--name", "Harbor [two]", "--code", "harbor")
    same, taken, renamed, malformed, unheard_of = together(
        (
            partial(cli, *spelt),
            partial(cli, *spelt, "--equity", "5", "--code", "other", status=1),
            partial(cli, *rename, status=1),
            partial(cli, *rename[:-1], "Har bor", status=2),
            partial(cli, *rename, "--benchmark", "S&P 500", status=2),
        )
    )
    assert "nothing was changed" in same.err
    assert "there is a portfolio 'Harbor [one]' already" in taken.error
    assert "changed portfolio: name Harbor [one] -> Harbor [two]" in renamed.error
    assert "use lower-case letters and digits" in malformed.error
    assert "--benchmark S&P 500: " in unheard_of.error
    assert cli.contents() == before
    done = cli(*rename, "--replace")
    assert "No figure depends on what was changed; nothing was computed." in done.err
    assert "Harbor [two]  (harbor)" in done.out
    assert cli.rows("SELECT code, name FROM sigmasight.portfolios") == [("harbor", "Harbor [two]")]


def test_entries_after_the_last_price_are_imported_and_wait_for_prices(cli: CommandLine) -> None:
    (cli.folder / "late.csv").write_text(HEADER + "BBB,10,42,2024-02-20\n")
    done = cli("import", "late.csv", "--name", "Late", "--equity", "5000")
    assert "Warning: The file is imported, but no session from 2024-02-20 on can be run" in done.err
    assert cli.rows("SELECT inception_date FROM sigmasight.portfolios WHERE code = 'late'") == [(date(2024, 2, 20),)]
    assert cli.rows("SELECT max(session_date) FROM sigmasight.portfolio_snapshots") == [(LAST,)]
