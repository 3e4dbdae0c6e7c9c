"""`sigmasight dev`: the Dagster UI and daemon on the installation's database.

What belongs here: starting Dagster's own processes with the right environment, once per state folder, and ending them.
What does not: what they run.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sigmasight_pipeline.cli.code_location import kept_loaded
from sigmasight_pipeline.cli.console import UserError, err, note, warn
from sigmasight_pipeline.cli.installation import connected, load_settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks `sigmasight dev` to end: Ctrl-C, a service manager, a terminal that is closed."""

END_SECONDS = 60.0
"""How long code servers and runs get to end after the UI and the daemon have."""

LOOK_SECONDS = 0.2
REST_SECONDS = 0.5


def dev(
    host: Annotated[str, typer.Option(help="Address the UI listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI.")] = 3000,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also show each look of the sensors.")] = False,
) -> None:
    """Open the Dagster UI and daemon on the installation's database; Ctrl-C stops both.

    Sensors are on from the start (SIGMASIGHT_SENSORS=off leaves them off); schedules wait until they are turned on in
    the UI. The console has a line where a run begins, with the reason, and where it ends, and for whatever fails.
    """
    from sigmasight_pipeline.operations import runs
    from sigmasight_pipeline.operations.instance import WORKSPACE_FILE, project_folder

    url = _url(host, port)
    if already := where(load_settings().home_path):
        raise UserError(f"`sigmasight dev` serves this installation already, at {already}: use that one, or end it")
    _require_free(host, port)
    if not _is_loopback(host):
        warn(
            f"the UI has no login: whoever reaches {host}:{port} can launch and end runs, delete what Dagster recorded "
            "and read every figure. Let only a proxy that asks for a password reach it, or leave --host out."
        )
    with connected(create=True) as installation, _only_one(installation.settings.home_path, url) as descriptor:
        # runs of killed processes end before the daemon sees them
        runs.fail_lost_runs(installation.launcher.instance, datetime.now(UTC))
        command = _command(project_folder() / WORKSPACE_FILE, host, port, "info" if verbose else "warning")
        environment = {"SIGMASIGHT_SENSORS": "on", **os.environ}
        if installation.settings.files_dir is not None:  # relative to where the user stands, not to the folder below
            environment["SIGMASIGHT_FILES_DIR"] = str(installation.settings.files_dir.expanduser().resolve())
        note("Starting the Dagster UI and the daemon ...")
        with _asked_to_end() as asked, kept_loaded(_url(_asked_at(host), port), note):
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=environment["DAGSTER_HOME"],
                start_new_session=True,  # whatever signal reaches this process ends it in order
                pass_fds=[descriptor],  # served for as long as it lives, whatever becomes of this process
            )
            _wait(
                process,
                asked,
                answers=lambda: _answers(host, port),
                ready=f"Dagster UI: {url}  (Ctrl-C stops it)",
            )
            _end_rest(process.pid, installation.launcher.instance)
            if not asked:
                raise UserError("the Dagster UI or its daemon ended by itself; the lines above say why")


def _command(workspace: Path, host: str, port: int, log_level: str) -> list[str]:
    """Dagster's own command for UI, daemon and code server together."""
    return [
        sys.executable,
        "-W",
        "ignore:Function `dev_command` is superseded",  # by `dg dev`, a further package that starts the same
        *("-m", "dagster", "dev", "--workspace", str(workspace), "--host", host, "--port", str(port)),
        *("--log-level", log_level, "--code-server-log-level", "warning"),
    ]


def where(home: Path) -> str | None:
    """Where the `sigmasight dev` of the installation in `home` listens; None where there is none."""
    from sigmasight_pipeline.storage.file_locks import is_held

    card = _card(home)
    return (card.read_text() or "an unknown address") if is_held(card) else None


def _card(home: Path) -> Path:
    return home / "dagster" / "serving.lock"


@contextmanager
def _only_one(home: Path, url: str) -> Iterator[int]:
    """Be the one that serves the installation in `home`, at `url`; gives the descriptor of the lock that says so."""
    from sigmasight_pipeline.storage.file_locks import open_lock, try_lock

    descriptor = open_lock(_card(home))
    try:
        if not try_lock(descriptor):
            raise UserError(f"`sigmasight dev` serves this installation already, at {where(home)}: use that one")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, url.encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _asked_at(host: str) -> str:
    """Where this machine asks a UI that listens on `host`: on its own address, where it listens on every one."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nobody listens there by this


def _answers(host: str, port: int) -> bool:
    """Whether the UI takes connections."""
    try:
        with socket.create_connection((_asked_at(host), port), timeout=1.0):
            return True
    except OSError:
        return False


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@contextmanager
def _asked_to_end() -> Iterator[list[int]]:
    """Collect the signals that ask this process to end, inside the block."""
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda received, _frame: asked.append(received)) for number in ENDING_SIGNALS
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(process: subprocess.Popen[bytes], asked: list[int], *, answers: Callable[[], bool], ready: str) -> None:
    """Wait for the end of `process`, and end it once `asked` to; says `ready` when the UI `answers`."""
    open_yet = told = False
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_SECONDS)
            break
        if asked and not told:
            told = True
            note("Ending the UI, the daemon and the runs under way; whole sessions are kept.")
            process.send_signal(signal.SIGINT)  # it ends the others
        elif not open_yet and answers():
            open_yet = True
            err.print(ready)


def _end_rest(group: int, instance: DagsterInstance) -> None:
    """Wait for the code servers, which wait for the runs under way: these are interrupted, and get a minute for it."""
    from sigmasight_pipeline.operations import runs
    from sigmasight_pipeline.storage.errors import StorageError

    deadline, interrupted = time.monotonic() + END_SECONDS, set[str]()
    while _signal_all(group, 0) and time.monotonic() < deadline:
        with suppress(StorageError):  # a database that is gone has no runs
            interrupted.update(runs.interrupt(instance, group, interrupted))
        time.sleep(REST_SECONDS)
    _signal_all(group, signal.SIGKILL)


def _signal_all(group: int, number: int) -> bool:
    """Send a signal to the process group `group`; returns whether anybody was there."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
