"""`sigmasight db ...` and `sigmasight reset`: looking into the database, migrating it, removing the installation.

What belongs here: commands about the database as such. What does not: anything about portfolios or runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sigmasight_pipeline.cli.console import UserError, err, out
from sigmasight_pipeline.cli.installation import (
    DAGSTER_DATABASE,
    DATABASE,
    connected,
    dagster_url_beside,
    load_settings,
    remove_rows_of_earlier_versions,
    this_command,
)
from sigmasight_pipeline.cli.tidy import tidy

if TYPE_CHECKING:
    from sigmasight_pipeline.storage.embedded import EmbeddedServer


app = typer.Typer(help="Look into the database, migrate it, start and stop the embedded server.", no_args_is_help=True)
app.command()(tidy)


INBOX = "inbox"
"""Folder of the state folder that files are dropped into, unless another one was named for that."""


def _embedded(action: str) -> EmbeddedServer:
    from sigmasight_pipeline.storage.embedded import EmbeddedServer

    settings = load_settings()
    if settings.database_url is not None:
        raise UserError(
            f"SIGMASIGHT_DATABASE_URL is set, so there is no embedded server to {action}; unset it to use that one"
        )
    return EmbeddedServer(settings.home_path)


@app.command()
def url() -> None:
    """Print a connection URL that psql, pandas and BI tools take (it contains the password).

    The embedded server is started if need be and left running; `sigmasight db stop` stops it.
    """
    from sigmasight_pipeline.storage import schema
    from sigmasight_pipeline.storage.embedded import EmbeddedServer

    settings = load_settings()
    if settings.database_url is not None:
        out.print(settings.database_url.get_secret_value())
        return
    server = EmbeddedServer(settings.home_path)
    server.start()
    schema.upgrade(server.url(DATABASE))
    out.print(server.url(DATABASE))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open a psql prompt on the database; arguments after -- go to psql, e.g. `sigmasight db psql -- -c '\\dt'`."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    with connected() as installation:
        program = installation.server.psql_path if installation.server else shutil.which("psql")
        if program is None:
            raise UserError("psql is not installed: 'apt-get install postgresql-client' or 'brew install libpq'")
        # every user of the machine can read a program's arguments: the password goes another way
        address = conninfo_to_dict(installation.database_url)
        password = address.pop("password", None)
        options = [os.environ.get("PGOPTIONS", ""), "-c search_path=sigmasight,public"]
        environment = {**os.environ, "PGOPTIONS": " ".join(filter(None, options))}
        if password is not None:
            environment["PGPASSWORD"] = str(password)
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the prompt
        try:
            status = subprocess.run(
                [str(program), make_conninfo("", **address), *context.args], env=environment, check=False
            ).returncode
        finally:
            signal.signal(signal.SIGINT, previous)
    raise typer.Exit(status)


@app.command()
def upgrade() -> None:
    """Bring the schema to this version of the code; safe to run at any time and from several places at once."""
    from sigmasight_pipeline.storage import schema
    from sigmasight_pipeline.storage.embedded import EmbeddedServer
    from sigmasight_pipeline.storage.errors import redact

    settings = load_settings()
    if settings.database_url is not None:
        given = settings.database_url.get_secret_value()
        applied = schema.upgrade(given)
        shown = redact(given)
        _upgrade_dagster(dagster_url_beside(given))
    else:
        with EmbeddedServer(settings.home_path).shared(this_command()) as address:
            applied = schema.upgrade(address.url(DATABASE))
            _upgrade_dagster(address.url(DAGSTER_DATABASE))
        shown = f"the embedded server in {settings.home_path}"
    err.print(f"Applied {', '.join(applied)} to {shown}." if applied else f"{shown}: already up to date.")


@app.command()
def revise() -> None:
    """Print the statements of a migration: what brings this database's tables to what the code declares.

    For developers: change a table's definition, look at what is printed, and put it into a new file of
    storage/migrations/versions. Nothing is changed. Ends with 1 where there is a difference.
    """
    from sigmasight_pipeline.storage import revision  # only developers need it

    settings = load_settings()
    if settings.database_url is not None:
        statements = revision.difference(settings.database_url.get_secret_value())
    else:
        with EmbeddedServer(settings.home_path).shared(this_command()) as address:
            statements = revision.difference(address.url(DATABASE))
    for statement in statements:
        out.print(statement, markup=False, highlight=False, soft_wrap=True)
    if statements:
        raise typer.Exit(1)
    err.print("The database's tables are those of the code.")


def _upgrade_dagster(url: str) -> None:
    from sigmasight_pipeline.storage.errors import DatabaseMissingError

    with suppress(DatabaseMissingError):  # the first run makes it
        remove_rows_of_earlier_versions(url)


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to open on 127.0.0.1; 0: any free one.")] = 5433,
) -> None:
    """Open the embedded server on 127.0.0.1 for tools that cannot use a socket (JDBC); Ctrl-C closes it again."""
    from sigmasight_pipeline.storage import schema

    server = _embedded("serve")
    with server.serve(port, this_command()) as address:
        schema.upgrade(server.url(DATABASE))
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        err.print("Open until Ctrl-C; the URL contains the password:")
        out.print(address)
        stopped.wait()
        err.print("Closed.")


@app.command()
def stop(
    force: Annotated[
        bool, typer.Option("--force", help="Also while other processes compute on it or serve it.")
    ] = False,
) -> None:
    """Stop the embedded server (its data stays); refused while other processes use it."""
    server = _embedded("stop")
    if not server.is_running():
        err.print("The embedded server is not running.")
        return
    if not force and (users := _users(server)):
        raise UserError(
            f"{', '.join(users)} {'uses' if len(users) == 1 else 'use'} the embedded server: end that first, or stop "
            "the server under it with --force (whole sessions are kept)"
        )
    server.stop()
    err.print("The embedded server is stopped.")


def _users(server: EmbeddedServer) -> list[str]:
    """Who computes on the server or serves it, in words; runs of processes that were killed around them too."""
    from sigmasight_pipeline.cli import serving
    from sigmasight_pipeline.storage.run_locks import computing

    found = server.users()
    listening = serving.where(server.home)
    if listening is not None and not any("sigmasight dev" in user for user in found):
        found.append(f"the Dagster UI at {listening}")
    return found or computing(server.url(DATABASE))


def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove the installation's state folder and everything in it, after a question.

    Refused while another process uses it, while files wait in its inbox, and where it holds files that are not ours.
    """
    from sigmasight_pipeline.cli import serving
    from sigmasight_pipeline.fixed_history import RECORDED_END
    from sigmasight_pipeline.storage.embedded import EmbeddedServer

    settings = load_settings()
    home = settings.home_path
    if not home.exists():
        err.print(f"There is nothing to remove: {home} does not exist.")
        return
    if not home.is_dir():
        raise UserError(f"{home} is no folder; set SIGMASIGHT_HOME to the state folder")
    inbox = home / INBOX
    own = EmbeddedServer.OWN_ENTRIES | {"dagster", RECORDED_END}
    if settings.inbox_path == inbox and not inbox.is_symlink():
        own |= {INBOX}
    foreign = [entry.name for entry in home.iterdir() if entry.name not in own]
    if foreign:
        raise UserError(
            f"{home} holds files that are not ours ({', '.join(sorted(foreign)[:5])}); "
            "move them away or remove the folder yourself"
        )
    waiting, judged = _inbox_files(inbox)
    if waiting:
        raise UserError(
            f"{inbox} holds {waiting} file(s) that were not judged yet; move them away, or let the sensor take them "
            "first"
        )
    if EmbeddedServer(home).in_use() or serving.where(home) is not None:
        users = ", ".join(EmbeddedServer(home).users()) or "another process (`sigmasight dev`)"
        raise UserError(f"{home} is in use by {users}: end it first")
    if not yes:
        files = f", all results and {judged} file(s) that were dropped into its inbox" if judged else " and all results"
        typer.confirm(f"Remove {home} with its database{files}?", abort=True)
    EmbeddedServer(home).remove()
    shutil.rmtree(home, ignore_errors=False)
    err.print(f"Removed {home}.")
    if settings.database_url is not None:
        err.print("The server of SIGMASIGHT_DATABASE_URL was left as it is.")


def _inbox_files(inbox: Path) -> tuple[int, int]:
    """How many files lie in the inbox of a state folder, and how many in its folders for those that were judged."""
    from sigmasight_pipeline.operations.inbox_folder import PLACES

    if inbox.is_symlink() or not inbox.is_dir():
        return 0, 0
    judged = sum(1 for place in PLACES for path in (inbox / place).rglob("*") if not path.is_dir())
    waiting = sum(1 for path in inbox.iterdir() if path.name not in PLACES)
    return waiting, judged
