"""How this project's Dagster instance is found: the environment every entry point sets before Dagster is loaded.

What belongs here: environment variables of Dagster and of the processes it starts. What does not: settings of the
pipeline (``settings``) and starting processes.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import sigmasight_pipeline

if TYPE_CHECKING:
    import dagster as dg

EVENT_BATCH_SIZE = "500"
"""Events of a range run are stored in batches; without it a run of 20 assets x 252 sessions takes twice as long."""


NO_NEWS = "Handling yaml-defined logging configuration"
"""Beginning of a warning that Dagster gives in every process for the handler in dagster.yaml."""

INSTANCE_FILE = "dagster.yaml"
WORKSPACE_FILE = "workspace.yaml"


class ProjectFilesMissingError(RuntimeError):
    """dagster.yaml and workspace.yaml are not where the package expects them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"no dagster.yaml and workspace.yaml in {folder}: install the package anew, or set DAGSTER_HOME to a "
            "folder that holds the project's own"
        )


def project_folder() -> Path:
    """The folder of dagster.yaml and workspace.yaml: DAGSTER_HOME if it has both, else the checkout or the wheel's."""
    candidates = [Path(os.environ["DAGSTER_HOME"])] if os.environ.get("DAGSTER_HOME") else []
    package = Path(sigmasight_pipeline.__file__).parent
    candidates += [package.parent, package]  # the wheel carries them beside its modules
    for folder in candidates:
        if all((folder / name).is_file() for name in (INSTANCE_FILE, WORKSPACE_FILE)):
            return folder
    raise ProjectFilesMissingError(candidates[-1])


def _instance_folder(home: Path) -> Path:
    """`home`/dagster with the project's dagster.yaml linked into it.

    Dagster writes beside the dagster.yaml it reads (telemetry folders even with telemetry off), and all state belongs
    under `home`.
    """
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    link, wanted = folder / INSTANCE_FILE, project_folder() / INSTANCE_FILE
    if not link.is_symlink() or link.readlink() != wanted:
        new = folder / f"{INSTANCE_FILE}.{os.getpid()}"
        new.unlink(missing_ok=True)
        new.symlink_to(wanted)
        new.replace(link)  # several processes may do this at once
    return folder


def dagster_storage_url(url: str) -> str:
    """`url` with the scheme Dagster's storage needs (see dagster.yaml)."""
    return "postgresql+psycopg2://" + url.split("://", 1)[1]


def environment(*, home: Path, database_url: str, dagster_url: str) -> dict[str, str]:
    """Everything dagster.yaml and the resources take from the environment, and Dagster's own DAGSTER_HOME.

    The folder that one names is made, with the project's dagster.yaml linked into it.
    """
    folder = str(_instance_folder(home))
    return {
        "SIGMASIGHT_HOME": str(home),
        "SIGMASIGHT_DATABASE_URL": database_url,
        "DAGSTER_DATABASE_URL": dagster_storage_url(dagster_url),
        "DAGSTER_HOME": folder,
        "SIGMASIGHT_DAGSTER_DIR": folder,
        "PYTHONWARNINGS": ",".join(_warnings(os.environ.get("PYTHONWARNINGS"))),
        "DAGSTER_EVENT_BATCH_SIZE": os.environ.get("DAGSTER_EVENT_BATCH_SIZE", EVENT_BATCH_SIZE),
    }


def _warnings(given: str | None) -> list[str]:
    ours = f"ignore:{NO_NEWS}"
    return [*filter(None, (given or "").split(",")), *([] if given and ours in given else [ours])]


def set_environment(*, home: Path, database_url: str, dagster_url: str) -> None:
    """Set `environment` for this process and its children."""
    warnings.filterwarnings("ignore", message=NO_NEWS)
    os.environ |= environment(home=home, database_url=database_url, dagster_url=dagster_url)


def get_instance() -> dg.DagsterInstance:
    """The instance `dagster.yaml` describes; `set_environment` must have been called."""
    import dagster as dg  # noqa: PLC0415 - the environment is set before Dagster is loaded, and often no run follows

    return dg.DagsterInstance.get()
