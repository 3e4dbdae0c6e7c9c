"""The floors of the architecture: what may import what, and that engines know neither Dagster, database nor clock.

Read from the source, function-level imports included.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sigmasight_pipeline

ROOT = Path(sigmasight_pipeline.__file__).parent
PACKAGE = "sigmasight_pipeline"

GROUND = {"settings", "sessions", "symbols"}
FLOORS: dict[str, set[str]] = {
    "setting_rules": set(),
    "user_files": {"setting_rules"},
    "fixed_history": set(),
    "settings": {"setting_rules", "user_files", "fixed_history"},
    "dagster_internals": set(),
    "symbols": set(),
    "sessions": set(),
    "storage": {"settings", "sessions"},
    "calculations": {"symbols", "sessions"},
    "importing": {"storage", "sessions", "symbols", "user_files"},
    "market_data": {"calculations", "storage", "user_files", "setting_rules", *GROUND},
    "demo": {"market_data", "calculations", *GROUND},
    "checks": {"market_data", "calculations", "storage", *GROUND},
    "assets": {"dagster_internals", "checks", "importing", "market_data", "calculations", "storage", *GROUND},
    # operations and the command line launch runs and calculate nothing
    "operations": {"dagster_internals", "assets", "checks", "importing", "market_data", "demo", "storage", *GROUND},
    "cli": {
        "operations",
        "definitions",
        "assets",
        "importing",
        "market_data",
        "demo",
        "storage",
        "user_files",
        "fixed_history",
        *GROUND,
    },
    "definitions": {"assets", "operations"},
    "__init__": set(),
}
"""What each part may import besides itself: an arrow only ever points down."""

DESCRIPTIONS_ONLY = {
    "importing": {"tables", "frames"},
    "market_data": {"tables", "frames"},
    "checks": {"tables", "frames", "database"},
}
"""Of storage: the edges use what tables look like, and checks also read; none of them writes."""

EXCEPTIONS = {("market_data/factory.py", "demo"), ("cli/main.py", "__version__")}
"""The factory opens the simulated market, which is a source like any other; the version is a plain string."""

WITHOUT_DAGSTER = (
    "fixed_history",
    "settings",
    "fixed_history",
    "setting_rules",
    "user_files",
    "symbols",
    "storage",
    "calculations",
    "importing",
    "market_data",
    "demo",
)

ENGINE_LIBRARIES = {"numpy", "polars", "scipy", "statsmodels"}
ENGINE_FORBIDDEN = {"os", "sys", "io", "time", "random", "pathlib", "subprocess", "socket", "threading", "logging"}
CLOCKS = {"now", "utcnow", "today", "environ", "getenv", "default_rng"}


def modules(part: str = "") -> list[Path]:
    folder = ROOT / part
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def imports(path: Path) -> Iterator[str]:
    """Every imported name with its full path, relative ones resolved."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = [PACKAGE, *path.relative_to(ROOT).parts]
                base = ".".join([*parts[: len(parts) - node.level], *([node.module] if node.module else [])])
            yield from (f"{base}.{name.name}" for name in node.names)


def own(path: Path) -> Iterator[list[str]]:
    """Imports of parts of the package, cut at the dots, without the package's name."""
    yield from (name.split(".")[1:] for name in imports(path) if name.startswith(f"{PACKAGE}."))


def outside(path: Path) -> set[str]:
    """Top-level modules imported from elsewhere."""
    return {name.split(".")[0] for name in imports(path)} - {PACKAGE}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_part_has_a_floor() -> None:
    assert {part_of(path) for path in modules()} == set(FLOORS)


@pytest.mark.parametrize("part", sorted(FLOORS))
def test_imports_point_down(part: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {'.'.join(name)}"
        for path in modules(part)
        for name in own(path)
        if name[0] not in {part, *FLOORS[part]} and (path.relative_to(ROOT).as_posix(), name[0]) not in EXCEPTIONS
    ]
    assert wrong == []


@pytest.mark.parametrize("part", sorted(DESCRIPTIONS_ONLY))
def test_edges_use_what_tables_look_like(part: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {'.'.join(name)}"
        for path in modules(part)
        for name in own(path)
        if name[0] == "storage" and name[1] not in DESCRIPTIONS_ONLY[part]
    ]
    assert wrong == []


@pytest.mark.parametrize("part", WITHOUT_DAGSTER)
def test_below_the_assets_dagster_is_unknown(part: str) -> None:
    wrong = [str(path.relative_to(ROOT)) for path in modules(part) if any("dagster" in n for n in outside(path))]
    assert wrong == []


@pytest.mark.parametrize("path", modules("calculations"), ids=lambda path: path.stem)
def test_engines_are_pure(path: Path) -> None:
    used = outside(path)
    assert used <= set(sys.stdlib_module_names) | ENGINE_LIBRARIES
    assert not used & ENGINE_FORBIDDEN
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        called = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if called and isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            pytest.fail(f"{path.name}:{node.lineno} uses {ast.unparse(node)}")
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            pytest.fail(f"{path.name}:{node.lineno} keeps state between calls")


def test_the_walk_sees_what_it_must(tmp_path: Path) -> None:
    """Relative imports and imports inside functions are found."""
    assert ["storage", "tables", "columns", "code"] in list(own(ROOT / "storage" / "tables" / "market.py"))
    inside = tmp_path / "inside.py"
    inside.write_text("def f():\n    from sigmasight_pipeline.cli import main\n    import psycopg.rows\n")
    assert list(own(inside)) == [["cli", "main"]]
    assert outside(inside) == {"psycopg"}
