"""Receivers of alerts, for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sigmasight_pipeline_tests.operations.receivers import MailServer, Webhook, mail_server, webhook


@pytest.fixture
def receiver() -> Iterator[Webhook]:
    with webhook() as running:
        yield running


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with mail_server() as running:
        yield running
