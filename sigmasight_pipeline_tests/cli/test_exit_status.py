"""The rule of exit statuses, held against every command there is, read off the tree of commands itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from sigmasight_pipeline.cli import main
from sigmasight_pipeline.cli.exit_status import RULE, ExitStatus
from sigmasight_pipeline.settings import get_settings

NOBODY = "postgresql://nobody@127.0.0.1:1/none"

WITHOUT_A_SERVER = {
    "db url": ExitStatus.FINE,  # it only says what is set
    "reset": ExitStatus.FINE,  # there is nothing to remove
    "scenarios check": ExitStatus.FOUND,  # the file is wrong, whoever serves
}
"""Commands that do not need the server. Every other one could not do what it was asked for."""


def leaves(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command with the words it is called by; a group that does something alone is one too."""
    if isinstance(command, TyperGroup):
        if words and command.invoke_without_command:
            yield words, command
        for name, inner in command.commands.items():
            yield from leaves(inner, (*words, name))
    else:
        yield words, command


COMMANDS = dict(leaves(typer.main.get_command(main._command_tree())))


def status(*arguments: str) -> int:
    """The exit status of a command, run in this process."""
    get_settings.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sigmasight", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
    return int(ended.value.code or 0)


def needed(command: object, file: Path) -> list[str]:
    """A value for everything a command must be given."""
    found: list[str] = []
    for parameter in getattr(command, "params", ()):
        if parameter.required:
            value = {int: "1", Path: str(file)}.get(parameter.bare_type, "2024-01-02")
            found += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    return found


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation whose server nobody answers for, and a file that is no right one of any kind."""
    monkeypatch.setenv("SIGMASIGHT_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("SIGMASIGHT_DATABASE_URL", NOBODY)
    monkeypatch.setenv("DAGSTER_DATABASE_URL", NOBODY)
    file = tmp_path / "wrong.csv"
    file.write_text("what,is,this\n")
    yield file
    get_settings.cache_clear()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_cannot_be_begun_ends_with_2(
    words: tuple[str, ...], nowhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = WITHOUT_A_SERVER.get(" ".join(words), ExitStatus.COULD_NOT)
    assert status(*words, *needed(COMMANDS[words], nowhere)) == expected
    told = capfd.readouterr().err
    assert (expected is ExitStatus.FINE) or told.startswith("Error: ") or "\nError: " in told
    assert "Traceback" not in told


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_wrong_option_ends_with_2(words: tuple[str, ...], nowhere: Path) -> None:
    if words == ("db", "psql"):
        pytest.skip("its options are those of psql")
    assert status(*words, "--no-such-option") == ExitStatus.COULD_NOT


def test_a_wrong_command_and_a_wrong_setting_end_with_2(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status("no-such-command") == ExitStatus.COULD_NOT
    monkeypatch.setenv("SIGMASIGHT_PRICE_SOURCE", "nonsense")
    assert status("status") == ExitStatus.COULD_NOT


def test_every_expected_error_is_one(capfd: pytest.CaptureFixture[str]) -> None:
    from importlib import import_module

    for name, statuses in main.EXPECTED.items():
        module = import_module(f"sigmasight_pipeline.{name}")
        for kind, expected in statuses.items():
            error = getattr(module, kind).__new__(getattr(module, kind))
            assert main.status_of(error) is expected, kind
    assert main.status_of(RuntimeError()) is None


def test_the_rule_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert status("--help") == ExitStatus.FINE
    assert RULE in " ".join(capfd.readouterr().out.split())
