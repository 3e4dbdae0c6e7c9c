"""deploy/: what can be checked of it without a container engine.

Every setting and every command it names exists, its pieces name each other rightly, nothing secret stands in it, and
Dagster is set up there as dagster.yaml sets it up.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import dagster
import pytest
import yaml
from dagster_shared.telemetry import TELEMETRY_STR

from sigmasight_pipeline.definitions import defs
from sigmasight_pipeline.operations.instance import dagster_storage_url
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline_tests.deploy.files import (
    COMPOSE,
    COMPOSE_FILE,
    DAGSTER_YAML,
    DEPLOY,
    DOCKERFILE,
    EXAMPLES,
    GUIDE,
    PIPELINE_SERVICES,
    ROOT,
    SERVICES,
    complaint,
    image_environment,
    instructions,
    read,
    texts,
)

# --- names


def test_every_yaml_file_is_yaml() -> None:
    files = [path for path in texts() if path.suffix in (".yaml", ".yml")]
    assert len(files) >= 5
    for path in files:
        documents = [*yaml.safe_load_all(path.read_text(encoding="utf-8"))]
        assert documents, path
        assert all(isinstance(document, dict) for document in documents), path


def test_every_setting_named_exists(needed: set[str]) -> None:
    known = {f"SIGMASIGHT_{name.upper()}" for name in Settings.model_fields} | needed
    named = {name for text in texts().values() for name in re.findall(r"\bSIGMASIGHT_[A-Z0-9_]+", text)}
    assert {"SIGMASIGHT_DATABASE_URL", "SIGMASIGHT_SENSORS", "SIGMASIGHT_ALERT_WEBHOOK_URL"} <= named
    assert named - known == set()


def commands_of(text: str) -> Iterator[str]:
    """Command lines of our programs and Dagster's in code of a text: from their name to where the shell ends them."""
    code = re.findall(r"```\n(.*?)```", text, re.S) + re.findall(r"`([^`\n]+)`", text)
    begin = r"(?:^|\$\(|exec \w+ |-- |&& |\.venv/bin/)"
    for piece in code:
        for found in re.finditer(rf"{begin}((?:sigmasight|dagster(?:-\w+)?) [^&|;)\n]+)", piece, re.M):
            line = re.sub(r"\s*(\.\.\.).*", "", found[1]).split(" -- ")[0]
            if len(line.split()) > 1:
                yield line


def test_every_command_of_the_guide_exists() -> None:
    lines = list(commands_of(GUIDE))
    assert {"sigmasight audit", "sigmasight alerts test", "dagster instance migrate"} <= set(lines)
    assert [found for found in map(complaint, lines) if found] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("sigmasight db upgrade", False),
        ("sigmasight db upgraed", True),
        ("sigmasight repair --from 2025-03-14 --to 2025-03-31", False),
        ("sigmasight repair --form 2025-03-14", True),
        ("dagster-daemon liveness", True),
    ],
)
def test_a_wrong_command_is_complained_of(line: str, wrong: bool) -> None:
    assert bool(complaint(line)) is wrong


def test_the_guide_names_every_command_an_operator_has() -> None:
    for name in ("audit", "checks", "runs", "gaps", "repair", "alerts test", "inbox", "backfill", "import"):
        assert f"sigmasight {name}" in GUIDE


def test_the_guide_is_one_page_and_names_every_sensor_and_schedule() -> None:
    assert len(GUIDE.splitlines()) <= 135
    repository = defs.get_repository_def()
    rows = dict(re.findall(r"^\| (\w+) \| (\d+ (?:s|min)) \|", GUIDE, re.M))
    for sensor in repository.sensor_defs:
        amount, unit = rows[sensor.name].split()
        assert int(amount) * (60 if unit == "min" else 1) == sensor.minimum_interval_seconds, sensor.name
    for schedule in repository.schedule_defs:
        assert f"**{schedule.name}**" in GUIDE
        minute, hour = str(schedule.cron_schedule).split()[:2]
        assert f"{int(hour):02}:{int(minute):02} UTC" in GUIDE, schedule.name


# --- the image


def test_the_image_is_locked_and_nobody_is_root_in_it() -> None:
    installs = [command for _, rest in instructions() for command in re.findall(r"pip install ([^;&]+)", rest)]
    assert len(installs) == 3
    for command in installs:
        assert "--no-deps" in command
        assert "--require-hashes" in command or command.split()[-1] == "."
    assert "index" not in "".join(installs)
    user = [rest for name, rest in instructions() if name == "USER"][-1]
    assert int(user.split(":")[0]) > 0
    assert f"--uid {user.split(':')[0]}" in DOCKERFILE
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    for base in bases:
        version = re.fullmatch(r"python:3\.(\d+)-slim", base)
        assert version, base
        assert int(version[1]) >= 11


