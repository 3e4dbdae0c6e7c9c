"""What a command loads before it answers: help and completion nothing of the pipeline, a look no Dagster."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import pytest

from sigmasight_pipeline.cli.main import COMMANDS
from sigmasight_pipeline.storage import schema
from sigmasight_pipeline_tests.cli.commands import together

HEAVY = ("dagster", "scipy", "statsmodels", "pandas", "pandera", "alembic", "mibian")
"""Libraries that take longest to load; a look needs none of them."""

LOOKS = [
    ["status", "--json"],
    ["runs"],
    ["checks"],
    ["inbox"],
    ["prices", "rejected"],
    ["alerts", "list"],
    ["db", "url"],
]

REPORT = """
import atexit, sys
from sigmasight_pipeline.cli import main

def told():
    print("LOADED", *sorted(name for name in sys.modules if "." not in name or name.startswith("sigmasight_pipeline.")))

atexit.register(told)
sys.argv = ["sigmasight", *sys.argv[1:]]
main.main()
"""


def loaded(arguments: list[str], variables: dict[str, str]) -> set[str]:
    """Modules a command has loaded when it ends: top-level ones and the pipeline's own."""
    ended = subprocess.run(
        [sys.executable, "-c", REPORT, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    line = next(line for line in ended.stdout.splitlines() if line.startswith("LOADED"))
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join
)
def test_help_loads_nothing_of_the_pipeline(arguments: list[str]) -> None:
    names = loaded(arguments, {"SIGMASIGHT_PRICE_SOURCE": "nonsense"})
    own = {name for name in names if name.startswith("sigmasight_pipeline.")}
    assert {name for name in own if name.split(".")[1] != "cli"} == set()
    assert not names & {*HEAVY, "polars", "numpy", "sqlalchemy", "psycopg"}


def test_completion_knows_commands_and_options() -> None:
    def completed(words: str, place: int) -> str:
        variables = {"_SIGMASIGHT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
        command = [sys.executable, "-m", "sigmasight_pipeline.cli.main"]
        return subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False
        ).stdout

    assert completed("sigmasight sta", 1).split() == ["status"]
    assert completed("sigmasight prices ", 2).split() == ["rejected", "accept"]
    assert completed("sigmasight status --j", 2).split() == ["--json"]


@pytest.fixture
def installed(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    schema.upgrade(database_url)
    home = tmp_path_factory.mktemp("home")
    return {
        "SIGMASIGHT_HOME": str(home),
        "SIGMASIGHT_DATABASE_URL": database_url,
        "DAGSTER_DATABASE_URL": database_url,
    }


def test_a_look_does_not_wait_for_dagster(installed: dict[str, str]) -> None:
    seen = together(partial(loaded, arguments, installed) for arguments in LOOKS)
    assert [(arguments, names & set(HEAVY)) for arguments, names in zip(LOOKS, seen, strict=True)] == [
        (arguments, set()) for arguments in LOOKS
    ]
