"""The `sigmasight` command and how it fails: one clear sentence, nothing lost, an exit status.

What belongs here: the command tree and the translation of errors into a sentence. What does not: what commands do.

Nothing of the pipeline is loaded here, nor by the modules of commands when they are: a command imports inside its
functions what it uses, so that `--help` and completion answer at once and a look does not wait for Dagster.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from importlib import import_module
from typing import Annotated, NoReturn

import typer
from typer._click.exceptions import ClickException  # Typer carries its own Click and exports no base class

from sigmasight_pipeline import __version__
from sigmasight_pipeline.cli.console import UserError, err, out
from sigmasight_pipeline.cli.exit_status import RULE, ExitStatus


def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


COMMANDS = {
    "demo": "demo.demo",
    "import": "books.import_portfolio",
    "import-marks": "books.import_marks",
    "import-flows": "books.import_flows",
    "backfill": "running.backfill",
    "status": "status.status",
    "repair": "repair.repair",
    "gaps": "gaps.gaps",
    "runs": "runs.runs",
    "audit": "audit.audit",
    "checks": "audit.checks",
    "scenarios": "scenarios.app",
    "dev": "serving.dev",
    "env": "environment.env",
    "reset": "database.reset",
    "db": "database.app",
    "prices": "prices.app",
    "alerts": "alerts.app",
    "inbox": "inbox.inbox",
    "portfolio": "portfolios.app",
    "tag": "tags.app",
}
"""Every command, or group of commands (an ``app``), and where below this package it stands, as `--help` lists them."""


def _command_tree(only: str | None = None) -> typer.Typer:
    """The commands; of a known name only that one."""
    app = typer.Typer(
        name="sigmasight",
        help="Portfolio risk and P&L for long/short equity books with options: Dagster assets on PostgreSQL.\n\n"
        "State lives in one folder (SIGMASIGHT_HOME, default .sigmasight); set SIGMASIGHT_DATABASE_URL to use a real "
        f"server instead of the embedded one.\n\n{RULE}",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for name, place in COMMANDS.items():
        if only not in COMMANDS or name == only:
            module, _, attribute = place.partition(".")
            command = getattr(import_module(f"sigmasight_pipeline.cli.{module}"), attribute)
            app.add_typer(command, name=name) if isinstance(command, typer.Typer) else app.command(name)(command)
    return app


EXPECTED: dict[str, dict[str, ExitStatus]] = {
    "settings": {"InvalidSettingsError": ExitStatus.COULD_NOT},
    "fixed_history": {"RecordedEndError": ExitStatus.COULD_NOT},
    "sessions": {"NotASessionError": ExitStatus.COULD_NOT, "OutsideCalendarError": ExitStatus.COULD_NOT},
    "storage.errors": {"StorageError": ExitStatus.COULD_NOT},
    "storage.standing": {"UnknownPortfolioError": ExitStatus.COULD_NOT},
    "storage.rejections": {"UnknownRejectionError": ExitStatus.COULD_NOT},
    "market_data.source": {"MarketDataError": ExitStatus.COULD_NOT},
    "assets.session_run": {"ReferenceNotReadyError": ExitStatus.COULD_NOT},
    "operations.instance": {"ProjectFilesMissingError": ExitStatus.COULD_NOT},
    "operations.history": {"NothingToRunError": ExitStatus.COULD_NOT},
    "operations.books": {
        "ImportedMeanwhileError": ExitStatus.FOUND,
        "RejectedFileError": ExitStatus.FOUND,
        "ReplaceNeededError": ExitStatus.FOUND,
    },
    "operations.launcher": {"RangeFailedError": ExitStatus.FOUND},
}
"""Errors whose message is written for the user, by the module they stand in, and the exit status of each."""


def status_of(error: BaseException) -> ExitStatus | None:
    """The exit status of an error whose message is written for the user; None of any other.

    A module that was not loaded has raised nothing, so that none is loaded to ask.
    """
    for name, statuses in EXPECTED.items():
        module = sys.modules.get(f"sigmasight_pipeline.{name}")
        for kind, status in statuses.items() if module is not None else ():
            if isinstance(error, getattr(module, kind)):
                return status
    return None


def main() -> None:
    """Entry point of the console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name of a file may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        named = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
        status = _command_tree(named)(prog_name="sigmasight", standalone_mode=False) or 0
        if status == ExitStatus.INTERRUPTED:  # what Typer makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(status)
    except KeyboardInterrupt:
        _say("Stopped. Sessions already written are complete; run the command again to go on.", ExitStatus.INTERRUPTED)
    except typer.Abort:
        _say("Stopped; nothing was changed.", ExitStatus.INTERRUPTED)
    except ClickException as error:
        error.show()
        sys.exit(ExitStatus.COULD_NOT)
    except UserError as error:
        _say(f"Error: {error}", error.exit_status)
    except Exception as error:  # noqa: BLE001 - the last resort: an error nobody expected still gets a sentence
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    """End with the sentence of an expected error or of a database that went away; else with a trace."""
    if (status := status_of(error)) is not None:
        _say(f"Error: {error}", status)
    url = os.environ.get("DAGSTER_DATABASE_URL", "")
    if url and _is_of_a_driver(error):  # our own queries explain theirs: this one is Dagster's
        from sigmasight_pipeline.storage.errors import explain

        _say(f"Error: {explain(error, url)}", ExitStatus.COULD_NOT)
    err.print("Error: something nobody expected went wrong; nothing half-written was kept. Please report this trace:")
    err.print(_without_secrets("".join(traceback.format_exception(error))))
    sys.exit(ExitStatus.UNEXPECTED)


def _without_secrets(trace: str) -> str:
    """What a library quoted of the settings or of a database's address, replaced."""
    from sigmasight_pipeline.operations.delivery import Secrets
    from sigmasight_pipeline.settings import get_settings

    urls = [os.environ.get(name, "") for name in ("DAGSTER_DATABASE_URL", "SIGMASIGHT_DATABASE_URL")]
    return Secrets.of(get_settings(), urls).hide(trace)


def _is_of_a_driver(error: BaseException | None) -> bool:
    """Whether `error` or one of its causes comes from a database driver."""
    while error is not None:
        if type(error).__module__.partition(".")[0] in ("psycopg2", "psycopg", "sqlalchemy"):
            return True
        error = error.__cause__
    return False


def _say(sentence: str, status: int) -> NoReturn:
    err.print(sentence, style="red" if sentence.startswith("Error") else "")
    sys.exit(status)


if __name__ == "__main__":
    main()
