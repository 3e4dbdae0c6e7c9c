"""Which market data source the settings name.

What belongs here: making the source object. What does not: anything a source does.
"""

from __future__ import annotations

from datetime import date

from sigmasight_pipeline.market_data.source import MarketDataError, MarketDataSource
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.settings import Settings


def open_source(settings: Settings, calendar: SessionCalendar, known_on: date | None = None) -> MarketDataSource:
    """The source named by `settings.price_source`, ready to read; with `known_on`, as it answered on that day.

    Sources are imported here and not above: the simulated market builds its paths when it is first imported, and an
    installation that reads files need not pay for that.
    """
    if settings.price_source == "simulated":
        from sigmasight_pipeline.demo.simulated import SimulatedMarket  # noqa: PLC0415  # see docstring

        return SimulatedMarket(seed=settings.simulated_seed, calendar=calendar, known_on=known_on)
    if known_on is not None:
        raise MarketDataError(
            f"only the simulated market can be asked what it knew on {known_on}: leave known_on out of the run"
        )
    from sigmasight_pipeline.market_data.files import FilesSource  # noqa: PLC0415  # see docstring

    if settings.files_dir is None:
        raise MarketDataError(
            "the `files` price source needs SIGMASIGHT_FILES_DIR, the folder with prices.csv or prices.parquet"
        )
    return FilesSource(settings.files_dir, calendar, settings.most_file_bytes)
