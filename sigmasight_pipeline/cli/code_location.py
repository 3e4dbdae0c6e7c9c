"""The code location of `sigmasight dev`: loaded again when the process that holds the project's code is gone.

What belongs here: asking the UI whether it reaches the code, and pressing "Reload definitions" where it does not. What
does not: starting and ending the UI (``serving``).

Why: Dagster keeps the project's code in a process of its own, which evaluates sensors and schedules and starts runs.
Should that one be killed (a machine without memory, say), Dagster 1.13 tells the UI so and leaves it at that: sensors
fail and nothing is launched until a person reloads the definitions.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LOOK_SECONDS = 5.0
"""How often the UI is asked; it needs some ten seconds itself before it gives a code server up."""

LOOKS = 4
"""How often in a row it must have lost the code: a server that was only too busy to answer is found again by the UI
itself, which looks every ten seconds, and is not to be replaced."""

ANSWER_SECONDS = 120.0
"""How long the UI may take: loading definitions is waited for."""

UNREACHABLE = "DagsterUserCodeUnreachableError"
"""What the UI says of a location whose process does not answer. Code that does not load says something else, and
loading it again would not help."""

ENTRIES = """{ workspaceOrError { ... on Workspace { locationEntries { name
  locationOrLoadError { ... on PythonError { className } } } } } }"""
RELOAD = (
    """mutation Reload($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"""
)


@contextmanager
def kept_loaded(url: str, told: Callable[[str], None]) -> Iterator[None]:
    """Inside the block, have the UI at `url` load the code again whenever it lost it; `told` is told each time."""
    ended = threading.Event()

    def look_after() -> None:
        missed: dict[str, int] = {}
        while not ended.wait(LOOK_SECONDS):
            missed = {name: missed.get(name, 0) + 1 for name in lost(url)}
            for name in [name for name, looks in missed.items() if looks == LOOKS]:
                told(f"The process that holds the code of {name} is gone; its definitions are loaded again.")
                _ask(url, RELOAD, name=name)
                del missed[name]

    thread = threading.Thread(target=look_after, name="code location", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def lost(url: str) -> list[str]:
    """Code locations the UI at `url` does not reach any more; none where the UI itself does not answer."""
    answer = _ask(url, ENTRIES)
    entries = ((answer or {}).get("workspaceOrError") or {}).get("locationEntries") or []
    return [entry["name"] for entry in entries if (entry["locationOrLoadError"] or {}).get("className") == UNREACHABLE]


def _ask(url: str, query: str, **variables: str) -> dict[str, Any] | None:
    """The answer of the UI; None where it gives none: it begins, ends, or is busy, and is asked again."""
    from sigmasight_pipeline.market_data.http import HttpClient, HttpError, Limits

    limits = Limits(silence_seconds=ANSWER_SECONDS, total_seconds=ANSWER_SECONDS)
    try:
        with HttpClient("UI", hide=str, limits=limits) as client:
            answered = client.request("POST", f"{url}/graphql", json={"query": query, "variables": variables})
        answer: dict[str, Any] | None = json.loads(answered.body).get("data")
    except (HttpError, ValueError):
        return None
    return answer
