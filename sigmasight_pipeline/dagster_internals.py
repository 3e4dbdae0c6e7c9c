"""Every private name of Dagster that is used here, in one place: what to look at when a new version moves one.

What belongs here: imports of private names, and the methods of Dagster that are replaced or gone around. What does not:
what is done with them (``assets``, ``operations``), and Dagster's public names.

Tests hold the source of each method that is replaced or overridden, so that a version that changes one is noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagster import AssetExecutionContext, TimeWindowPartitionsDefinition
from dagster import _check as check
from dagster._core.code_pointer import CodePointer
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.partitions.context import PartitionLoadingContext
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.errors import DagsterAssetCheckFailedError, DagsterExecutionInterruptedError
from dagster._core.events import EngineEventData, JobFailureData
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.api import ExecuteRunWithPlanIterable, create_execution_plan, job_execution_iterator
from dagster._core.execution.compute_logs import create_compute_log_file_key
from dagster._core.execution.context.metadata_logging import AssetMetadataHandle, OutputMetadataAccumulator
from dagster._core.execution.context.system import (
    IPlanContext,
    PlanExecutionContext,
    PlanOrchestrationContext,
    StepExecutionContext,
)
from dagster._core.execution.context_creation_job import (
    PlanExecutionContextManager,
    PlanOrchestrationContextManager,
    orchestration_context_event_generator,
)
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.execute_plan import dagster_event_sequence_for_step
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.objects import ErrorSource
from dagster._core.execution.plan.outputs import StepOutputHandle
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode, get_retries_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.loader import LoadingContext
from dagster._core.log_manager import get_log_record_metadata
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import CodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.partition_status_cache import AssetStatusCacheValue
from dagster._core.storage.tags import (
    BACKFILL_ID_TAG,
    GRPC_INFO_TAG,
    PARTITION_NAME_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
    WILL_RETRY_TAG,
)
from dagster._core.types.pagination import PaginatedResults
from dagster._core.utils import make_new_run_id
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._serdes import ConfigurableClassData
from dagster._utils.interrupts import pop_captured_interrupt
from dagster_shared.error import SerializableErrorInfo
from dagster_shared.serdes import serialize_value

__all__ = [
    "BACKFILL_ID_TAG",
    "DEFAULT_DAGSTER_ENTRY_POINT",
    "GRPC_INFO_TAG",
    "PARTITION_NAME_TAG",
    "SCHEDULE_NAME_TAG",
    "SENSOR_NAME_TAG",
    "SINGLETON_REPOSITORY_NAME",
    "WILL_RETRY_TAG",
    "ActiveExecution",
    "AssetCheckEvaluationPlanned",
    "AssetCheckExecutionRecordStatus",
    "AssetCheckExecutionsTable",
    "AssetMetadataHandle",
    "AssetStatusCacheValue",
    "CodeLocationOrigin",
    "CodePointer",
    "ConfigurableClassData",
    "DagsterAssetCheckFailedError",
    "DagsterExecutionInterruptedError",
    "EngineEventData",
    "ErrorSource",
    "EventLogEntry",
    "ExecuteRunWithPlanIterable",
    "ExecutionPlan",
    "IPlanContext",
    "InMemoryJob",
    "InstanceConcurrencyContext",
    "InstanceRef",
    "InstigatorStatus",
    "InstigatorType",
    "JobFailureData",
    "JobPythonOrigin",
    "LoadingContext",
    "OutputMetadataAccumulator",
    "PaginatedResults",
    "PartitionLoadingContext",
    "PlanExecutionContext",
    "PlanExecutionContextManager",
    "PlanOrchestrationContext",
    "PlanOrchestrationContextManager",
    "RemoteJobOrigin",
    "RemoteRepositoryOrigin",
    "RepositoryPythonOrigin",
    "RetryMode",
    "RunRecord",
    "SerializableErrorInfo",
    "SqlEventLogStorageTable",
    "StepExecutionContext",
    "StepOutputHandle",
    "check",
    "create_compute_log_file_key",
    "create_execution_plan",
    "dagster_event_sequence_for_step",
    "get_log_record_metadata",
    "get_retries_config",
    "job_execution_iterator",
    "location_origins_from_yaml_paths",
    "make_new_run_id",
    "orchestration_context_event_generator",
    "pop_captured_interrupt",
    "serialize_value",
]

REPLACED: dict[Callable[..., Any], str] = {
    TimeWindowPartitionsDefinition.get_paginated_partition_keys: "operations.dagster_repairs",
    TimeWindowPartitionsDefinition.filter_valid_partition_keys: "operations.partition_lookup",
    TimeWindowPartitionsDefinition.has_any_partitions_in_window: "assets.partition_memory",
    TimeWindowPartitionsDefinition.get_prev_partition_window: "assets.partition_memory",
    StepExecutionContext.get_output_context: "assets.partition_events",
    AssetExecutionContext.add_asset_metadata: "assets.partition_metadata",
    OutputMetadataAccumulator.with_additional_asset_metadata: "assets.partition_metadata",
}
"""Methods of objects of Dagster's that are replaced or gone around, and the module here that does; overridden ones of
classes here are found by their names."""
