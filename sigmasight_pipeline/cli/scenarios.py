"""`sigmasight scenarios`: what is asked of every portfolio, what is applied of it, and checking a file of one's own.

What belongs here: showing scenarios. What does not: what may stand in a file (``importing.scenarios``), judging
(``operations.scenarios``) and results of portfolios (``cli.summary``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from sigmasight_pipeline.cli.console import FindingError, err, out
from sigmasight_pipeline.cli.installation import connected, load_settings

app = typer.Typer(
    help="List the stress scenarios: kind, shocks as stated and as applied at the newest session, findings; or check a "
    "file of them."
)

_MARKET, _RATE = "Market", "Interest_Rate"

_WIDTH = 34

Told = dict[str, object]


@app.callback(invoke_without_command=True)
def listing(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List every scenario: kind, shocks as stated and as applied at the newest session, and findings."""
    from sigmasight_pipeline.operations import scenarios

    if context.invoked_subcommand is not None:
        return
    with connected() as installation:
        session, documents = scenarios.described(installation.database)
    if as_json:
        document = {"session": session, "scenarios": documents}
        out.print(json.dumps(document, default=str, indent=2), soft_wrap=True, highlight=False)
        return
    if not documents:
        err.print("No scenario is stored yet: they are with the first import or `sigmasight demo`.")
        return
    for told in documents:
        for line in _lines(told):
            out.print(line, soft_wrap=True, highlight=False, markup=False)
    if session is None:
        err.print("No session is computed yet: what is applied shows after the first one.")
    else:
        err.print(f"Applied at the newest session, {session}. What scenarios cost: `sigmasight status`.")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A YAML file of scenarios.", show_default=False)],
) -> None:
    """Say whether a file of one's own is right, naming the line of everything that is not. Changes nothing."""
    from sigmasight_pipeline.importing.scenario_nodes import ScenarioFileError
    from sigmasight_pipeline.importing.scenarios import read_scenarios
    from sigmasight_pipeline.market_data.stated import read_factor_definitions

    shipped = resources.files("sigmasight_pipeline.assets").joinpath("factor_definitions.csv")
    with resources.as_file(shipped) as path:
        factors = read_factor_definitions(load_settings().factors_file or path)
    try:
        found = read_scenarios(file, factors=factors)
    except ScenarioFileError as error:
        raise FindingError(str(error)) from error
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found["kind"].value_counts().iter_rows()))
    resting = found.height - int(found["active"].sum())
    out.print(
        f"{file}: {found.height} scenario(s), {kinds}{f'; {resting} of them not active' if resting else ''}. "
        f"To use them, set SIGMASIGHT_SCENARIOS_FILE={file.absolute()} and compute with it: `sigmasight backfill`.",
        soft_wrap=True,
        highlight=False,
    )


def _lines(told: Told) -> Iterator[str]:
    """The scenario, a line per shock (of a replay the market's alone), and what there is to remark."""
    shocks = [shock for shock in _listed(told["shocks"]) if isinstance(shock, dict)]
    if told["kind"] != "vector":
        shocks = [shock for shock in shocks if shock["factor"] == _MARKET]
    elif not shocks and isinstance(told["stated"], dict):
        # not computed (yet): what it states all the same
        shocks = [{"factor": factor, **_as_stated(shock)} for factor, shock in sorted(told["stated"].items())]
    yield f"{told['scenario_id']!s:<{_WIDTH}} {_kind(told)}, {told['category']}"
    for shock in shocks:
        yield _figures(shock)
    for remark in _remarks(told):
        yield f"  {remark}"


def _figures(shock: Told) -> str:
    factor, relative, share = str(shock["factor"]), shock["relative"], shock["honoured_share"]
    stated = _size(factor, shock["stated"]) if relative is None else f"{_size(factor, relative)} beyond the market's"
    honoured = f"{share:.0%}" if isinstance(share, float) else "-"
    return f"  {factor:<18}{stated:<25} applied {_size(factor, shock['effective']):>8}, honoured {honoured:>5}"


def _remarks(told: Told) -> Iterator[str]:
    if not told["active"]:
        yield "not active"
    first, last = (told.get(f"window_{end}") or told[f"replay_{end}"] for end in ("from", "to"))
    if first:
        yield f"{first} to {last}"
    if told["worst_sessions"]:
        yield f"worst {told['worst_sessions']} sessions"
    if told["status"] not in (None, "ok"):
        yield str(told["status"]).replace("_", " ")
    for finding in _listed(told["findings"]):
        yield str(finding).split("; make them")[0]
    if told["accepted"]:
        yield f"accepted: {told['accepted']}"


def _listed(values: object) -> list[object]:
    return values if isinstance(values, list) else []


def _as_stated(shock: object) -> Told:
    is_relative = isinstance(shock, dict)
    return {
        "stated": None if is_relative else shock,
        "relative": shock["relative"] if isinstance(shock, dict) else None,
        "effective": None,
        "honoured_share": None,
    }


def _kind(told: Told) -> str:
    return "exact" if told["confidence"] == "exact" else str(told["kind"])


def _size(factor: object, shock: object) -> str:
    if not isinstance(shock, int | float):
        return "-"
    return f"{shock * 10_000:+.0f} bp" if factor == _RATE else f"{shock:+.1%}"
