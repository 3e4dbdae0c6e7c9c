"""The `sigmasight` command and how it fails: one clear sentence, exit status 1, nothing lost.

What belongs here: the command tree and the translation of errors into a sentence. What does not: what commands do.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer
from typer._click.exceptions import ClickException  # Typer carries its own Click and exports no base class

from sigmasight_pipeline import __version__
from sigmasight_pipeline.cli import books, database, demo, running, serving
from sigmasight_pipeline.cli.console import err, out

app = typer.Typer(
    name="sigmasight",
    help="Portfolio risk and P&L for long/short equity books with options: Dagster assets on PostgreSQL.\n\n"
    "State lives in one folder (SIGMASIGHT_HOME, default .sigmasight); set SIGMASIGHT_DATABASE_URL to use a real "
    "server instead of the embedded one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("demo")(demo.demo)
app.command("import")(books.import_portfolio)
app.command("import-marks")(books.import_marks)
app.command("import-flows")(books.import_flows)
app.command("backfill")(running.backfill)
app.command("status")(running.status)
app.command("dev")(serving.dev)
app.command("reset")(database.reset)
app.add_typer(database.app, name="db")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


def _expected_errors() -> tuple[type[BaseException], ...]:
    """Errors whose message is written for the user."""
    from sigmasight_pipeline.assets.session_run import ReferenceNotReadyError, UnknownPortfolioError
    from sigmasight_pipeline.cli.console import UserError
    from sigmasight_pipeline.market_data.source import MarketDataError
    from sigmasight_pipeline.operations.books import RejectedFileError, ReplaceNeededError
    from sigmasight_pipeline.operations.history import NothingToRunError
    from sigmasight_pipeline.operations.instance import ProjectFilesMissingError
    from sigmasight_pipeline.operations.launcher import RangeFailedError
    from sigmasight_pipeline.sessions import NotASessionError, OutsideCalendarError
    from sigmasight_pipeline.storage.errors import StorageError

    return (
        UserError,
        StorageError,
        MarketDataError,
        RangeFailedError,
        RejectedFileError,
        ReplaceNeededError,
        NothingToRunError,
        UnknownPortfolioError,
        ReferenceNotReadyError,
        ProjectFilesMissingError,
        NotASessionError,
        OutsideCalendarError,
    )


def main() -> None:
    """Entry point of the console script."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.Abort:
        err.print("Stopped; nothing was changed.")
        sys.exit(130)
    except KeyboardInterrupt:
        err.print("Stopped. Sessions already written are complete; run the command again to go on.")
        sys.exit(130)
    except ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except _expected_errors() as error:
        err.print(f"Error: {error}", style="red", highlight=False, markup=False)
        sys.exit(1)
    except Exception:  # noqa: BLE001 - the last resort: an error nobody expected still gets a sentence, and its trace
        err.print(
            "Error: something nobody expected went wrong; nothing half-written was kept. "
            "Please report the trace below.",
            style="red",
        )
        traceback.print_exc()
        sys.exit(70)


if __name__ == "__main__":
    main()
