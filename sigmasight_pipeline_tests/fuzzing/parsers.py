"""Every parser of what users write, with good inputs to begin with, and what must hold of whatever it is given.

What belongs here: calling a parser and judging what it says. What does not: making inputs (``mutations``).
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import polars as pl

from sigmasight_pipeline.importing.flows import parse_flows
from sigmasight_pipeline.importing.marks import parse_marks
from sigmasight_pipeline.importing.positions import parse_positions
from sigmasight_pipeline.importing.problems import Parsed
from sigmasight_pipeline.importing.scenarios import ScenarioFileError, parse_scenarios
from sigmasight_pipeline.market_data import files, stated
from sigmasight_pipeline.market_data.data_file import DataFile
from sigmasight_pipeline.market_data.source import MarketDataError
from sigmasight_pipeline.operations.inbox_header import kind_of, read_header
from sigmasight_pipeline.settings import SECRETS, InvalidSettingsError, Settings, get_settings
from sigmasight_pipeline_tests.importing.cases import CALENDAR, FIRST_STORED_SESSION, TODAY

LONGEST_TOLD = 1_000
"""Characters of one thing that is told."""

HIDDEN = "Hidden-words-42"

GOOD = {
    "positions": b"""# name: My book
ticker,quantity,entry_price,entry_date,tags,exit_date,exit_price,investment_class,investment_subtype,lot,notes
AAPL,100,187.15,2024-01-02,"tech,core",,,PUBLIC,STOCK,1,a note
BRK.B,-5.5,400,2024-01-03,,2024-05-01,410.25,,,2,"two
lines"
AAPL240119C00150000,-2,12.5,2023-11-01,,,,,,,
HOUSE,1,250000,2024-01-02,,,,PRIVATE,REAL ESTATE,,
""",
    "options by terms": b"""symbol;quantity;entry_price;entry_date;strike_price;expiration_date;option_type;underlying
SPX;1;40.5;2024-01-02;4800;2024-06-21;C;SPX
MSFT;-3;4.25;2024-01-02;350.5;2024-06-21;put;
""".replace(b"underlying", b"underlying_symbol"),
    "marks": b"portfolio,symbol,date,price\nmine,HOUSE,2024-02-01,255000\nmine,House,2024-03-01,256000.50\n",
    "flows": b"""portfolio,date,amount,kind,note
mine,2024-02-01,500,contribution,
mine,2024-03-01,-20.25,withdrawal,x
""",
    "header": b"# name: My book\n# equity: 1000000\n# inception: 2024-01-02\n# benchmark: SPY\nticker,quantity\nA,1\n",
    "prices": b"symbol,date,open,high,low,close,volume\nAAPL,2024-01-02,1,2,0.5,1.5,1000\nSPY,2024-01-02,,,,400,1e6\n",
    "corporate_actions": b"""symbol,ex_date,kind,split_from,split_to,cash_amount,pay_date
AAPL,2024-01-11,split,1,4,,
AAPL,2024-02-11,dividend,,,0.24,2024-02-20
""",
    "treasury_yields": b"date,tenor,yield\n2024-01-02,10Y,0.0395\n2024-01-02,3M,0.0525\n",
    "option_prices": b"""symbol,date,close,bid,ask,implied_volatility,open_interest
AAPL240119C00150000,2024-01-02,37,36.9,37.1,0.25,500
""",
    "instruments": b"""symbol,kind,name,sector,industry,duration,last_session,replaced_by
