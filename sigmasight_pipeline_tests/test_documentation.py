"""What README, change log and guide name exists: assets, counts, settings, commands, pictures, the file of scenarios.

What belongs here: names and numbers in prose that code declares. What does not: what these do.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from sigmasight_pipeline.cli import scenarios
from sigmasight_pipeline.cli.main import COMMANDS
from sigmasight_pipeline.definitions import defs
from sigmasight_pipeline.operations import freshness
from sigmasight_pipeline.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = {name: (ROOT / name).read_text("utf-8") for name in ("README.md", "CHANGELOG.md", "deploy/operators-guide.md")}
README = PAGES["README.md"]

SETTING = re.compile(r"SIGMASIGHT_([A-Z_]+[A-Z])")
COMMAND = re.compile(r"(?:^|`|bin/)sigmasight ([a-z][a-z-]+(?: [a-z][a-z-]+)?)", flags=re.MULTILINE)
TESTS_OWN = {"test_pictures"}


def test_the_table_of_assets_is_the_graph() -> None:
    for group in {spec.group_name for spec in defs.resolve_all_asset_specs()}:
        (row,) = re.findall(rf"^\| {group} \| (.*) \|$", README, flags=re.MULTILINE)
        there = {str(spec.key.to_user_string()) for spec in defs.resolve_all_asset_specs() if spec.group_name == group}
        assert set(re.findall(r"`(\w+)`", row)) == there


def test_the_number_of_checks_is_that_of_the_rules() -> None:
    (stated,) = re.findall(r"(\d+) checks judge the data", README)
    assert int(stated) == len(set(defs.resolve_asset_graph().asset_check_keys) - set(freshness.KEYS))


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_named_is_one(page: str) -> None:
    named = {name.lower() for name in SETTING.findall(PAGES[page])} - TESTS_OWN
    assert named <= set(Settings.model_fields), page


def test_defaults_in_the_table_are_those_of_the_settings() -> None:
    rows = dict(re.findall(r"^\| `SIGMASIGHT_(\w+)` \| (\d+|none|all)[^|]* \|", README, flags=re.MULTILINE))
    assert rows
    for name, stated in rows.items():
        default = Settings.model_fields[name.lower()].default
        assert (str(default) if default else "none") == stated.replace("all", "none"), name


def commands_of(name: str) -> set[str]:
    """The commands of the group `name`; empty where it is a command itself."""
    module, _, found = COMMANDS[name].partition(".")
    command = getattr(import_module(f"sigmasight_pipeline.cli.{module}"), found)
    group = typer.main.get_command(command) if isinstance(command, typer.Typer) else None
    return set(group.commands) if isinstance(group, TyperGroup) else set()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_named_exists(page: str) -> None:
    named = COMMAND.findall(PAGES[page])
    assert named
    for words in named:
        first, *rest = words.split()
        assert first in COMMANDS, words
        assert not rest or not commands_of(first) or rest[0] in commands_of(first), words


def test_every_picture_is_there_and_small() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert pictures
    assert set(pictures) == {str(path.relative_to(ROOT)) for path in (ROOT / "deploy").glob("*.png")}
    assert all((ROOT / picture).stat().st_size < 300_000 for picture in pictures)


def test_the_file_of_scenarios_in_the_readme_is_right(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```\n(scenarios:\n.*?)```", README, flags=re.MULTILINE | re.DOTALL)
    file = tmp_path / "own.yaml"
    file.write_text(example, "utf-8")
    scenarios.check(file)
