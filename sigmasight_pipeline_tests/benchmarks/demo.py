"""Where the demo's time goes: opening an installation, each run, each asset, and one scheduled-like session.

What belongs here: timing whole runs. What does not: timing an engine or the write path by itself.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import date

from sigmasight_pipeline.assets.progress import StepDone
from sigmasight_pipeline.demo.portfolios import books
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import history
from sigmasight_pipeline.operations.launcher import plan_range
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.benchmarks.measurement import Measurement
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR, expect, import_demo, installation

FIRST, LAST = date(2024, 1, 2), date(2025, 6, 30)
WHOLE_BUDGET = 60.0
SESSION_BUDGET = 15.0


def run(server: EmbeddedServer) -> list[Measurement]:
    """Run the demo's whole history once. Ratios are seconds over the budget in seconds."""
    stages: list[Measurement] = []
    seconds: Counter[str] = Counter()
    written: Counter[str] = Counter()

    def listener(step: StepDone) -> None:
        seconds[step.asset] += step.seconds
        written[step.asset] += step.rows

    begun = time.perf_counter()
    with temporary_home() as home, installation(server, home) as opened:
        launcher = opened.launcher
        stages.append(Measurement("open installation, load Dagster", time.perf_counter() - begun, 1))
        started = time.perf_counter()
        import_demo(opened)
        stages.append(Measurement("import the portfolios", time.perf_counter() - started, len(books())))
        chunks = history.plan_history(
            opened.database,
            opened.settings,
            open_source(opened.settings, CALENDAR),
            CALENDAR,
            first=FIRST,
            last=LAST,
            prices_from=opened.settings.first_session,
        )
        for chunk in chunks:
            started = time.perf_counter()
            expect(launcher.run(chunk, listener))
            stages.append(Measurement(str(chunk), time.perf_counter() - started, chunk.session_count))
        whole = time.perf_counter() - begun
        sessions = sum(chunk.session_count for chunk in chunks)
        stages += [Measurement(f"of which {name}", seconds[name], written[name]) for name in sorted(seconds)]
        stages.append(
            Measurement("the demo, all of it", whole, sessions, whole / WHOLE_BUDGET, f"{WHOLE_BUDGET:.0f} s", 1.0)
        )
        (one,) = plan_range("daily", LAST, LAST, calendar=CALENDAR, size=1)
        started = time.perf_counter()
        expect(launcher.run(one))
        single = time.perf_counter() - started
        stages.append(
            Measurement(
                "one session, in this process", single, 1, single / SESSION_BUDGET, f"{SESSION_BUDGET:.0f} s", 1.0
            )
        )
    return stages
