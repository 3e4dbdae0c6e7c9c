"""The executor of every run: steps as threads of one process, a few at a time.

What belongs here: which of the ready steps runs next, on which thread, and how a run that is interrupted ends. What
does not: launching runs (``operations.launcher``) and anything about a particular asset.

Why: Dagster's in-process executor runs steps one after another, so that this process waits while PostgreSQL takes rows,
and PostgreSQL waits while this process computes; its multiprocess executor pays more than four seconds of imports for
every step. Two steps at a time on two cores take 252 sessions of the demo from 32 to 20 s.
"""

from __future__ import annotations

import contextvars
import ctypes
import gc
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import dagster as dg
from threadpoolctl import threadpool_limits

from sigmasight_pipeline.assets.catalog import POOL_TAG
from sigmasight_pipeline.dagster_internals import (
    ActiveExecution,
    DagsterExecutionInterruptedError,
    EngineEventData,
    ExecuteRunWithPlanIterable,
    ExecutionPlan,
    InstanceConcurrencyContext,
    PlanExecutionContext,
    PlanExecutionContextManager,
    PlanOrchestrationContext,
    RetryMode,
    StepExecutionContext,
    create_compute_log_file_key,
    dagster_event_sequence_for_step,
    get_retries_config,
)
from sigmasight_pipeline.operations.run_process import EndWatch, Heartbeat, introduce, own_sessions

STEPS_AT_A_TIME = 2
"""One computing while another writes; more needs the memory of more steps and finds little left to do."""

LOOK_SECONDS = 0.1
"""How often a waiting run looks whether it was interrupted."""

AGAIN_SECONDS = 4.0
"""Python drops an interruption that reaches a thread in a finaliser; a step still under way then gets another."""


@dataclass(frozen=True)
class _Ended:
    """The last thing a step's thread says; `error` is what the run has to end with, if anything."""

    step_key: str
    error: BaseException | None


@dataclass
class _StepThreads:
    """The steps under way; their events arrive in `said`, each step's in order and its `_Ended` last."""

    said: SimpleQueue[dg.DagsterEvent | _Ended] = field(default_factory=SimpleQueue)
    running: dict[str, threading.Thread] = field(default_factory=dict)

    def start(self, step_context: StepExecutionContext) -> None:
        """Run a step on a thread of its own, which sees this thread's context variables."""
        key = step_context.step.key
        thread = threading.Thread(target=contextvars.copy_context().run, args=(self._run, step_context), name=key)
        self.running[key] = thread
        thread.start()

    def _run(self, step_context: StepExecutionContext) -> None:
        error: BaseException | None = None
        try:
            for event in dagster_event_sequence_for_step(step_context):
                self.said.put(event)
        except BaseException as raised:  # noqa: BLE001  # handed to the run's own thread, which raises it
            error = raised
        self.said.put(_Ended(step_context.step.key, error))

    def ended(self, step_key: str) -> None:
        """Forget a step that has said its last."""
        self.running.pop(step_key).join()

    def lost(self) -> list[_Ended]:
        """Steps whose thread ended without its last word: an interruption can reach it before it speaks."""
        dead = [key for key, thread in self.running.items() if not thread.is_alive()]
        # asked after that: what a dead thread has said lies in the queue already
        return [_Ended(key, DagsterExecutionInterruptedError()) for key in dead] if self.said.empty() else []

    def interrupt(self) -> None:
        """Have every running step raise KeyboardInterrupt at its next Python instruction, as Ctrl-C in it would."""
        for thread in self.running.values():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt)
            )


