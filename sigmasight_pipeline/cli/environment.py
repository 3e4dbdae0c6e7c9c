"""`sigmasight env`: what other programs of Dagster's must find in their environment to work on this installation.

What belongs here: printing it for a shell. What does not: what it is made of (``operations.instance``).
"""

from __future__ import annotations

import shlex

from sigmasight_pipeline.cli.console import out
from sigmasight_pipeline.cli.installation import connected, load_settings


def env() -> None:
    """Print the environment other programs need as lines for bash; it contains the passwords.

    For example `(eval "$(sigmasight env)" && dagster dev)`: in a shell of its own, because with SIGMASIGHT_DATABASE_URL
    set a command takes the embedded server for somebody else's. That one is started if need be and left running;
    `sigmasight db stop` stops it.
    """
    from sigmasight_pipeline.operations.instance import environment
    from sigmasight_pipeline.storage import schema
    from sigmasight_pipeline.storage.embedded import EmbeddedServer

    settings = load_settings()
    if settings.database_url is None:
        EmbeddedServer(settings.home_path).start()
    with connected(create=True) as installation:
        schema.create_database_if_missing(installation.dagster_url)
        variables = environment(
            home=settings.home_path, database_url=installation.database_url, dagster_url=installation.dagster_url
        )
    if settings.files_dir is not None:  # relative to where the user stands now
        variables["SIGMASIGHT_FILES_DIR"] = str(settings.files_dir.expanduser().resolve())
    for name, value in variables.items():
        out.print(f"export {name}={shlex.quote(value)}")
