"""A new version of Dagster that changes a method this project replaces or overrides is noticed; private names have one
place."""

from __future__ import annotations

import ast
from pathlib import Path

import dagster
import pytest

import sigmasight_pipeline
from sigmasight_pipeline import dagster_internals
from sigmasight_pipeline_tests.operations import dagster_sources

ROOT = Path(sigmasight_pipeline.__file__).parent
NOW, THEN = dagster_sources.sources(), dagster_sources.recorded()


@pytest.mark.parametrize("method", sorted({*NOW, *THEN}))
def test_what_is_overridden_is_what_it_was(method: str) -> None:
    renew = "then `python -m sigmasight_pipeline_tests.operations.dagster_sources`"
    assert method in THEN, f"{method} is overridden by {NOW[method]['here']} since lately: {renew}"
    assert method in NOW, (
        f"{method} is gone from Dagster {dagster.__version__}, or nothing overrides it any more: {renew}"
    )
    assert NOW[method] == THEN[method], (
        f"Dagster {dagster.__version__} changed {method}: read it beside sigmasight_pipeline.{NOW[method]['here']}, "
        f"which replaces it, put that right, {renew}"
    )


def test_the_walk_finds_overridden_methods() -> None:
    found = {name.rpartition(".")[2] for name in NOW}
    assert {"store_event_batch", "connect", "optimize_for_webserver", "get_output_context"} <= found
    assert len(NOW) > len(dagster_internals.REPLACED)


def _is_private(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        parts = module.split(".")
        return parts[0] == "dagster_shared" or (
            parts[0].startswith("dagster")
            and (any(part.startswith("_") for part in parts) or any(name.name.startswith("_") for name in node.names))
        )
    return isinstance(node, ast.Import) and any(
        name.name.startswith("dagster") and "._" in name.name for name in node.names
    )


def test_private_names_are_imported_by_one_module() -> None:
    own = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if any(_is_private(node) for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    }
    assert own == {"dagster_internals.py"}


def test_every_name_of_the_module_is_used() -> None:
    used = {
        name.name
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "sigmasight_pipeline.dagster_internals"
        for name in node.names
    }
    own = {"StepExecutionContext", "OutputMetadataAccumulator"}
    assert set(dagster_internals.__all__) - used - own == set()
