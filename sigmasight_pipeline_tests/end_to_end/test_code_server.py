"""The process that holds the code is killed under `sigmasight dev`: it comes back, and nobody has to do anything."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import pytest

from sigmasight_pipeline.cli import code_location
from sigmasight_pipeline_tests.end_to_end.fortnight import command_line, kill
from sigmasight_pipeline_tests.end_to_end.installations import embedded_installation
from sigmasight_pipeline_tests.end_to_end.webserver import Webserver, dev, processes, waited

CODE_SERVER = "dagster api grpc"


def code_servers(ui: Webserver) -> set[int]:
    return {pid for pid in processes(ui.folder) if CODE_SERVER in command_line(pid)}


def answers(ui: Webserver) -> str | None:
    """What a sensor says, which the code server evaluates."""
    try:
        return str(ui.tick_sensor("gaps")["skipReason"])
    except (urllib.error.HTTPError, AssertionError, TypeError):  # the UI's ways of saying that nobody answers it
        return None


@pytest.mark.slow
def test_a_killed_code_server_is_started_again_by_itself(home: Path) -> None:
    with embedded_installation(home), dev(home) as ui:
        before = code_servers(ui)
        assert before
        assert answers(ui)
        kill(ui, CODE_SERVER)
        waited(lambda: code_servers(ui) - before or None, "another code server")
        waited(lambda: answers(ui), "its answer")
        assert code_location.lost(ui.url) == []
        told = ui.output.read_text()
        assert told.count("The process that holds the code of sigmasight_pipeline is gone") == 1, told


def test_a_ui_that_does_not_answer_has_lost_nothing() -> None:
    assert code_location.lost("http://127.0.0.1:9") == []