AAPL,stock,Apple,Technology,Phones,,,
ZOOM,stock,,,,,2024-01-05,ZM
""",
    "sectors": b"symbol,sector,industry\nAAPL,Technology,Phones\nXOM,Energy,\n",
}


@dataclass(frozen=True)
class Outcome:
    """What became of an input: taken whole, or everything that was told of it."""

    told: tuple[str, ...]

    @property
    def is_refused(self) -> bool:
        """Whether anything was said against it."""
        return bool(self.told)


def _parsed(result: Parsed[Any]) -> Outcome:
    if result.errors:
        assert result.rows == ()
        return Outcome(tuple(str(error) for error in result.errors))
    assert result.frame().height == len(result.rows) > 0
    return Outcome(())


def positions(content: bytes, _folder: Path) -> Outcome:
    return _parsed(
        parse_positions(
            content, file_name="x.csv", calendar=CALENDAR, today=TODAY, first_stored_session=FIRST_STORED_SESSION
        )
    )


def marks(content: bytes, _folder: Path) -> Outcome:
    held = {"portfolio_code": "mine", "symbol": "HOUSE", "investment_class": "PRIVATE", "entry_date": date(2024, 1, 2)}
    schema = {**dict.fromkeys(held, pl.String), "entry_date": pl.Date, "exit_date": pl.Date}
    frame = pl.DataFrame([{**held, "exit_date": None}], schema=schema)
    return _parsed(parse_marks(content, calendar=CALENDAR, today=TODAY, positions=frame))


def flows(content: bytes, _folder: Path) -> Outcome:
    return _parsed(parse_flows(content, calendar=CALENDAR, today=TODAY, portfolios={"mine": date(2024, 1, 2)}))


def header(content: bytes, _folder: Path) -> Outcome:
    assert kind_of(content) in ("positions", "marks", "flows")
    return Outcome(read_header(content, CALENDAR, TODAY).errors)


def data_file(read: Callable[[Path], pl.DataFrame], name: str) -> Callable[[bytes, Path], Outcome]:
    def called(content: bytes, folder: Path) -> Outcome:
        path = folder / name
        path.write_bytes(content)
        try:
            read(path)
        except MarketDataError as error:
            said = str(error)
        else:
            return Outcome(())
        assert str(path) in said
        return Outcome((said.replace(str(path), name),))

    return called


def scenarios(content: bytes, _folder: Path) -> Outcome:
    try:
        assert parse_scenarios(content, file_name="x.yaml", factors=_factors()).height > 0
    except ScenarioFileError as error:
        return Outcome(tuple(str(problem) for problem in error.problems))
    return Outcome(())


def settings(content: bytes, _folder: Path) -> Outcome:
    """Lines NAME=VALUE as variables of the environment, beside secrets."""
    with _environment(content):
        try:
            get_settings()
        except InvalidSettingsError as error:
            said = str(error)
        else:
            return Outcome(())
    assert HIDDEN not in said
    return Outcome((said,))


@cache
def _factors() -> pl.DataFrame:
    with resources.as_file(resources.files("sigmasight_pipeline.assets").joinpath("factor_definitions.csv")) as path:
        return stated.read_factor_definitions(path)


@contextmanager
def _environment(content: bytes) -> Iterator[None]:
    before = dict(os.environ)
    good = {"ALERT_WEBHOOK_URL": f"https://h.example.com/{HIDDEN}", "DATABASE_URL": f"postgresql://u:{HIDDEN}@h/d"}
    try:
        for name in [name for name in os.environ if name.startswith("SIGMASIGHT_")]:
            del os.environ[name]
        os.environ |= {f"SIGMASIGHT_{name}": value for name, value in {**good, "SMTP_PASSWORD": HIDDEN}.items()}
        for line in content.replace(b"\0", b"").split(b"\n"):
            name, _, value = line.partition(b"=")
            if name and len(value) < 100_000:
                os.environb[b"SIGMASIGHT_" + name] = value
        get_settings.cache_clear()
        yield
    finally:
        os.environ.clear()
        os.environ |= before
        get_settings.cache_clear()


def _shipped(name: str) -> bytes:
    return resources.files("sigmasight_pipeline.assets").joinpath(name).read_bytes()


def _every_setting() -> bytes:
    """Each setting with its default as text, but for secrets."""
    defaults = Settings().model_dump()
    spelt = {name: ",".join(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    lines = [f"{name.upper()}={'' if value is None else value}" for name, value in spelt.items()]
    return "\n".join(line for line in lines if line.partition("=")[0].lower() not in SECRETS).encode()


def _as_parquet(content: bytes) -> bytes:
    """The same table as Parquet; mutating it breaks the form, which mutated text before it is packed does not."""
    written = io.BytesIO()
    pl.read_csv(content, infer_schema=False).write_parquet(written, compression="uncompressed")
    return written.getvalue()


_FILE_READERS: dict[str, Callable[[DataFile], pl.DataFrame]] = {
    "prices": files._read_prices,
    "corporate_actions": files._read_actions,
    "treasury_yields": files._read_yields,
    "option_prices": files._read_options,
    "instruments": files._read_instruments,
}


def _of_the_folder(name: str, suffix: str) -> Callable[[bytes, Path], Outcome]:
    return data_file(lambda path: _FILE_READERS[name](DataFile(path, files.FILES[name])), f"{name}{suffix}")


Parser = tuple[Callable[[bytes, Path], Outcome], tuple[bytes, ...]]


def parsers() -> dict[str, Parser]:
    """Every parser by name with good inputs of its own."""
    found: dict[str, Parser] = {
        "positions": (positions, (GOOD["positions"], GOOD["options by terms"])),
        "marks": (marks, (GOOD["marks"],)),
        "flows": (flows, (GOOD["flows"],)),
        "inbox header": (header, (GOOD["header"], GOOD["positions"])),
        "sectors": (data_file(stated.read_sectors, "sectors.csv"), (GOOD["sectors"],)),
        "factors": (data_file(stated.read_factor_definitions, "factors.csv"), (_shipped("factor_definitions.csv"),)),
        "scenarios": (scenarios, (_shipped("stress_scenarios.yaml"),)),
        "settings": (settings, (_every_setting(),)),
    }
    for name in _FILE_READERS:
        found[f"{name}.csv"] = (_of_the_folder(name, ".csv"), (GOOD[name],))
        found[f"{name}.parquet"] = (_of_the_folder(name, ".parquet"), (_as_parquet(GOOD[name]),))
        found[f"{name}.parquet of other types"] = (_of_the_folder(name, ".parquet"), ())
    return found


def typed_parquet(generator: random.Random, content: bytes) -> bytes:
    """A table with the columns of `content`, most as they are, some of another type, as other programs write them."""
    frame = pl.read_csv(content, infer_schema=False).head(2)
    columns = []
    for column in frame.get_columns():
        dtype, values = generator.choice(TYPED)
        typed = pl.Series(column.name, generator.choices((*values, None), k=frame.height), dtype=dtype)
        if generator.random() > 0.03:
            columns.append(typed if generator.random() < 0.4 else column)
    written = io.BytesIO()
    pl.DataFrame(columns).write_parquet(written)
    return written.getvalue()


MOMENT = datetime(2024, 1, 2, 23, 30)  # noqa: DTZ001 - a type without zone is what is written
TYPED: tuple[tuple[pl.DataType, tuple[Any, ...]], ...] = (
    (pl.String(), ("2024-01-02", "1", "", "nan", "x\0", "é" * 300, "AAPL240119C00150000", "split")),
    (pl.Categorical(), ("2024-01-02", "1", "AAPL", "split", "")),
    (pl.Int8(), (-1, 0, 1)),
    (pl.Int64(), (-(2**63), 0, 1, 20240102, 2**63 - 1)),
    (pl.UInt64(), (0, 1, 2**64 - 1)),
    (pl.Float32(), (0.1, float("nan"), float("inf"), 3e38)),
    (pl.Float64(), (0.1, -0.0, float("nan"), float("-inf"), 1e300, 5e-324)),
    (pl.Boolean(), (True, False)),
    (pl.Date(), (MOMENT.date(), date.min, date.max)),
    (pl.Datetime("us"), (MOMENT, datetime.min, datetime.max)),  # noqa: DTZ901 - as above
    (pl.Datetime("ns", "America/New_York"), (MOMENT,)),
    (pl.Time(), (MOMENT.time(),)),
    (pl.Duration("us"), (timedelta(days=1),)),
    (pl.Decimal(38, 6), (Decimal("0.5"), Decimal(10) ** 31)),
    (pl.Decimal(38, 30), (Decimal("0.5"), Decimal("1e-30"))),
    (pl.Binary(), (b"AAPL", b"\xff")),
    (pl.List(pl.String()), (["AAPL"], [])),
    (pl.Struct({"a": pl.String()}), ({"a": "AAPL"},)),
    (pl.Null(), ()),
)
"""Types of a column, each with values it may hold."""
