"""The resources assets are given: the database and the market data source.

What belongs here: turning configuration into objects of the storage and market data layers. What does not: SQL and
vendors.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache

import dagster as dg

from sigmasight_pipeline import sessions
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.market_data.source import MarketDataSource
from sigmasight_pipeline.settings import Settings, get_settings
from sigmasight_pipeline.storage.database import Database


@lru_cache(maxsize=4)
def _database(url: str) -> Database:
    """One Database per process and URL: its reading connection is kept open between steps."""
    return Database(url)


@lru_cache(maxsize=2)
def _source(known_on: str | None = None) -> MarketDataSource:
    """One source per process and day it is asked on: what it has read or simulated is kept between steps."""
    return open_source(get_settings(), sessions.calendar(), None if known_on is None else date.fromisoformat(known_on))


class PostgresResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # its type parameter is for deferred resources
    """The database every asset reads from and writes to."""

    database_url: str

    @property
    def database(self) -> Database:
        """The database, connected on first use."""
        return _database(self.database_url)


class MarketDataResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # as above
    """The market data source the settings name (SIGMASIGHT_PRICE_SOURCE).

    A run that names a day `known_on` gets what the simulated market knew on it, before its later corrections.
    """

    known_on: str | None = None

    @property
    def source(self) -> MarketDataSource:
        """The source, opened on first use."""
        return _source(self.known_on)


class SettingsResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # as above
    """The settings of this installation, read from the environment by the process that runs."""

    @property
    def values(self) -> Settings:
        """The settings."""
        return get_settings()
