"""`sigmasight dev`: the Dagster UI and daemon on the installation's database.

What belongs here: starting Dagster's own processes with the right environment. What does not: what they run.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from sigmasight_pipeline.cli.console import UserError, err
from sigmasight_pipeline.cli.installation import connected


def dev(
    host: Annotated[str, typer.Option(help="Address the UI listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI.")] = 3000,
) -> None:
    """Open the Dagster UI and daemon on the installation's database; Ctrl-C stops both.

    Sensors are on from the start (SIGMASIGHT_SENSORS=off leaves them off); schedules wait until they are turned on in
    the UI.
    """
    from sigmasight_pipeline.operations import runs
    from sigmasight_pipeline.operations.instance import WORKSPACE_FILE, project_folder

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None
    with connected(create=True) as installation:
        # runs of killed processes end before the daemon sees them
        runs.fail_lost_runs(installation.launcher.instance, datetime.now(UTC))
        command = [
            sys.executable,
            "-W",
            "ignore:Function `dev_command` is superseded",  # by `dg dev`, a further package that starts the same
            "-m",
            "dagster",
            "dev",
            "--workspace",
            str(project_folder() / WORKSPACE_FILE),
            "--host",
            host,
            "--port",
            str(port),
        ]
        environment = {"SIGMASIGHT_SENSORS": "on", **os.environ}
        if installation.settings.files_dir is not None:  # relative to where the user stands, not to the folder below
            environment["SIGMASIGHT_FILES_DIR"] = str(installation.settings.files_dir.expanduser().resolve())
        err.print(f"Dagster UI: http://{host}:{port}  (Ctrl-C stops it)")
        _wait(subprocess.Popen(command, env=environment, cwd=environment["DAGSTER_HOME"]))


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of `process`, handing SIGTERM on as the Ctrl-C it knows; UserError where nobody asked for it."""
    asked = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal asked
        asked = True
        process.send_signal(signal.SIGINT)

    def interrupted(_signal: int, _frame: object) -> None:
        nonlocal asked
        asked = True  # the terminal has sent it to the process as well

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, stop),
        signal.SIGINT: signal.signal(signal.SIGINT, interrupted),
    }
    try:
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not asked:
        raise UserError("the Dagster UI or its daemon ended by itself; the lines above say why")
