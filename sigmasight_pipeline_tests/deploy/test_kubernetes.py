"""deploy/kubernetes: the values fit the chart and the locked Dagster, and say what dagster.yaml says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster
import pytest
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
        (volume,) = [volume for volume in place["volumes"] if "persistentVolumeClaim" in volume]
        (mount,) = [mount for mount in place["volumeMounts"] if mount["name"] == volume["name"]]
        assert volume["persistentVolumeClaim"]["claimName"] == claim
        assert mount["mountPath"] == image_environment()["SIGMASIGHT_HOME"]


def test_the_same_migration_and_probes_that_fit() -> None:
    (job,) = MIGRATE_JOB["spec"]["template"]["spec"]["containers"]
    assert job["command"] == SERVICES["migrate"]["command"]
    webserver = VALUES["dagsterWebserver"]
    assert webserver["readinessProbe"]["httpGet"]["port"] == webserver["service"]["port"] > 1024
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    assert complaint(shlex.join(["dagster", "api", "grpc", *code["dagsterApiGrpcArgs"]])) is None
    assert f"--version {dagster.__version__} " in VALUES_FILE.read_text(), "chart and locked dagster go together"


def pods() -> dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Of every pod: the context of the pod, that of its container, and where volumes and resources stand."""
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    run = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    migration = MIGRATE_JOB["spec"]["template"]["spec"]
    (container,) = migration["containers"]
    placed = {
        "webserver": VALUES["dagsterWebserver"],
        "daemon": VALUES["dagsterDaemon"],
        "code": code,
    }
    found = {name: (place["podSecurityContext"], place["securityContext"], place) for name, place in placed.items()}
    found["run"] = (run["runK8sConfig"]["podSpecConfig"]["securityContext"], run["securityContext"], run)
    found["migrate"] = (
        migration["securityContext"],
        container["securityContext"],
        {**container, "volumes": migration["volumes"]},
    )
    return found


@pytest.mark.parametrize("name", pods())
def test_a_pod_has_no_right_it_does_not_need(name: str) -> None:
    pod, container, place = pods()[name]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # what is left to write to
    volumes = {volume["name"]: volume for volume in place["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in place["volumeMounts"]}
    assert "sizeLimit" in mounted["/tmp"]["emptyDir"]  # noqa: S108 - a folder of the pod's own
    for kind in ("cpu", "memory", "ephemeral-storage"):
        assert place["resources"]["limits"][kind], kind
    assert place["resources"]["requests"].keys() == {"cpu", "memory"}


def policies() -> list[dict[str, Any]]:
    text = (DEPLOY / "kubernetes" / "network-policy.yaml").read_text(encoding="utf-8")
    return [*yaml.safe_load_all(text)]


def test_nobody_speaks_with_anybody_but_for_what_is_named() -> None:
    found = {policy["metadata"]["name"]: policy["spec"] for policy in policies()}
    assert all(
        (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy") for policy in policies()
    )
    assert found.pop("sigmasight-nobody") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    inward = {name: spec for name, spec in found.items() if "ingress" in spec}
    assert inward.keys() == {"sigmasight-code"}, "nothing but the server of definitions is asked by other pods"
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    for name in ("sigmasight-code", "sigmasight-asking"):
        ports = [
            port for rule in (*found[name].get("ingress", ()), *found[name].get("egress", ())) for port in rule["ports"]
        ]
        assert {"protocol": "TCP", "port": code["port"]} in ports
    names = found["sigmasight-names-and-database"]["egress"]
    assert {port["port"] for rule in names for port in rule["ports"]} == {53, VALUES["postgresql"]["service"]["port"]}
    for name, spec in found.items():
        assert set(spec["policyTypes"]) == {kind.capitalize() for kind in ("ingress", "egress") if kind in spec}, name
        for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
            assert rule["ports"], f"{name} opens every port"
        if spec["podSelector"] == {}:
            assert all("to" in rule for rule in spec["egress"]), f"{name} lets everybody speak with the world"


def test_policies_select_pods_that_exist() -> None:
    """The chart's labels, and those Dagster's launcher gives the pods of runs."""
    known = {"dagster-webserver", "dagster-daemon", "user-deployments", "run_worker"}
    known.add(MIGRATE_JOB["spec"]["template"]["metadata"]["labels"]["component"])
    text = yaml.safe_dump([policy["spec"] for policy in policies()])
    labelled = set(re.findall(r"component: (\S+)", text))
    listed = {
        value
        for policy in policies()
        for selector in _selectors(policy["spec"])
        for expression in selector.get("matchExpressions", ())
        for value in expression["values"]
    }
    assert labelled | listed <= known
    assert {"user-deployments", "run_worker", "dagster-daemon", "dagster-webserver"} <= labelled | listed


def _selectors(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [spec["podSelector"]]
    for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
        found += [peer["podSelector"] for peer in (*rule.get("from", ()), *rule.get("to", ())) if "podSelector" in peer]
    return found
