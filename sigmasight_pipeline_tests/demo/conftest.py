"""The market the demo tests read: the default seed, over a calendar that ends on a fixed day."""

from __future__ import annotations

from datetime import date

import pytest

from sigmasight_pipeline.demo.rebase import DEFAULT_SEED
from sigmasight_pipeline.demo.simulated import SimulatedMarket
from sigmasight_pipeline.sessions import SessionCalendar


@pytest.fixture(scope="session")
def calendar() -> SessionCalendar:
    return SessionCalendar(date(2013, 1, 1), date(2026, 6, 30))


@pytest.fixture(scope="session")
def market(calendar: SessionCalendar) -> SimulatedMarket:
    return SimulatedMarket(DEFAULT_SEED, calendar)