def test_dagster_finds_every_folder_it_would_make_beside_its_configuration() -> None:
    """The root is read-only: it makes no folder, and of those that are there it writes to none with telemetry off."""
    package = Path(dagster.__file__).parent
    sources = [*package.rglob("*.py"), *(package.parent / "dagster_shared" / "telemetry").glob("*.py")]
    asked: set[str] = set()
    for source in sources:
        asked |= set(
            re.findall(r'get_or_create_dir_from_dagster_home\("([^"]+)"\)', source.read_text(encoding="utf-8"))
        )
    home = image_environment()["DAGSTER_HOME"]
    made = {
        word for name, rest in instructions() if name == "RUN" for word in rest.split() if word.startswith(f"{home}/")
    }
    assert asked >= {"logs", ".nux"}
    assert {f"{home}/{name}" for name in (*asked, TELEMETRY_STR)} <= made
    assert DAGSTER_YAML["telemetry"] == DAGSTER_YAML["nux"] == {"enabled": False}


def test_nothing_the_image_runs_belongs_to_its_user() -> None:
    owned = [rest for name, rest in instructions() if name == "COPY" and "--chown" in rest]
    assert owned == []
    (setup,) = [rest for name, rest in instructions() if name == "RUN" and "useradd" in rest]
    given = [word for piece in setup.split("&&") if "-o sigmasight" in piece for word in piece.split() if "/" in word]
    assert given
    assert all(folder.startswith(image_environment()["SIGMASIGHT_HOME"]) for folder in given)


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    ignore = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] not in "#"]
    assert ignore[0] == "*"
    allowed = [line[1:] for line in ignore if line.startswith("!")]
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    for source in (name for names in copied for name in names):
        assert list(ROOT.glob(source)), source
        assert any(fnmatch(source, pattern) for pattern in allowed), source


def test_what_the_wheel_is_made_of_is_copied_before_it_is_built() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    names = [name for name, _ in instructions()]
    stage = [*instructions()][: names.index("FROM", names.index("FROM") + 1)]
    copied = {word for name, rest in stage if name == "COPY" for word in rest.split()[:-1]}
    assert {*wheel["packages"], *wheel["force-include"]} <= copied


@pytest.mark.parametrize("launcher", ["k8s", "docker"])
def test_a_launcher_fits_the_locked_dagster(launcher: str) -> None:
    def versions(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9_.-]+)(?:\[[^\]]*\])?==([^ ;]+)", path.read_text(), re.M))

    locked, more = versions(ROOT / "requirements.lock"), versions(DEPLOY / f"requirements-{launcher}.lock")
    assert more[f"dagster-{launcher}"] == locked["dagster-postgres"], "renew it: its head says how"
    assert not more.keys() & locked.keys()
    blocks = re.split(r"^(?=[a-z0-9])", (DEPLOY / f"requirements-{launcher}.lock").read_text(), flags=re.M)[1:]
    assert len(blocks) == len(more)
    assert all("--hash=sha256:" in block for block in blocks)


# --- compose


def environment(service: str) -> dict[str, str]:
    return image_environment() | SERVICES[service]["environment"]


@pytest.mark.parametrize("service", PIPELINE_SERVICES)
def test_every_process_has_the_environment_of_the_command(service: str, needed: set[str]) -> None:
    given = environment(service)
    assert needed - given.keys() == set()
    assert given["DAGSTER_DATABASE_URL"].partition("://")[0] == dagster_storage_url("x://y").partition("://")[0]
    for name, database in (("SIGMASIGHT_DATABASE_URL", "sigmasight"), ("DAGSTER_DATABASE_URL", "dagster")):
        assert given[name].endswith(f"@postgres:5432/{database}")
    # the command links <home>/dagster/dagster.yaml to DAGSTER_HOME's: were they one folder, to itself
    assert given["SIGMASIGHT_DAGSTER_DIR"] == f"{given['SIGMASIGHT_HOME']}/dagster" != given["DAGSTER_HOME"]
    mounted = {volume.split(":")[1] for volume in SERVICES[service]["volumes"]}
    assert {given["SIGMASIGHT_HOME"], given["SIGMASIGHT_DAGSTER_DIR"]} <= mounted


def test_the_image_holds_the_dagster_yaml_of_the_project() -> None:
    copies = [rest.split() for name, rest in instructions() if name == "COPY"]
    assert ["dagster.yaml", "workspace.yaml", f"{image_environment()['DAGSTER_HOME']}/"] in copies


