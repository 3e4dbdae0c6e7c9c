"""The wheel by itself: built from the checkout, installed elsewhere, it runs from any folder without it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from sigmasight_pipeline import __version__
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.cli.commands import on_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's contents and nothing else of the checkout."""
    built, target = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("installed")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built), cwd=ROOT)
    (wheel,) = built.glob("*.whl")
    _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel)
    return target


def _run(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    ended = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_it_holds_what_a_checkout_has_and_types(installed: Path) -> None:
    package = installed / "sigmasight_pipeline"
    for name in ("dagster.yaml", "workspace.yaml"):
        assert (package / name).read_text() == (ROOT / name).read_text()
    assert (package / "py.typed").is_file()
    for folder in ("dbt_like_sql", "sigmasight_pipeline/storage/migrations"):
        files = sorted(path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.sql"))
        assert files
        inside = package / folder.removeprefix("sigmasight_pipeline/")
        assert files == sorted(path.relative_to(inside) for path in inside.rglob("*.sql"))
    assert not (installed / "sigmasight_pipeline_tests").exists()


def test_it_runs_alone(installed: Path, server: EmbeddedServer, tmp_path: Path) -> None:
    """Its commands, the environment they print, and Dagster loading its definitions in that environment."""
    with on_server(server, tmp_path) as commands:
        own = {**commands.environment({}), "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
        command = (sys.executable, "-m", "sigmasight_pipeline.cli.main")
        assert _run(*command, "--version", cwd=tmp_path, **own).strip() == __version__
        _run(*command, "db", "upgrade", cwd=tmp_path, **own)
        with psycopg.connect(own["SIGMASIGHT_DATABASE_URL"]) as connection:
            views = connection.execute("SELECT count(*) FROM pg_views WHERE schemaname = 'staging'").fetchone()
        assert views == (len(list((ROOT / "dbt_like_sql" / "models" / "staging").glob("*.sql"))),)
        told = _run(*command, "env", cwd=tmp_path, **own)
        assert re.search(r"^export DAGSTER_HOME=", told, flags=re.MULTILINE)
        linked = tmp_path / "state" / "dagster" / "dagster.yaml"
        assert linked.resolve() == installed / "sigmasight_pipeline" / "dagster.yaml"
        workspace = installed / "sigmasight_pipeline" / "workspace.yaml"
        script = "\n".join(
            [
                told,
                f"{sys.executable} -c 'import sigmasight_pipeline.definitions as loaded; print(loaded.__file__)'",
                f"{sys.executable} -m dagster definitions validate -w {workspace}",
            ]
        )
        loaded = _run("bash", "-e", "-c", script, cwd=tmp_path, **own)
        assert str(installed) in loaded
