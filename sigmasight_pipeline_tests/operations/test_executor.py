"""Steps of a run as threads: how many at once, in which order, and how a run ends that fails or is interrupted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import numpy as np
import psycopg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.execute_in_process import core_execute_in_process
from threadpoolctl import threadpool_info

from sigmasight_pipeline.assets import progress
from sigmasight_pipeline.assets.catalog import step_tags
from sigmasight_pipeline.definitions import defs
from sigmasight_pipeline.operations.executor import _StepThreads, concurrent_in_process_executor
from sigmasight_pipeline.operations.launcher import Chunk, Launcher, Outcome
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.operations.instances import fresh_instance

PATIENCE_SECONDS = 20
"""Longer than any step here takes; a step that waits so long waits for one that is not running."""


@pytest.fixture
def instance(server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    with fresh_instance(server, tmp_path / "instance", monkeypatch) as made:
        yield made


@dataclass
class Watch:
    """What the steps of a run did, noted as they begin and end."""

    order: list[str] = field(default_factory=list)
    under_way: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        with self.lock:
            self.order.append(name)
            self.under_way[name] += 1
            self.most_at_once = max(self.most_at_once, self.under_way.total())
        try:
            yield
        finally:
            with self.lock:
                self.under_way[name] -= 1


def step(
    watch: Watch, name: str, work: Callable[[], object], *, deps: Sequence[str] = (), **more: object
) -> dg.AssetsDefinition:
    """An asset that does `work` while `watch` looks on."""

    @dg.asset(name=name, deps=list(deps), **more)  # type: ignore[call-overload,misc]
    def made() -> None:
        with watch.step(name):
            work()

    return made  # type: ignore[no-any-return]


def launched(
    instance: dg.DagsterInstance,
    assets: Sequence[dg.AssetsDefinition],
    executor: dg.ExecutorDefinition = concurrent_in_process_executor,
    listener: Callable[[progress.StepDone], None] | None = None,
    resources: Mapping[str, object] | None = None,
) -> Outcome:
    """A run of all `assets`, as the command line starts it."""
    job = dg.define_asset_job("job", selection=list(assets))
    definitions = dg.Definitions(assets=assets, jobs=[job], executor=executor, resources=resources)
    return Launcher(instance, definitions).run(Chunk("job"), listener)


def events(instance: dg.DagsterInstance, run_id: str) -> list[tuple[str | None, str]]:
    """Step and type of every stored event of a run, in order."""
    found = [entry.dagster_event for entry in instance.all_logs(run_id)]
    return [(event.step_key, event.event_type_value) for event in found if event is not None]


def at_most(steps: int) -> dg.ExecutorDefinition:
    return concurrent_in_process_executor.configured({"steps_at_a_time": steps}, name="some")


def wait_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE_SECONDS), "the other step did not run meanwhile"


# how many, and in which order


def test_two_steps_run_at_the_same_time(instance: dg.DagsterInstance) -> None:
    watch, meeting = Watch(), threading.Barrier(2, timeout=PATIENCE_SECONDS)
    outcome = launched(instance, [step(watch, name, meeting.wait) for name in ("one", "other")])
    assert outcome.succeeded, outcome.errors


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_never_more_steps_than_allowed(instance: dg.DagsterInstance, allowed: int) -> None:
    watch = Watch()
    assets = [step(watch, f"step_{number}", lambda: time.sleep(0.1)) for number in range(7)]
    assert launched(instance, assets, at_most(allowed)).succeeded
    assert watch.most_at_once == allowed
    assert len(watch.order) == 7


def test_a_step_starts_after_everything_it_depends_on(instance: dg.DagsterInstance) -> None:
    watch = Watch()
    above, done = {"a": (), "b": (), "c": ("a",), "d": ("a", "b"), "e": ("c", "d"), "f": ()}, set[str]()

    def work(name: str) -> None:
        assert done.issuperset(above[name]), f"{name} began after {sorted(done)}"
        time.sleep(0.05)
        done.add(name)

    def asset(name: str) -> dg.AssetsDefinition:
        return step(watch, name, lambda: work(name), deps=above[name])

    outcome = launched(instance, [asset(name) for name in above], at_most(3))
    assert outcome.succeeded, outcome.errors
    assert done == set(above)


def test_early_steps_go_before_others_that_are_ready(instance: dg.DagsterInstance) -> None:
    watch = Watch()
    assets = [step(watch, name, lambda: None) for name in ("a", "b")]
    assets.append(step(watch, "z", lambda: None, op_tags=step_tags(early=True)))
    assert launched(instance, assets, at_most(1)).succeeded
    assert watch.order == ["z", "a", "b"]


def test_two_steps_of_a_pool_follow_each_other_without_waiting_for_the_pool(instance: dg.DagsterInstance) -> None:
    watch = Watch()
    pooled = {"pool": "source", "op_tags": step_tags(pool="source")}
    assets = [step(watch, name, lambda: time.sleep(0.2), **pooled) for name in ("prices", "yields")]
    outcome = launched(instance, assets)
    assert outcome.succeeded
    assert watch.most_at_once == 1
    told = " ".join(entry.user_message for entry in instance.all_logs(outcome.run_id))
    assert "blocked" not in told, "a step that asks for a taken slot asks again only after a second"


def test_steps_that_take_from_a_pool_carry_its_tag() -> None:
    pools = {node.name: node.definition.pool for node in defs.resolve_job_def("daily").graph.nodes}  # type: ignore[attr-defined]
    tagged = {node.name: node.tags.get("sigmasight/pool") for node in defs.resolve_job_def("daily").graph.nodes}
    assert {name for name, pool in pools.items() if pool} == {"market_prices", "treasury_yields"}
    assert tagged == pools


# what is told and stored


def test_the_events_are_those_of_the_in_process_executor(instance: dg.DagsterInstance) -> None:
    def fail() -> None:
        raise ValueError("no prices")

    def assets() -> list[dg.AssetsDefinition]:
        watch = Watch()
        return [
            step(watch, "good", lambda: None),
            step(watch, "bad", fail),
            step(watch, "after_good", lambda: None, deps=["good"]),
            step(watch, "after_both", lambda: None, deps=["good", "bad"]),
            step(watch, "at_the_end", lambda: None, deps=["after_both"]),
        ]

    ours, theirs = (
        (outcome, events(instance, outcome.run_id))
        for outcome in (launched(instance, assets()), launched(instance, assets(), dg.in_process_executor))
    )
    assert not ours[0].succeeded
    assert ours[0].errors == theirs[0].errors == ("bad: ValueError: no prices",)

    def of_step(found: list[tuple[str | None, str]]) -> dict[str, list[str]]:
        return {key: [kind for step_key, kind in found if step_key == key] for key, _ in found if key}

    assert of_step(ours[1]) == of_step(theirs[1])
    assert {key for key, kind in ours[1] if kind == "STEP_START"} == {"good", "bad", "after_good"}

    def of_run(found: list[tuple[str | None, str]]) -> list[str]:
        return [kind for key, kind in found if key is None and kind != "ENGINE_EVENT"]

    assert of_run(ours[1]) == of_run(theirs[1])


def test_an_error_is_raised_for_who_asks_for_it_after_the_other_steps_ended(instance: dg.DagsterInstance) -> None:
    watch = Watch()

    def fail() -> None:
        raise ValueError("no prices")

    assets = [step(watch, "bad", fail), step(watch, "slow", lambda: time.sleep(0.5))]
    jobs = [dg.define_asset_job("job", selection=assets)]
    job = dg.Definitions(assets=assets, jobs=jobs, executor=concurrent_in_process_executor).resolve_job_def("job")
    with pytest.raises(ValueError, match="no prices"):
        core_execute_in_process({}, InMemoryJob(job), instance, output_capturing_enabled=False, raise_on_error=True)
    assert sorted(watch.order) == ["bad", "slow"]
    assert watch.under_way.total() == 0


def test_a_step_that_asks_for_it_is_tried_again(instance: dg.DagsterInstance) -> None:
    watch = Watch()

    def work() -> None:
        if len(watch.order) == 1:
            raise dg.RetryRequested(max_retries=1, seconds_to_wait=0.3)

    outcome = launched(instance, [step(watch, "flaky", work), step(watch, "after", lambda: None, deps=["flaky"])])
    assert outcome.succeeded, outcome.errors
    assert watch.order == ["flaky", "flaky", "after"]
    assert "STEP_UP_FOR_RETRY" in [kind for _, kind in events(instance, outcome.run_id)]


def test_steps_report_to_who_listens_to_the_run(instance: dg.DagsterInstance) -> None:
    heard: list[str] = []
    watch = Watch()

    def asset(name: str) -> dg.AssetsDefinition:
        return step(watch, name, lambda: progress.report(progress.StepDone(name, None, None, 1, 0.0)))

    launched(instance, [asset(name) for name in ("a", "b", "c")], listener=lambda done: heard.append(done.asset))
    assert sorted(heard) == ["a", "b", "c"]


def test_numerical_libraries_leave_the_cores_to_the_steps(instance: dg.DagsterInstance) -> None:
    np.ones((2, 2)) @ np.ones((2, 2))  # the library is loaded
    seen: list[int] = []

    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = threads()
    launched(instance, [step(Watch(), "look", lambda: seen.extend(threads()))])
    assert seen == [1] * len(before)
    assert threads() == before


# interruptions


def interrupted(instance: dg.DagsterInstance, work: Callable[[], object]) -> tuple[float, dg.RunRecord]:
    """Run two steps of `work`, press Ctrl-C when both are under way; seconds until the run ended, and its record."""
    watch, both = Watch(), threading.Barrier(3, timeout=PATIENCE_SECONDS)
    pressed: list[float] = []

    def step_work() -> None:
        both.wait()
        work()

    def press() -> None:
        both.wait()
        time.sleep(0.3)
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    assets = [step(watch, name, step_work) for name in ("one", "other")]
    assets.append(step(watch, "later", lambda: None, deps=["one", "other"]))
    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        launched(instance, assets)
    assert watch.under_way.total() == 0, "a step went on behind a run that had ended"
    assert "later" not in watch.order
    return time.monotonic() - pressed[0], instance.get_run_records(limit=1)[0]


def test_ctrl_c_ends_every_step_under_way(instance: dg.DagsterInstance) -> None:
    def work() -> None:
        for _ in range(PATIENCE_SECONDS * 100):
            time.sleep(0.01)

    seconds, record = interrupted(instance, work)
    assert seconds < PATIENCE_SECONDS / 4
    kinds = Counter(
        entry.dagster_event.event_type_value
        for entry in instance.all_logs(record.dagster_run.run_id)
        if entry.dagster_event
    )
    assert kinds["STEP_FAILURE"] == 2
    assert kinds["PIPELINE_FAILURE"] == 1
    assert record.dagster_run.is_finished


def test_a_thread_that_ends_without_a_word_does_not_hold_the_run_up(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Ctrl-C reaches it between its last event and its last word."""
    monkeypatch.setattr(_StepThreads, "_run", lambda _threads, _step_context: None)
    with pytest.raises(KeyboardInterrupt):
        launched(instance, [step(Watch(), name, lambda: None) for name in ("one", "other")])
    assert instance.get_run_records(limit=1)[0].dagster_run.is_finished


def test_ctrl_c_before_the_first_step_starts_none(instance: dg.DagsterInstance) -> None:
    watch = Watch()

    @dg.resource  # set up before the steps
    def pressed(_context: dg.InitResourceContext) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    one = step(watch, "one", lambda: None, required_resource_keys={"pressed"})
    with pytest.raises(KeyboardInterrupt):
        launched(instance, [one], resources={"pressed": pressed})
    assert watch.order == []
    assert instance.get_run_records(limit=1)[0].dagster_run.is_finished


def test_ctrl_c_does_not_wait_for_a_statement_of_the_server(
    instance: dg.DagsterInstance, server: EmbeddedServer
) -> None:
    def work() -> None:
        Database(server.url("postgres")).query(f"SELECT pg_sleep({PATIENCE_SECONDS}), 'of this test'")

    seconds, _ = interrupted(instance, work)
    assert seconds < PATIENCE_SECONDS / 4
    with psycopg.connect(server.url("postgres")) as connection:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%of this test%' AND pid <> pg_backend_pid()"
        assert connection.execute(asked).fetchone() == (0,), "the server goes on with what nobody waits for"
