"""A wrong setting beside secrets, in every program that reads settings: each says what is wrong and no secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORDS = ("Hidden-mail-word", "Hidden-hook-word", "Hidden-db-word")
SECRETS = {
    "SIGMASIGHT_SMTP_PASSWORD": "Hidden-mail-word",
    "SIGMASIGHT_ALERT_WEBHOOK_URL": "https://hooks.example.com/services/Hidden-hook-word",
    "SIGMASIGHT_DATABASE_URL": "postgresql://u:Hidden-db-word@127.0.0.1:1/d",
}
PROGRAMS = {
    "command line": [sys.executable, "-m", "sigmasight_pipeline.cli.main", "status"],
    # what the webserver and the daemon do to load the code location, and what they show where it fails
    "code location": ["dagster", "definitions", "validate", "-m", "sigmasight_pipeline.definitions"],
}


@pytest.mark.parametrize(
    ("program", "name", "value"),
    [
        ("command line", "SIGMASIGHT_COVERAGE_ERROR", "80"),
        # a rule between settings: an error of the library about it holds all of them
        ("code location", "SIGMASIGHT_ALERT_MAIL_TO", "risk@example.com"),
    ],
)
def test_a_wrong_setting_tells_no_secret(tmp_path: Path, program: str, name: str, value: str) -> None:
    command = PROGRAMS[program]
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    inherited = {key: text for key, text in os.environ.items() if not key.startswith(("SIGMASIGHT_", "DAGSTER_"))}
    ended = subprocess.run(
        [str(Path(sys.executable).with_name(command[0])) if command[0] == "dagster" else command[0], *command[1:]],
        env={**inherited, **SECRETS, name: value, "SIGMASIGHT_HOME": str(tmp_path), "DAGSTER_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert name in told
    for word in WORDS:
        assert word not in told
