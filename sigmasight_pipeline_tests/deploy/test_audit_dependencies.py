"""The audit of dependencies says clearly what it came to: nothing known, something known, or nobody could be asked."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sigmasight_pipeline_tests.deploy.files import DEPLOY, ROOT

SCRIPT = DEPLOY / "audit_dependencies.sh"
NOT_AUDITED = 75


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """The address of a server that answers everything with `body`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(folder: Path, advisories: str, tool: str = "") -> subprocess.CompletedProcess[str]:
    """The script with an environment in which `pip-audit` is that shell script."""
    if tool:
        program = folder / "bin" / "pip-audit"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{tool}\n")
        program.chmod(0o755)
    proxies = {name for name in os.environ if name.lower().endswith("_proxy")}
    environment = {name: value for name, value in os.environ.items() if name not in proxies}
    return subprocess.run(
        [SCRIPT],
        env={**environment, "PYTHON": sys.executable, "ADVISORY_URL": advisories, "AUDIT_VENV": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_nobody_could_be_asked(tmp_path: Path) -> None:
    ended = run(tmp_path, "http://127.0.0.1:1/")
    assert ended.returncode == NOT_AUDITED
    assert (
        "The dependencies were NOT audited: the advisory database (http://127.0.0.1:1/) cannot be reached"
        in ended.stderr
    )


def test_a_page_of_somebody_else_is_no_database(tmp_path: Path) -> None:
    with answering(b"<html>log in to the network</html>") as url:
        assert run(tmp_path, url).returncode == NOT_AUDITED


@pytest.mark.parametrize(
    ("tool", "status"),
    [
        ("echo No known vulnerabilities found; exit 0", 0),
        ("echo Found 2 known vulnerabilities in 1 package; exit 1", 1),
        ("echo ERROR:pip_audit._cli:connection refused; exit 1", NOT_AUDITED),
        (
            "echo No known vulnerabilities found; echo 'numpy  Dependency not found and could not be audited'; exit 0",
            NOT_AUDITED,
        ),
    ],
)
def test_what_it_came_to(tmp_path: Path, tool: str, status: int) -> None:
    with answering(b'{"vulnerabilities": []}') as url:
        ended = run(tmp_path, url, tool)
    assert ended.returncode == status, ended.stderr
    if status != NOT_AUDITED:
        locks = [path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.lock"), *DEPLOY.glob("*.lock"))]
        assert {"requirements.lock", "deploy/requirements-docker.lock"} <= set(locks)
        for lock in locks:
            assert f"{lock}:" in ended.stdout.splitlines()


def test_it_runs_in_continuous_integration_and_not_in_the_tests() -> None:
    ci, makefile = (ROOT / ".ci" / "run").read_text(), (ROOT / "Makefile").read_text()
    assert f"deploy/audit_dependencies.sh || [ $? -eq {NOT_AUDITED} ]" in ci
    (test,) = [block for block in makefile.split("\n\n") if block.startswith("test:")]
    assert "audit" not in test
    assert "audit-dependencies: " in makefile
