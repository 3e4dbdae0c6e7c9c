"""Where Dagster finds the project's jobs: what a run has to carry to be one of them.

What belongs here: the origins a run of the code location in ``workspace.yaml`` has, for runs that other processes
start. What does not: starting runs (``operations.launcher``).

Without them Dagster takes a run for a stranger: it is missing in the timeline and on its job's page, and cannot be
executed again.
"""

from __future__ import annotations

import sys
from functools import cache

from sigmasight_pipeline.dagster_internals import (
    DEFAULT_DAGSTER_ENTRY_POINT,
    SINGLETON_REPOSITORY_NAME,
    CodeLocationOrigin,
    CodePointer,
    JobPythonOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
    RepositoryPythonOrigin,
    location_origins_from_yaml_paths,
)
from sigmasight_pipeline.operations.instance import WORKSPACE_FILE, project_folder

DEFINITIONS_MODULE = "sigmasight_pipeline.definitions"
DEFINITIONS_NAME = "defs"


@cache
def _code_location() -> CodeLocationOrigin:
    (location,) = location_origins_from_yaml_paths([str(project_folder() / WORKSPACE_FILE)])
    return location


def remote_job(job: str) -> RemoteJobOrigin:
    """What webserver and daemon know `job` by; its code location is that of ``workspace.yaml``."""
    return RemoteJobOrigin(
        repository_origin=RemoteRepositoryOrigin(_code_location(), SINGLETON_REPOSITORY_NAME), job_name=job
    )


def python_job(job: str) -> JobPythonOrigin:
    """Where a process finds `job` in the code, as the code server writes it."""
    pointer = CodePointer.from_module(DEFINITIONS_MODULE, DEFINITIONS_NAME, working_directory=None)
    return JobPythonOrigin(
        job, RepositoryPythonOrigin(sys.executable, pointer, entry_point=DEFAULT_DAGSTER_ENTRY_POINT)
    )