class ConcurrentInProcessExecutor(dg.Executor):
    """Runs at most `steps_at_a_time` steps at once, each on a thread; their events reach Dagster from one."""

    def __init__(self, steps_at_a_time: int, retries: RetryMode) -> None:
        self.steps_at_a_time = steps_at_a_time
        self._retries = retries

    @property
    def retries(self) -> RetryMode:
        """Whether steps that ask for it are retried."""
        return self._retries

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """The events of a run's steps, as they happen."""
        if not gc.get_freeze_count():
            gc.freeze()  # the million objects loaded by now stay; looking through them again is a tenth of a run
        introduce(plan_context.instance, plan_context.dagster_run)
        yield dg.DagsterEvent.engine_event(
            plan_context,
            f"Executing steps in process (pid: {os.getpid()}), at most {self.steps_at_a_time} at a time",
            EngineEventData.in_process(os.getpid(), execution_plan.step_keys_to_execute),
        )
        with own_sessions(plan_context) as waiting:
            yield from waiting
            yield from ExecuteRunWithPlanIterable(
                execution_plan=execution_plan,
                iterator=self._steps,
                execution_context_manager=PlanExecutionContextManager(
                    job=plan_context.job,
                    retry_mode=plan_context.retry_mode,
                    execution_plan=execution_plan,
                    run_config=plan_context.run_config,
                    dagster_run=plan_context.dagster_run,
                    instance=plan_context.instance,
                    raise_on_error=plan_context.raise_on_error,
                    output_capture=plan_context.output_capture,
                    step_dependency_config=self.step_dependency_config,
                ),
            )

    def _steps(self, job_context: PlanExecutionContext, execution_plan: ExecutionPlan) -> Iterator[dg.DagsterEvent]:
        with (
            # BLAS threads of two steps at once spin for the same cores: 52 s for the demo without them, 60 s with
            threadpool_limits(limits=1, user_api="blas"),
            InstanceConcurrencyContext(job_context.instance, job_context.dagster_run) as pools,
            execution_plan.start(
                retry_mode=job_context.retry_mode,
                max_concurrent=self.steps_at_a_time,
                # the second step of a pool would only ask for it again every second
                tag_concurrency_limits=[{"key": POOL_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1}],
                instance_concurrency_context=pools,
                step_dependency_config=job_context.step_dependency_config,
            ) as active,
        ):
            keys = [step.key for step in execution_plan.get_steps_to_execute_in_topo_order()]
            with _captured_output(job_context, keys) as captured:
                yield captured
                yield from _run_steps(active, job_context)


def _run_steps(active: ActiveExecution, job_context: PlanExecutionContext) -> Iterator[dg.DagsterEvent]:
    """Start steps as they become ready, until all have ended, or one of them has ended the run."""
    threads, heartbeat, watch = _StepThreads(), Heartbeat(job_context), EndWatch(job_context)
    error: BaseException | None = None
    interrupted: float | None = None
    try:
        while threads.running or not (error or active.is_complete):
            if active.check_for_interrupts() or watch.just_ended():
                active.mark_interrupted()
                error = error or DagsterExecutionInterruptedError()
                interrupted = -math.inf
            if interrupted is not None and time.monotonic() - interrupted > AGAIN_SECONDS:
                threads.interrupt()
                interrupted = time.monotonic()
            if error is None:
                yield from active.plan_events_iterator(job_context)  # steps that failed ones leave nothing to do
                for step in active.get_steps_to_execute():
                    threads.start(job_context.for_step(step, active.get_known_state()))
                yield from active.concurrency_event_iterator(job_context)
            try:
                said = threads.said.get(timeout=LOOK_SECONDS)
            except Empty:
                for lost in threads.lost():
                    threads.said.put(lost)
                yield from heartbeat.due()
                continue
            if isinstance(said, _Ended):
                threads.ended(said.step_key)
                active.verify_complete(job_context, said.step_key)
                error = error or said.error
            else:
                yield said
                heartbeat.heard()
                active.handle_event(said)
    finally:
        for thread in threads.running.values():  # the run is thrown away; nothing may go on writing behind it
            thread.join()
    if error is not None:
        raise error


@contextmanager
def _captured_output(job_context: PlanExecutionContext, step_keys: list[str]) -> Iterator[dg.DagsterEvent]:
    """Capture what the process prints, once for all steps, as Dagster's in-process executor does."""
    manager = job_context.instance.compute_log_manager
    log_key = manager.build_log_key_for_run(job_context.run_id, create_compute_log_file_key())  # type: ignore[no-untyped-call]
    with manager.capture_logs(log_key) as log_context:
        yield dg.DagsterEvent.capture_logs(job_context, step_keys, log_key, log_context)


@dg.executor(
    name="concurrent_in_process",
    config_schema={
        "steps_at_a_time": dg.Field(
            dg.Int, default_value=STEPS_AT_A_TIME, description="How many steps of a run are under way at once."
        ),
        "retries": get_retries_config(),  # type: ignore[no-untyped-call]
    },
)
def concurrent_in_process_executor(init_context: dg.InitExecutorContext) -> ConcurrentInProcessExecutor:
    """Steps as threads of the run's process, `steps_at_a_time` of them at once."""
    config = init_context.executor_config
    return ConcurrentInProcessExecutor(
        steps_at_a_time=int(str(config["steps_at_a_time"])),
        retries=RetryMode.from_config(config["retries"]),  # type: ignore[arg-type]
    )
