"""`sigmasight dev`: the Dagster UI and daemon on the installation's database.

What belongs here: starting Dagster's own processes with the right environment. What does not: what they run.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import Annotated

import typer

from sigmasight_pipeline.cli.console import UserError, err
from sigmasight_pipeline.cli.installation import connected


def dev(
    host: Annotated[str, typer.Option(help="Address the UI listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI.")] = 3000,
) -> None:
    """Open the Dagster UI and daemon on the installation's database; Ctrl-C stops both."""
    from sigmasight_pipeline.operations.instance import project_folder

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None
    with connected(create=True) as installation:
        _launcher = installation.launcher  # fails the runs of killed processes before the daemon sees them
        folder = project_folder()
        command = [
            sys.executable,
            "-m",
            "dagster",
            "dev",
            "--workspace",
            str(folder / "workspace.yaml"),
            "--host",
            host,
            "--port",
            str(port),
        ]
        err.print(f"Dagster UI: http://{host}:{port}  (Ctrl-C stops it)")
        process = subprocess.Popen(command, env=os.environ.copy(), cwd=folder)
        previous = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
        try:
            status = process.wait()
        except KeyboardInterrupt:
            status = process.wait()
        finally:
            signal.signal(signal.SIGTERM, previous)
    raise typer.Exit(0 if status in (0, -signal.SIGINT, 130) else status)
