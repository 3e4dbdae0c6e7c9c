"""deploy/kubernetes: the values fit the chart and the locked Dagster, and say what dagster.yaml says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster
import yaml
from dagster._core.instance.config import dagster_instance_config

from sigmasight_pipeline.operations.instance import dagster_storage_url
from sigmasight_pipeline_tests.deploy.files import (
    DAGSTER_YAML,
    DEPLOY,
    EXAMPLES,
    MIGRATE_JOB,
    SERVICES,
    VALUES,
    VALUES_FILE,
    complaint,
    image_environment,
    instructions,
    read,
)


def chart(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates of Dagster's chart write into dagster.yaml of values, but for `additionalInstanceConfig`."""

    def snake(section: Mapping[str, Any], *names: str) -> dict[str, Any]:
        return {re.sub(r"(?=[A-Z])", "_", name).lower(): section[name] for name in names if name in section}

    def storage(kind: str, name: str) -> dict[str, Any]:
        given = values["postgresql"]
        return {
            "module": f"dagster_postgres.{kind}",
            "class": name,
            "config": {
                "postgres_db": {
                    "username": given["postgresqlUsername"],
                    "password": {"env": "DAGSTER_PG_PASSWORD"},
                    "hostname": given["postgresqlHost"],
                    "db_name": given["postgresqlDatabase"],
                    "port": given["service"]["port"],
                    "params": {},
                    "scheme": given["postgresqlScheme"],
                }
            },
        }

    daemon, concurrency, retention = values["dagsterDaemon"], values["concurrency"], values["retention"]
    queue = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]
    monitoring = ("startTimeoutSeconds", "maxRuntimeSeconds", "pollIntervalSeconds", "freeSlotsAfterRunEndSeconds")
    return {
        "run_storage": storage("run_storage", "PostgresRunStorage"),
        "event_log_storage": storage("event_log", "PostgresEventLogStorage"),
        "schedule_storage": storage("schedule_storage", "PostgresScheduleStorage"),
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": snake(queue, "maxConcurrentRuns", "dequeueIntervalSeconds"),
        },
        "run_monitoring": snake(daemon["runMonitoring"], "enabled", *monitoring),
        "run_retries": snake(daemon["runRetries"], "enabled", "maxRetries", "retryOnAssetOrOpFailure"),
        "telemetry": values["telemetry"],
        "retention": {name: snake(retention[name], "purgeAfterDays") for name in ("schedule", "sensor")},
        "concurrency": {
            "runs": snake(concurrency["runs"], "maxConcurrentRuns"),
            "pools": snake(concurrency["pools"], "defaultLimit", "granularity"),
        },
    }


def test_dagster_takes_what_the_chart_writes_and_the_storages_are_ours(tmp_path: Path) -> None:
    """The chart writes the storages it knows and, behind them, ours: Dagster must take the later of each two."""
    written = yaml.safe_dump(chart(VALUES)) + yaml.safe_dump(VALUES["additionalInstanceConfig"])
    (tmp_path / "dagster.yaml").write_text(written)
    taken, _ = dagster_instance_config(str(tmp_path))
    for storage in ("run_storage", "event_log_storage", "schedule_storage"):
        assert written.count(f"\n{storage}:") == 2
        assert taken[storage] == DAGSTER_YAML[storage]


def test_the_chart_agrees_with_dagster_yaml() -> None:
    written = chart(VALUES)
    for section in ("run_monitoring", "run_retries", "telemetry", "concurrency"):
        assert written[section] == DAGSTER_YAML[section], section
    # the chart wants all four; Dagster keeps for ever what dagster.yaml does not name
    retention = written["retention"]
    assert retention["sensor"]["purge_after_days"].pop("started") == -1
    assert retention == DAGSTER_YAML["retention"]
    interval = written["run_coordinator"]["config"]["dequeue_interval_seconds"]
    assert interval == DAGSTER_YAML["run_queue"]["dequeue_interval_seconds"]
    for section in ("nux", "python_logs"):
        assert VALUES["additionalInstanceConfig"][section] == DAGSTER_YAML[section]
    assert dagster_storage_url("x://y") == f"{VALUES['postgresql']['postgresqlScheme']}://y"


def test_every_pod_runs_the_same_image_with_the_same_secret(needed: set[str]) -> None:
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    places = [VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], code]
    (job,) = MIGRATE_JOB["spec"]["template"]["spec"]["containers"]
    assert {f"{place['image']['repository']}:{place['image']['tag']}" for place in places} == {job["image"]}
    run = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    assert all(place["envSecrets"] == [{"name": "sigmasight"}] for place in [*places, run])
    assert job["envFrom"] == [{"secretRef": {"name": VALUES["global"]["postgresqlSecretName"]}}]
    assert VALUES["global"]["dagsterHome"] == image_environment()["DAGSTER_HOME"]
    secret = set(re.findall(r"^([A-Za-z_-]+)=", EXAMPLES[1].read_text(), re.M))
    assert needed <= secret | image_environment().keys()
    assert "postgresql-password" in secret, "the chart reads this key"


def test_pods_of_kubernetes_are_the_images_user_and_share_one_volume() -> None:
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    run = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    user = int([rest for name, rest in instructions() if name == "USER"][-1].split(":")[0])
    contexts = [place["podSecurityContext"] for place in (VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], code)]
    contexts += [
        run["runK8sConfig"]["podSpecConfig"]["securityContext"],
        MIGRATE_JOB["spec"]["template"]["spec"]["securityContext"],
    ]
    assert {context["runAsUser"] for context in contexts} == {user}
    claim = read(DEPLOY / "kubernetes" / "state-volume.yaml")["metadata"]["name"]
    for place in (code, run):
        (volume,), (mount,) = place["volumes"], place["volumeMounts"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim
        assert (mount["name"], mount["mountPath"]) == (volume["name"], image_environment()["SIGMASIGHT_HOME"])


def test_the_same_migration_and_probes_that_fit() -> None:
    (job,) = MIGRATE_JOB["spec"]["template"]["spec"]["containers"]
    assert job["command"] == SERVICES["migrate"]["command"]
    webserver = VALUES["dagsterWebserver"]
    assert webserver["readinessProbe"]["httpGet"]["port"] == webserver["service"]["port"] > 1024
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    assert complaint(shlex.join(["dagster", "api", "grpc", *code["dagsterApiGrpcArgs"]])) is None
    assert f"--version {dagster.__version__} " in VALUES_FILE.read_text(), "chart and locked dagster go together"
