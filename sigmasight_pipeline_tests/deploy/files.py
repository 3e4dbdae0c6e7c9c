"""What stands below deploy/, read once, and what both kinds of deployment are held against.

What belongs here: reading the files, and telling whether a command line would be understood. What does not: assertions.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from dagster._cli import create_dagster_cli
from dagster._daemon.cli import create_dagster_daemon_cli
from dagster_webserver.cli import dagster_webserver
from typer.main import get_command

from sigmasight_pipeline.cli import main

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE_FILE = DEPLOY / "docker-compose.yaml"
VALUES_FILE = DEPLOY / "kubernetes" / "values.yaml"
EXAMPLES = (DEPLOY / "compose.env.example", DEPLOY / "kubernetes" / "secrets.env.example")
PIPELINE_SERVICES = ("migrate", "code", "webserver", "daemon")
PICTURES = {".png", ".gif", ".jpg"}


def texts() -> dict[Path, str]:
    """Every text below deploy/ that is not a person's own (.env)."""
    found = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix not in PICTURES | {".env"}]
    return {path: path.read_text(encoding="utf-8") for path in found if path.name != ".env"}


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


COMPOSE = read(COMPOSE_FILE)
VALUES = read(VALUES_FILE)
MIGRATE_JOB = read(DEPLOY / "kubernetes" / "migrate-job.yaml")
DAGSTER_YAML = read(ROOT / "dagster.yaml")
GUIDE = (DEPLOY / "operators-guide.md").read_text(encoding="utf-8")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def image_environment() -> dict[str, str]:
    """What the last stage of the image sets."""
    stage = [*instructions()]
    last = max(index for index, (name, _) in enumerate(stage) if name == "FROM")
    words = [word for name, rest in stage[last:] if name == "ENV" for word in shlex.split(rest)]
    return dict(word.split("=", 1) for word in words)


@contextmanager
def own_environment() -> Iterator[None]:
    """The environment as it was afterwards, whatever the block sets."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


PROGRAMS: dict[str, Any] = {
    "dagster": create_dagster_cli(),
    "dagster-daemon": create_dagster_daemon_cli(),
    "dagster-webserver": dagster_webserver,
}


@cache
def program(name: str) -> Any:
    """The click command of a program."""
    return get_command(main._command_tree()) if name == "sigmasight" else PROGRAMS[name]


def complaint(line: str) -> str | None:
    """What is wrong with a command line, by what its program says of itself; None where nothing is."""
    name, *words = shlex.split(line)
    command = program(name)
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word not in command.commands:
            return f"{line!r}: {name} has no {word!r}"
        command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word for word in words if word.startswith("--") and len(word) > 2}
    return f"{line!r}: no {sorted(given - known)}" if given - known else None
