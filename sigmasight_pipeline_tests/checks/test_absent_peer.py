"""A rule whose trusted peer is not installed says so, objects to nothing, and everything else judges as before."""

from __future__ import annotations

import json
import subprocess
import sys

HIDDEN = """
import sys
sys.modules["mibian"] = None  # as if it were not installed: importing it raises, and no specification is found

import json
from datetime import UTC, date, datetime
from sigmasight_pipeline.checks import greeks
from sigmasight_pipeline.checks.rules import Judged, measured
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import empty_frame

day = date(2024, 1, 2)
judged = Judged((day,), empty_frame(tables.position_greeks), {}, Database("postgresql://nobody@127.0.0.1:1/none"))
verdict = greeks.MIBIAN_SAMPLE.verdict(judged)
row = verdict.rows("position_greeks", "run", datetime.now(UTC)).row(0, named=True)
told = verdict.dagster_result("position_greeks")
other = greeks.DELTA_RANGE.verdict(judged)
print(json.dumps([verdict.passed, row["passed"], row["description"], told.description, other.sentence]))
"""


def test_without_mibian_its_check_is_information() -> None:
    ended = subprocess.run([sys.executable, "-c", HIDDEN], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    said = "not judged: mibian is not installed"
    assert json.loads(ended.stdout) == [True, True, said, said, "passed on 1 session(s)"]
