"""What of Dagster's own source this project replaces or overrides, as it was when that was written.

What belongs here: finding those methods, and the hash of the source of each. What does not: judging a change: somebody
reads both. `python -m sigmasight_pipeline_tests.operations.dagster_sources` writes the hashes anew once that is done.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sigmasight_pipeline
from sigmasight_pipeline import dagster_internals

RECORDED = Path(__file__).with_name("dagster_sources.json")

UPPER_FLOORS = ("sigmasight_pipeline.assets", "sigmasight_pipeline.operations", "sigmasight_pipeline.checks")


def overridden() -> Iterator[tuple[Callable[..., Any], str]]:
    """Every method of a class of Dagster's that a class here overrides, and the module that does."""
    names = [found.name for found in pkgutil.walk_packages(sigmasight_pipeline.__path__, "sigmasight_pipeline.")]
    # all of them first: only then is it known what is mixed into what
    modules = [importlib.import_module(name) for name in names if name.startswith(UPPER_FLOORS)]
    for module in modules:
        for _, own in inspect.getmembers(module, inspect.isclass):
            if own.__module__ != module.__name__:
                continue
            # a class that is mixed in overrides what stands behind it in the classes it is mixed into
            for kind in (own, *own.__subclasses__()):
                parents = [base for base in kind.__mro__ if base.__module__.startswith("dagster")]
                for name in (name for name, value in vars(own).items() if _is_code(value)):
                    for parent in parents:
                        if name in vars(parent) and _is_code(vars(parent)[name]):
                            yield getattr(parent, name), module.__name__.removeprefix("sigmasight_pipeline.")
                            break


def _is_code(value: object) -> bool:
    return inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod))


def sources() -> dict[str, dict[str, str]]:
    """By the name of each method that is replaced or overridden: the module here, and the hash of its source."""
    methods = [*dagster_internals.REPLACED.items(), *overridden()]
    told = {
        f"{method.__module__}.{method.__qualname__}": {
            "here": module,
            "sha256": hashlib.sha256(inspect.getsource(method).encode()).hexdigest(),
        }
        for method, module in methods
    }
    return dict(sorted(told.items()))


def recorded() -> dict[str, dict[str, str]]:
    """The same as it was when somebody last looked."""
    found: dict[str, dict[str, str]] = json.loads(RECORDED.read_text("utf-8"))
    return found


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(sources(), indent=2) + "\n", "utf-8")
