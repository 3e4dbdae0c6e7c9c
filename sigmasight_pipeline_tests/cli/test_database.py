"""`sigmasight db ...` and `reset`: looking inside, keeping the embedded server, ending it, removing everything."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from typer.core import TyperGroup
from typer.main import get_command

from sigmasight_pipeline.cli.main import _command_tree
from sigmasight_pipeline.storage import schema
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.embedded_cluster import postmaster_pid
from sigmasight_pipeline.storage.embedded_placement import load
from sigmasight_pipeline_tests.cli.commands import INTERNAL, PATIENCE, CommandLine, on_server, together


@pytest.fixture
def cli(home: Path) -> Iterator[CommandLine]:
    """An installation with an embedded server of its own, none of it there yet."""
    yield CommandLine(home, {"SIGMASIGHT_HOME": "state"})
    EmbeddedServer(home / "state").remove()


def answer(url: str) -> object:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT 41 + 1").fetchone()


def test_the_life_of_an_embedded_database(cli: CommandLine) -> None:
    state = cli.folder / "state"
    server = EmbeddedServer(state)
    url = cli("db", "url").out.strip()
    assert answer(url) == (42,)
    assert "No portfolio yet. Import one: sigmasight import my.csv" in cli("status").err
    assert answer(url) == (42,), "a command that ended stopped the server whose URL was given away"

    seen = cli("db", "psql", "--", "-XAt", "-c", "SELECT count(*) FROM portfolios", "-c", r"\! cat /proc/$PPID/cmdline")
    assert seen.out.splitlines()[0] == "0"
    if Path("/proc/self/cmdline").exists():
        assert "psql" in seen.out
        assert server.address().password not in seen.out
    assert f"the embedded server in {state}: already up to date." in cli("db", "upgrade").err
    assert cli("db", "stop").err == "The embedded server is stopped.\n"

    serving = cli.start("db", "serve", "--port", "0")
    try:
        assert serving.stdout is not None
        door = serving.stdout.readline().strip()
        assert "@127.0.0.1:" in door
        assert answer(door) == (42,)
        assert f"{state} is in use by sigmasight db serve" in cli.fails("reset", "--yes")
        assert answer(door) == (42,)
        serving.send_signal(signal.SIGINT)
        _, told = serving.communicate(timeout=PATIENCE)
    finally:
        serving.kill()
    assert (serving.returncode, told.splitlines()[-1]) == (0, "Closed.")
    assert not server.is_running()

    assert "Stopped; nothing was changed." in cli("reset", stdin="n\n", status=130).err
    foreign = state / "notes.txt"
    foreign.write_text("mine")
    assert "holds files that are not ours (notes.txt)" in cli.fails("reset", "--yes")
    foreign.unlink()
    assert state.exists()
    for place in ("accepted", "rejected"):
        (state / "inbox" / place).mkdir(parents=True)  # what the sensor makes
    (state / "inbox" / "mine.csv").write_text("ticker\n")
    said = cli.fails("reset", "--yes")
    assert said.startswith(f"{state}/inbox holds 1 file(s) that were not judged yet; move them away")
    (state / "inbox" / "mine.csv").rename(state / "inbox" / "accepted" / "mine.csv")
    asked = cli("reset", stdin="n\n", status=130)
    assert "all results and 1 file(s) that were dropped into its inbox?" in asked.out + asked.err
    for name in ("somewhere", "state/inbox/accepted"):
        elsewhere = cli.fails("reset", "--yes", changes={"SIGMASIGHT_INBOX_DIR": str(cli.folder / name)})
        assert "holds files that are not ours (inbox)" in elsewhere, "a folder that is not this installation's inbox"
    assert cli("reset", "--yes").err == f"Removed {state}.\n"
    assert list(cli.folder.iterdir()) == []


def test_a_real_server_is_migrated_once_and_its_password_kept_from_others(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    with on_server(server, tmp_path) as cli:
        first = cli("db", "upgrade").err
        assert f"Applied {schema.known_revisions()[0]}" in first
        assert ":***@" in first
        assert "already up to date." in cli("db", "upgrade").err
        url, stop = together((partial(cli, "db", "url"), partial(cli, "db", "stop", status=2)))
        assert url.out.strip() == cli.variables["SIGMASIGHT_DATABASE_URL"]
        assert "SIGMASIGHT_DATABASE_URL is set, so there is no embedded server to stop" in stop.error


@pytest.mark.parametrize(
    ("home", "said"),
    [
        (b"a[1]", "Dagster finds no configuration in a folder with [ in its path; choose another folder"),
        (b"a\xff", "holds a line break, a control character or bytes that are no UTF-8"),
    ],
)
def test_a_home_that_cannot_be_used_is_refused_before_anything_is_made(tmp_path: Path, home: bytes, said: str) -> None:
    cli = CommandLine(tmp_path, {"SIGMASIGHT_HOME": os.fsdecode(home)})
    assert said in cli.fails("status")
    assert list(tmp_path.iterdir()) == []


def test_dagster_finds_its_configuration_in_a_home_of_any_other_name(home: Path) -> None:
    """Else it would keep its runs in SQLite and send telemetry."""
    name = "a b Bücher 本 'c\"d ]{e}$f%g#h"
    state = home / name
    cli = CommandLine(home, {"SIGMASIGHT_HOME": str(state)})
    try:
        assert "prices" in cli.fails("backfill", "--from", "2020-01-02", "--to", "2020-01-02")
        assert (state / "dagster" / "dagster.yaml").is_symlink()
        assert not list((state / "dagster").rglob("*.db")), "SQLite"
        assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in (state, state / "dagster")} == {
            name: 0o711,
            "dagster": 0o700,
        }
    finally:
        EmbeddedServer(state).remove()


def test_a_server_that_was_started_outlives_its_users_until_it_is_stopped(home: Path) -> None:
    server = EmbeddedServer(home)
    server.start()
    with server.shared():
        pass
    assert server.is_running()
    server.stop()
    with server.shared():
        pass
    assert not server.is_running(), "stopping forgets that it was to be kept"
    with server.shared():
        server.start()
    assert server.is_running(), "also one that others had started"
    placement = load(home / "postgres")
    assert placement is not None
    pid = postmaster_pid(placement)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with server.shared():
        pass
    assert not server.is_running(), "a crash ends what was kept; the next user starts one of its own"


def test_help_says_what_every_command_and_option_is() -> None:
    tree = get_command(_command_tree())
    assert isinstance(tree, TyperGroup)
    groups: list[tuple[tuple[str, ...], TyperGroup]] = [(("sigmasight",), tree)]
    seen = set()
    while groups:
        path, group = groups.pop()
        for name, command in group.commands.items():
            place = " ".join((*path, name))
            if isinstance(command, TyperGroup):
                groups.append(((*path, name), command))
                continue
            seen.add(place)
            said = [command.help or "", *(getattr(option, "help", None) or "" for option in command.params)]
            named = [option.opts[0] for option in command.params]
            for text, what in zip(said, [place, *named], strict=True):
                assert text.strip().endswith((".", ")")) or "\n" in text, f"{place}, {what}: {text!r}"
                assert not any(word in text for word in INTERNAL), f"{place}, {what}: {text!r}"
    assert {"sigmasight import", "sigmasight backfill", "sigmasight status", "sigmasight db url"} <= seen
