"""The `sigmasight` command and how it fails: one clear sentence, nothing lost, an exit status.

What belongs here: the command tree and the translation of errors into a sentence. What does not: what commands do.

Exit status 0: done; 1: it could not be done, and a sentence says why; 2: the command line is wrong; 70: an error
nobody expected; 130: stopped by Ctrl-C or by the answer to a question.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from importlib import import_module
from typing import Annotated

import typer
from typer._click.exceptions import ClickException  # Typer carries its own Click and exports no base class

from sigmasight_pipeline import __version__
from sigmasight_pipeline.cli.console import UserError, err, out

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


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
    "status": "running.status",
    "repair": "repair.repair",
    "gaps": "gaps.gaps",
    "runs": "runs.runs",
    "audit": "audit.audit",
    "checks": "audit.checks",
    "scenarios": "scenarios.app",
    "dev": "serving.dev",
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
    """The commands; of a known name only that one, because loading all of them takes seconds (Dagster, SciPy)."""
    app = typer.Typer(
        name="sigmasight",
        help="Portfolio risk and P&L for long/short equity books with options: Dagster assets on PostgreSQL.\n\n"
        "State lives in one folder (SIGMASIGHT_HOME, default .sigmasight); set SIGMASIGHT_DATABASE_URL to use a real "
        "server instead of the embedded one.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for name, place in COMMANDS.items():
        if only not in COMMANDS or name == only:
            module, _, found = place.partition(".")
            command = getattr(import_module(f"sigmasight_pipeline.cli.{module}"), found)
            app.add_typer(command, name=name) if isinstance(command, typer.Typer) else app.command(name)(command)
    return app


def _expected_errors() -> tuple[type[BaseException], ...]:
    """Errors whose message is written for the user."""
    from sigmasight_pipeline.assets.session_run import ReferenceNotReadyError, UnknownPortfolioError
    from sigmasight_pipeline.market_data.source import MarketDataError
    from sigmasight_pipeline.operations.books import ImportedMeanwhileError, RejectedFileError, ReplaceNeededError
    from sigmasight_pipeline.operations.history import NothingToRunError
    from sigmasight_pipeline.operations.instance import ProjectFilesMissingError
    from sigmasight_pipeline.operations.launcher import RangeFailedError
    from sigmasight_pipeline.sessions import NotASessionError, OutsideCalendarError
    from sigmasight_pipeline.storage.errors import StorageError
    from sigmasight_pipeline.storage.rejections import UnknownRejectionError

    return (
        StorageError,
        MarketDataError,
        RangeFailedError,
        RejectedFileError,
        ReplaceNeededError,
        ImportedMeanwhileError,
        NothingToRunError,
        UnknownPortfolioError,
        ReferenceNotReadyError,
        ProjectFilesMissingError,
        NotASessionError,
        OutsideCalendarError,
        UnknownRejectionError,
    )


def main() -> None:
    """Entry point of the console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name of a file may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from sigmasight_pipeline.cli.installation import load_settings

        load_settings()
        named = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
        status = _command_tree(named)(prog_name="sigmasight", standalone_mode=False) or 0
        if status == INTERRUPTED:  # what Typer makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(status)
    except KeyboardInterrupt:
        _say("Stopped. Sessions already written are complete; run the command again to go on.", INTERRUPTED)
    except typer.Abort:
        _say("Stopped; nothing was changed.", INTERRUPTED)
    except ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        _say(f"Error: {error}", error.exit_status)
    except Exception as error:  # noqa: BLE001 - the last resort: an error nobody expected still gets a sentence
        _fail(error)


def _fail(error: Exception) -> None:
    """End with the sentence of an expected error or of a database that went away; else with a trace."""
    from sigmasight_pipeline.storage.errors import explain

    if isinstance(error, _expected_errors()):
        _say(f"Error: {error}", 1)
    url = os.environ.get("DAGSTER_DATABASE_URL", "")
    if url and _is_of_a_driver(error):  # our own queries explain theirs: this one is Dagster's
        _say(f"Error: {explain(error, url)}", 1)
    err.print("Error: something nobody expected went wrong; nothing half-written was kept. Please report this trace:")
    err.print(_without_secrets("".join(traceback.format_exception(error))))
    sys.exit(70)


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


def _say(sentence: str, status: int) -> None:
    err.print(sentence, style="red" if sentence.startswith("Error") else "")
    sys.exit(status)


if __name__ == "__main__":
    main()
