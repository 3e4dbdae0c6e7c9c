"""A command killed at a commit, run again, ends where an undisturbed one does: every table, to the last bit.

One point of each command here; every state a commit of any command leaves, by ``make test-faults``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.end_to_end.small_books import DAYS, EQUITY, World
from sigmasight_pipeline_tests.end_to_end.stored import assert_same_contents
from sigmasight_pipeline_tests.faults.command_server import AFTER, BEFORE
from sigmasight_pipeline_tests.faults.killed_commands import KILLED, CommandServer, State, new_state

SESSIONS = 4
END = DAYS[1]
"""The last session of the first run: of two sessions each."""

WORLD = World(days=SESSIONS)
FILES = {
    "SIGMASIGHT_PRICE_SOURCE": "files",
    "SIGMASIGHT_FILES_DIR": "/",  # each state has its own; a process that loads the settings needs one
    "SIGMASIGHT_FIRST_SESSION": str(DAYS[0]),
    "SIGMASIGHT_MAX_SESSIONS_PER_RUN": "2",
}
SIMULATED = {"SIGMASIGHT_FIRST_SESSION": "2023-12-27", "SIGMASIGHT_MAX_SESSIONS_PER_RUN": "2"}

SHARDS = 8
"""Parts the whole is cut into, which processes share; each takes every eighth point, so that one alone says most."""

FIRST_IMPORT = ("import", "changed.csv", "--name", "changed", "--equity", EQUITY, "--inception", str(DAYS[0]))


@dataclass(frozen=True)
class Scenario:
    """A command, and how the state it is killed in comes about from one whose history is computed (None: empty)."""

    arguments: tuple[str, ...]
    prepare: Callable[[State], None] | None


def _write(state: State, world: World) -> None:
    world.write(state.folder / "files")
    (state.folder / "files" / "changed.csv").write_text(world.book("changed"))


def _other_quantity(state: State) -> None:
    _write(state, World(days=SESSIONS, quantity=130))


def _restated_close(state: State) -> None:
    _write(state, WORLD.with_correction("AAA", END, "1.75"))


def _spoilt_values(state: State) -> None:
    with psycopg.connect(state.environment["SIGMASIGHT_DATABASE_URL"]) as connection:
        for table, changed in (
            ("position_values", "market_value = market_value + 7, daily_pnl = daily_pnl + 7"),
            ("portfolio_snapshots", "net_asset_value = net_asset_value + 14, cash_balance = cash_balance + 14"),
        ):
            connection.execute(f"UPDATE sigmasight.{table} SET {changed} WHERE session_date >= '{DAYS[0]}'".encode())


SCENARIOS = {
    "import": Scenario(FIRST_IMPORT, None),
    "import --replace": Scenario(("import", "changed.csv", "--name", "changed", "--replace"), _other_quantity),
    "backfill": Scenario(("backfill", "--from", str(END), "--to", str(END)), _restated_close),
    "repair": Scenario(("repair", "--from", str(DAYS[0]), "--to", str(DAYS[SESSIONS - 1])), _spoilt_values),
}
DEMO = Scenario(("demo", "--through", "2024-01-05"), None)


class Undisturbed:
    """What a command that nobody killed left in `state`, and how often it committed."""

    def __init__(self, commits: int, state: State) -> None:
        self.commits = commits
        self.state = state
        self.contents = state.contents()


class Killed:
    """A scenario's state before the command, what an undisturbed command makes of it, and how often that commits."""

    def __init__(self, scenario: Scenario, before: State, undisturbed: Undisturbed | None = None) -> None:
        self.scenario = scenario
        self.before = before
        if undisturbed is None:
            with before.copied() as state:
                undisturbed = Undisturbed(state.expect(*scenario.arguments).commits, state)
        self.commits = undisturbed.commits
        self.expected = undisturbed.contents

    def at(self, point: int, moment: str) -> None:
        """Kill the command there, run it again, and compare."""
        where = f"{' '.join(self.scenario.arguments)}, killed {moment} commit {point} of {self.commits}"
        with self.before.copied() as state:
            ended = state.run(*self.scenario.arguments, point=point, moment=moment)
            assert ended.status == KILLED, f"{where}: ended with {ended.status}\n{ended.output}"
            again = state.run(*self.scenario.arguments)
            assert again.status == 0, f"{where}: then {again.status}\n{again.output}"
            assert_same_contents(state.contents(), self.expected, f"{where}\n{again.output}\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


@contextmanager
def command_server(variables: dict[str, str]) -> Iterator[CommandServer]:
    commands = CommandServer(variables)
    try:
        yield commands
    finally:
        commands.close()


@pytest.fixture(scope="module")
def empty(server: EmbeddedServer, folder: Path) -> Iterator[State]:
    """Nothing but files."""
    with command_server(FILES) as commands, new_state(server, commands, folder) as state:
        _write(state, WORLD)
        yield state


@pytest.fixture(scope="module")
def computed(empty: State) -> Iterator[Undisturbed]:
    """The history of one book."""
    with empty.copied() as state:
        yield Undisturbed(state.expect(*FIRST_IMPORT).commits, state)


@contextmanager
def killed(name: str, empty: State, computed: Undisturbed) -> Iterator[Killed]:
    scenario = SCENARIOS[name]
    if scenario.prepare is None:
        yield Killed(scenario, empty, computed)
        return
    with computed.state.copied() as before:
        scenario.prepare(before)
        yield Killed(scenario, before)


SOME = {
    "import": (1 / 3, AFTER),
    "import --replace": (2 / 3, BEFORE),
    "backfill": (1 / 3, BEFORE),
    "repair": (2 / 3, AFTER),
}
"""How far each command has come, by its commits, when it is killed."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_command_killed_at_some_commit_ends_as_if_undisturbed(name: str, empty: State, computed: Undisturbed) -> None:
    part, moment = SOME[name]
    with killed(name, empty, computed) as command:
        command.at(int(command.commits * part), moment)


def _points_of(shard: int, commits: int) -> list[tuple[int, str]]:
    """The kills of a shard: together the shards leave every state a kill can leave behind, each once.

    Before a commit and after the one before it, what is stored of results is the same; what Dagster has recorded is
    not, so that the two moments take turns.
    """
    states = range(shard, commits + 1, SHARDS)
    return [(state, AFTER) if state == commits or state % 2 else (state + 1, BEFORE) for state in states]


def _every_point(command: Killed, shard: int) -> None:
    failures = []
    points = _points_of(shard, command.commits)
    for point, moment in points:
        print(  # noqa: T201  # shown with -s: how far it is
            f"{' '.join(command.scenario.arguments)}: {moment} commit {point} of {command.commits}", flush=True
        )
        try:
            command.at(point, moment)
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, f"{len(failures)} of {len(points)} points:\n\n" + "\n\n".join(failures)


def test_shards_together_leave_every_state() -> None:
    commits = 3 * SHARDS + 2
    points = [point for shard in range(SHARDS) for point in _points_of(shard, commits)]
    # a kill after commit n and one before commit n + 1 leave the same results
    states = sorted(point if moment == AFTER else point - 1 for point, moment in points)
    assert states == list(range(commits + 1))
    assert {moment for _, moment in points} == {BEFORE, AFTER}


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_command_killed_at_every_commit_ends_as_if_undisturbed(
    name: str, shard: int, empty: State, computed: Undisturbed
) -> None:
    with killed(name, empty, computed) as command:
        _every_point(command, shard)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_demo_killed_at_every_commit_ends_as_if_undisturbed(server: EmbeddedServer, folder: Path, shard: int) -> None:
    with command_server(SIMULATED) as commands, new_state(server, commands, folder) as before:
        _every_point(Killed(DEMO, before), shard)