def test_services_are_whole() -> None:
    for name, service in SERVICES.items():
        assert service.get("image") or service.get("build"), name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "no"
    for name in PIPELINE_SERVICES:
        assert (COMPOSE_FILE.parent / SERVICES[name]["build"]["context"]).resolve() == ROOT
        assert (ROOT / SERVICES[name]["build"]["dockerfile"]).is_file()


def test_every_volume_is_declared_and_every_mounted_file_exists() -> None:
    used = set()
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", volume).split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).is_file(), source
            else:
                used.add(source)
    assert used == COMPOSE["volumes"].keys()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_no_right_it_does_not_need(service: str) -> None:
    given = SERVICES[service]
    assert given["cap_drop"] == ["ALL"]
    assert given["security_opt"] == ["no-new-privileges:true"]
    assert given["pids_limit"]
    assert re.fullmatch(r"\$\{\w+:-\d+g\}", given["mem_limit"])
    if service in PIPELINE_SERVICES:
        assert given["read_only"] is True
        assert any(mount.startswith("/tmp:size=") for mount in given["tmpfs"])  # noqa: S108 - a folder of its own
        assert "cap_add" not in given


def test_the_database_is_reached_by_who_asks_it_and_by_nobody_else() -> None:
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == ["database"]
    for name in PIPELINE_SERVICES:
        assert "database" in SERVICES[name]["networks"]
    open_to_others = {name for name, service in SERVICES.items() if "default" in service["networks"]}
    assert open_to_others == {"code", "webserver"}, "who fetches prices and sends alerts, and who is asked by browsers"


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 1
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_commands_of_the_services_exist() -> None:
    lines = []
    for service in SERVICES.values():
        for words in (service.get("command"), service.get("healthcheck", {}).get("test", [])[1:]):
            if words and words[0] in ("dagster", "dagster-daemon", "dagster-webserver"):
                lines.append(shlex.join(words))
            elif words and words[0] == "sh":
                lines += words[2].split(" && ")
    assert len(lines) == 7
    assert [found for found in map(complaint, lines) if found] == []


def test_the_code_location_loads() -> None:
    """The code server builds every job at once; whoever only asks for one of them does not see two that collide."""
    assert {job.name for job in defs.get_repository_def().get_all_jobs()} >= {"reference", "market_data", "daily"}


def test_the_workspace_names_the_code_location() -> None:
    (server,) = (entry["grpc_server"] for entry in read(DEPLOY / "compose" / "workspace.yaml")["load_from"])
    (module,) = (entry["python_module"] for entry in read(ROOT / "workspace.yaml")["load_from"])
    command = SERVICES[server["host"]]["command"]
    assert command[command.index("--port") + 1] == str(server["port"])
    assert command[command.index("--module-name") + 1] == module["module_name"]
    assert server["location_name"] == module["location_name"]
    for name in ("webserver", "daemon"):
        words = SERVICES[name]["command"]
        target = words[words.index("--workspace") + 1]
        assert f"./compose/workspace.yaml:{target}:ro" in SERVICES[name]["volumes"]


def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker command is installed")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker has no compose plugin here")
    folder = shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns(".env"))
    example = EXAMPLES[0].read_text()
    (folder / ".env").write_text(re.sub(r"^POSTGRES_PASSWORD=$", "POSTGRES_PASSWORD=x", example, flags=re.M))
    checked = subprocess.run(
        [docker, "compose", "config", "--quiet"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


# --- secrets

SECRET = re.compile(r"(?i)password|webhook_url|database_url|^POSTGRES_PASSWORD$")


def test_no_secret_stands_in_compose() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                given = re.sub(r"\$\{\w+:\?[^}]*\}", "", value)
                assert not re.search(r":[^/@:]+@", given), f"{name}.{variable}"
                assert "://" in given or given == "", f"{name}.{variable}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_have_no_secret_and_are_complete(path: Path) -> None:
    pairs = dict(re.findall(r"^(?:# )?([A-Za-z_-]+)=(.*)$", path.read_text(), re.M))
    assert [name for name, value in pairs.items() if SECRET.search(name) and value] == []
    assert {"SIGMASIGHT_SENSORS", "SIGMASIGHT_SMTP_PASSWORD", "SIGMASIGHT_ALERT_WEBHOOK_URL"} <= pairs.keys()
    copy = {"compose.env.example": ".env", "secrets.env.example": "secrets.env"}[path.name]
    assert copy in (DEPLOY / ".gitignore").read_text().splitlines()


def test_every_variable_compose_needs_is_in_the_example() -> None:
    example = EXAMPLES[0].read_text()
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE_FILE.read_text()))
    assert required == {name for name in required if re.search(rf"^{name}=$", example, re.M)}
