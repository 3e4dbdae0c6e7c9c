"""`sigmasight dev` and who else uses the server: once per folder, ended by one signal, and never stopped unasked."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sigmasight_pipeline.cli import serving
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.file_locks import open_lock, try_lock
from sigmasight_pipeline_tests.cli.commands import PATIENCE, CommandLine


@pytest.fixture
def cli(home: Path) -> Iterator[CommandLine]:
    yield CommandLine(home, {"SIGMASIGHT_HOME": "state", "SIGMASIGHT_SENSORS": "off"})
    EmbeddedServer(home / "state").remove()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def group_lives(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks processes up in /proc")
def test_one_folder_is_served_once_and_its_server_not_stopped_under_it(cli: CommandLine) -> None:
    port = free_port()
    running = cli.start("dev", "--port", str(port))
    try:
        until(lambda: serving._answers("127.0.0.1", port))
        again = cli.fails("dev", "--port", str(free_port()))
        assert again == (
            f"`sigmasight dev` serves this installation already, at http://127.0.0.1:{port}: use that one, or end it"
        )
        refused = cli.fails("db", "stop")
        assert refused.startswith(f"sigmasight dev (process {running.pid}) uses the embedded server: end that first")
        assert f"is in use by sigmasight dev (process {running.pid})" in cli.fails("reset", "--yes")
        (leader,) = children(running.pid)
        running.send_signal(signal.SIGINT)  # to it alone, as no terminal would
        _, told = running.communicate(timeout=PATIENCE)
    finally:
        running.kill()
    assert running.returncode == 0, told
    assert f"Dagster UI: http://127.0.0.1:{port}" in told
    assert "Traceback" not in told
    assert not group_lives(leader), "something it started goes on"
    assert not EmbeddedServer(cli.folder / "state").is_running()
    assert serving.where(cli.folder / "state") is None


def test_what_computes_keeps_its_server_unless_forced(cli: CommandLine) -> None:
    door = cli.start("db", "serve", "--port", "0")
    try:
        assert door.stdout is not None
        assert door.stdout.readline()
        assert cli.fails("db", "stop") == (
            f"sigmasight db serve (process {door.pid}) uses the embedded server: end that first, or stop the server "
            "under it with --force (whole sessions are kept)"
        )
        assert EmbeddedServer(cli.folder / "state").is_running()
        assert cli("db", "stop", "--force").err == "The embedded server is stopped.\n"
        door.send_signal(signal.SIGKILL)
        door.wait(PATIENCE)
    finally:
        door.kill()
    cli("db", "url")
    assert cli("db", "stop").err == "The embedded server is stopped.\n", "a process that was killed uses nothing"


def test_a_dev_that_was_killed_still_serves_through_what_it_started(tmp_path: Path) -> None:
    card = tmp_path / "dagster" / "serving.lock"
    card.parent.mkdir()
    with serving._only_one(tmp_path, "http://127.0.0.1:3000") as descriptor:
        child = subprocess.Popen(["sleep", "600"], pass_fds=[descriptor])
    try:
        assert serving.where(tmp_path) == "http://127.0.0.1:3000"
    finally:
        child.kill()
        child.wait()
    assert serving.where(tmp_path) is None
    left = open_lock(card)
    assert try_lock(left)
    os.close(left)


EVERYWHERE = "0.0.0.0"  # noqa: S104  # what a user may write


@pytest.mark.parametrize(
    ("host", "warned"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), (EVERYWHERE, True), ("10.0.0.5", True)],
)
def test_only_addresses_others_can_reach_are_warned_of(host: str, warned: bool) -> None:
    assert serving._is_loopback(host) is not warned
