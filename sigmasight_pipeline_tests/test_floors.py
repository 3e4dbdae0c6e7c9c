"""The floors of the architecture: what may import what, and that engines know neither Dagster, database nor clock.

Read from the source, function-level imports included.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
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
    "checks": {"tables", "frames", "database", "judging"},
}
"""Of storage: the edges use what tables look like, and checks also read; none of them writes."""

EXCEPTIONS = {("market_data/factory.py", "demo"), ("cli/main.py", "__version__")}
"""The factory opens the simulated market, which is a source like any other; the version is a plain string."""

WITHOUT_DAGSTER = (
    "fixed_history",
    "settings",
    "sessions",
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
    return imports_of(ast.walk(ast.parse(path.read_text(encoding="utf-8"))), path)


def imports_of(nodes: Iterable[ast.AST], path: Path) -> Iterator[str]:
    """The same of some nodes of the module at `path`."""
    for node in nodes:
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


STATEMENT = re.compile(
    r"\bSELECT\b.*\bFROM\b|\bINSERT INTO\b|\bDELETE FROM\b|\bUPDATE \S+ SET\b|\bCREATE (TABLE|INDEX|VIEW)\b",
    flags=re.DOTALL,
)

TELLS_STATEMENTS = {"operations/audit_findings.py"}
"""Their statements are words: what a person may run to put something right."""


def statements(path: Path) -> list[int]:
    """Lines with SQL statements in strings, those of f-strings included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = [node for node in ast.walk(tree) if isinstance(node, (ast.Constant, ast.JoinedStr))]
    docs = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [node.lineno for node in texts if node not in docs and STATEMENT.search(ast.unparse(node))]


@pytest.mark.parametrize("part", sorted(set(FLOORS) - {"storage"}))
def test_statements_stand_in_storage_alone(part: str) -> None:
    found = {path.relative_to(ROOT).as_posix(): statements(path) for path in modules(part)}
    assert {name: lines for name, lines in found.items() if lines and name not in TELLS_STATEMENTS} == {}


def test_statements_are_seen() -> None:
    assert statements(ROOT / "storage" / "standing.py")
    assert statements(ROOT / "operations" / "audit_findings.py")


def reached(part: str) -> set[str]:
    """Parts and libraries an import of `part` loads, imports of imports included, as far as they are unconditional."""
    seen: set[Path] = set()
    found: set[str] = set()
    waiting = modules(part)
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        loaded = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        for name in imports_of(loaded, path):
            if name.startswith(f"{PACKAGE}."):
                found.add(name.split(".")[1])
                waiting += [file for file in files_of(name) if file not in seen]
            else:
                found.add(name.split(".")[0])
    return found


def files_of(name: str) -> list[Path]:
    """The modules an import of `name` (a module, or a name in one) runs, packages on the way included."""
    parts = name.split(".")[1:]
    candidates = [ROOT.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    files = [file for base in candidates for file in (base.with_suffix(".py"), base / "__init__.py")]
    return [file for file in files if file.is_file()]


@pytest.mark.parametrize("part", sorted(FLOORS))
def test_what_is_loaded_lies_below_imports_of_imports_included(part: str) -> None:
    allowed, waiting = set[str](), [part]
    while waiting:
        one = waiting.pop()
        if one not in allowed:
            allowed.add(one)
            waiting += FLOORS[one]
    excepted = {name for path, name in EXCEPTIONS if part_of(ROOT / path) in allowed}
    # what an exception leads to is allowed with it
    allowed |= excepted | {below for name in excepted for below in FLOORS.get(name, set())}
    assert {name for name in reached(part) if name in FLOORS} <= allowed


WITHOUT_LOADING = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("dagster"):
            raise ImportError(f"{name} is not to be loaded")

sys.meta_path.insert(0, Blocked())
for part in sys.argv[1:]:
    module = importlib.import_module(f"sigmasight_pipeline.{part}")
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
        if ".migrations." not in found.name:  # Alembic runs those
            importlib.import_module(found.name)
"""


def test_below_the_assets_everything_loads_without_dagster() -> None:
    """Whoever imports it: libraries bring others, so that only loading tells."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOADING, *WITHOUT_DAGSTER],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_http_has_one_module() -> None:
    assert {path.relative_to(ROOT).as_posix() for path in modules() if "httpx" in outside(path)} == {
        "market_data/http.py"
    }


def test_types_of_arrays_have_one_module() -> None:
    aliases = {
        path.name: node.lineno
        for path in modules("calculations")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and "NDArray" in ast.unparse(node.value)
    }
    assert set(aliases) == {"arrays.py"}


def test_the_walk_sees_what_it_must(tmp_path: Path) -> None:
    """Relative imports and imports inside functions are found."""
    assert ["storage", "tables", "columns", "code"] in list(own(ROOT / "storage" / "tables" / "market.py"))
    inside = tmp_path / "inside.py"
    inside.write_text("def f():\n    from sigmasight_pipeline.cli import main\n    import psycopg.rows\n")
    assert list(own(inside)) == [["cli", "main"]]
    assert outside(inside) == {"psycopg"}
