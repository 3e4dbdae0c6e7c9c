"""Files the user states: sectors that win over any source, and factor definitions with their proxies."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sigmasight_pipeline.market_data.instruments import known_instruments
from sigmasight_pipeline.market_data.source import MarketDataError
from sigmasight_pipeline.market_data.stated import read_factor_definitions, read_sectors
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame, polars_schema
from sigmasight_pipeline_tests.market_data.test_instruments import FACTORS, PORTFOLIOS, POSITIONS, Vendor

HEADER = "factor,name,kind,proxy_symbol,display_order,active\n"
MARKET = "Market,Market,style,SPY,1,true\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "stated.csv"
    path.write_text(text, encoding="utf-8")
    return path


STYLE = {
    "Market": "SPY",
    "Value": "VTV",
    "Growth": "VUG",
    "Momentum": "MTUM",
    "Quality": "QUAL",
    "Size": "SIZE",
    "Low_Volatility": "USMV",
}
SHOCK_ONLY = {
    "Oil": "USO",
    "Gold": "GLD",
    "Europe": "EWG",
    "Emerging_Markets": "EEM",
    "China": "FXI",
    "Volatility": "VIXY",
    "Credit": "HYG",
    "Technology": "XLK",
    "Travel": "JETS",
}


def test_the_shipped_factors_are_those_of_the_model() -> None:
    shipped = resources.files("sigmasight_pipeline.assets").joinpath("factor_definitions.csv")
    with resources.as_file(shipped) as path:
        frame = read_factor_definitions(path)
    assert frame.schema == polars_schema(tables.factor_definitions)
    proxies = {
        kind: dict(rows.select("factor", "proxy_symbol").iter_rows()) for (kind,), rows in frame.group_by("kind")
    }
    assert proxies == {
        "style": STYLE,
        "shock_only": SHOCK_ONLY,
        "rate": {"Interest_Rate": None},
        "characteristic": {"Short_Interest": None},
    }


def test_a_proxy_is_exchanged_by_one_row(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + MARKET + "Size,Size,style, iwm ,6,TRUE\nOld,Old,style,SPY,7,false\n")
    rows = read_factor_definitions(path).rows()
    assert rows[1] == ("Size", "Size", "style", "IWM", 6, True)
    assert rows[2][-1] is False, "an inactive factor may share a proxy"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "has a header and no rows"),
        (MARKET + "Market,Again,style,VTV,2,true\n", r"line 3: a second row for factor Market"),
        (MARKET + "Value,Value,style,,2,true\n", r"line 3: proxy_symbol is empty; expected the symbol"),
        (MARKET + "Rate,Rate,rate,IEF,2,true\n", r"line 3: proxy_symbol is 'IEF'; expected nothing"),
        (MARKET + "Twin,Twin,style,SPY,2,true\n", r"line 3: a second row for proxy_symbol SPY"),
        (MARKET + "Value,Value,smart,VTV,2,true\n", r"line 3: kind is 'smart'; expected one of style"),
        (MARKET + "Value,Value,style,VTV,2,maybe\n", r"line 3: active is 'maybe'; expected one of true, false"),
        (MARKET + "Value,Value,style,VTV,2.5,true\n", r"line 3: display_order is '2.5'; expected a whole number"),
        (MARKET + "Value,Value,style,V TV!,2,true\n", r"line 3: "),
    ],
)
def test_a_wrong_factor_is_refused_with_its_line(tmp_path: Path, rows: str, said: str) -> None:
    with pytest.raises(MarketDataError, match=said):
        read_factor_definitions(written(tmp_path, HEADER + rows))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("symbol,sector\nAAPL,\n", "line 2: sector is empty"),
        ("symbol,sector\nAAPL,Technology\naapl,Energy\n", "line 3: a second row for symbol AAPL"),
        ("symbol,industry\nAAPL,Phones\n", "no column sector"),
    ],
)
def test_a_wrong_sector_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(MarketDataError, match=said):
        read_sectors(written(tmp_path, text))


@pytest.mark.parametrize(
    ("read", "setting"), [(read_sectors, "SECTORS"), (read_factor_definitions, "FACTORS")], ids=["sectors", "factors"]
)
def test_a_missing_file_names_its_setting(tmp_path: Path, read: object, setting: str) -> None:
    assert callable(read)
    with pytest.raises(MarketDataError, match=re.escape(f"SIGMASIGHT_{setting}_FILE")):
        read(tmp_path / "none.csv")


def test_a_stated_sector_wins_and_is_forgotten_when_it_is_stated_no_more(tmp_path: Path) -> None:
    told = Vendor(known={"AAPL": {"kind": "stock", "sector": "Technology", "industry": "Phones"}})
    sectors = read_sectors(written(tmp_path, "symbol,sector\nmsft,Software\nAAPL,Consumer\n"))

    def rows(stored: pl.DataFrame, stated: pl.DataFrame | None) -> pl.DataFrame:
        return known_instruments(
            positions=POSITIONS, portfolios=PORTFOLIOS, factors=FACTORS, stored=stored, source=told, sectors=stated
        )

    first = rows(empty_frame(tables.instruments), sectors)
    chosen = pl.col("symbol").is_in(["AAPL", "MSFT"])
    columns = ["symbol", "sector", "industry", "sector_source"]
    assert first.filter(chosen).select(columns).rows() == [
        ("AAPL", "Consumer", None, "override"),
        ("MSFT", "Software", None, "override"),
    ]
    assert_frame_equal(rows(first, sectors), first)
    assert rows(first, None).filter(chosen).select(columns).rows() == [
        ("AAPL", "Technology", "Phones", "vendor"),
        ("MSFT", None, None, None),
    ]
