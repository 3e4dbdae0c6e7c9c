"""The files source: what it reads from CSV and Parquet, and what it says of a file that is not as declared."""

import json
import os
from datetime import date, datetime
from decimal import Decimal

import polars as pl
import pytest

from sigmasight_pipeline.market_data.files import FILES, FilesSource
from sigmasight_pipeline.market_data.source import (
    ACTIONS,
    BARS,
    INSTRUMENTS,
    OPTION_BARS,
    YIELDS,
    MarketDataError,
    MarketDataSource,
)
from sigmasight_pipeline.sessions import SessionCalendar

CALENDAR = SessionCalendar(date(2023, 1, 1), date(2024, 12, 31))
FIRST, LAST = date(2024, 1, 1), date(2024, 12, 31)
OCC = "AAPL240119C00150000"

PRICES = "symbol,date,close\nAAPL,2024-01-02,185.64\n"
CONTENTS = {
    "prices": PRICES,
    "corporate_actions": (
        "symbol,ex_date,kind,split_from,split_to,cash_amount,pay_date\n"
        "NVDA,2024-06-10,split,1,10,,\n"
        "AAPL,2024-02-09,Dividend,,,0.24,2024-02-15\n"
    ),
    "treasury_yields": "date,tenor,yield\n2024-01-02,10Y,0.0395\n2024-01-02,3m,0.0546\n",
    "option_prices": (
        "symbol,date,close,bid,ask,implied_volatility,open_interest\n"
        "O:AAPL240119C00150000,2024-01-02,36.1,36,36.2,0.31,1200\n"
        "AAPL  240119P00150000,2024-01-02,,0,0.01,,\n"
    ),
    "instruments": (
        "symbol,kind,name,sector,industry,duration,last_session,replaced_by\n"
        'brk-b,stock,"Berkshire, Class B",Financials,,,,\n'
        "BND,etf,Bonds,,,6.1,,\n"
        "ZOOM,stock,Old,,,,2024-03-01,ZM\n"
        "Home equity,private,A house,,,,,\n"
    ),
}


def source(folder, **contents) -> FilesSource:
    """A source over `folder` with those CSV files; prices there are unless given."""
    for name, text in {"prices": PRICES, **contents}.items():
        (folder / f"{name}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return FilesSource(folder, CALENDAR)


def parquet(folder, frame: pl.DataFrame, name="prices") -> FilesSource:
    frame.write_parquet(folder / f"{name}.parquet")
    return FilesSource(folder, CALENDAR)


def every(files: FilesSource) -> None:
    """Read every file."""
    files.daily_bars(["AAPL"], FIRST, LAST)
    files.corporate_actions(["AAPL"], FIRST, LAST)
    files.treasury_yields(FIRST, LAST)
    files.option_bars([OCC], FIRST, LAST)
    files.instruments(["AAPL"])


def test_every_table_comes_with_the_columns_of_the_protocol(tmp_path):
    files: MarketDataSource = source(tmp_path, **CONTENTS)
    assert dict(files.daily_bars(["AAPL"], FIRST, LAST).schema) == BARS
    assert files.symbols() == ("AAPL",)
    assert files.stored_range() == (date(2024, 1, 2), date(2024, 1, 2))

    actions = files.corporate_actions(["NVDA", "AAPL"], FIRST, LAST)
    assert dict(actions.schema) == ACTIONS
    assert actions.rows() == [
        ("NVDA", date(2024, 6, 10), "split", Decimal(1), Decimal(10), None, None),
        ("AAPL", date(2024, 2, 9), "dividend", None, None, Decimal("0.24"), date(2024, 2, 15)),
    ]
    yields = files.treasury_yields(FIRST, LAST)
    assert dict(yields.schema) == YIELDS
    assert yields.rows() == [(date(2024, 1, 2), "10Y", 0.0395), (date(2024, 1, 2), "3M", 0.0546)]

    options = files.option_bars([OCC, "AAPL240119P00150000"], FIRST, LAST)
    assert dict(options.schema) == OPTION_BARS
    assert options["symbol"].to_list() == [OCC, "AAPL240119P00150000"]
    assert options["close"].to_list() == [Decimal("36.1"), None]

    instruments = files.instruments(["BRK.B", "BND", "ZOOM", "HOME EQUITY", "XXX"])
    assert dict(instruments.schema) == INSTRUMENTS
    assert instruments.select("symbol", "name", "duration", "last_session", "replaced_by").rows() == [
        ("BRK.B", "Berkshire, Class B", None, None, None),
        ("BND", "Bonds", 6.1, None, None),
        ("ZOOM", "Old", None, date(2024, 3, 1), "ZM"),
        ("HOME EQUITY", "A house", None, None, None),
    ]


def test_only_prices_is_required(tmp_path):
    files = source(tmp_path)
    assert files.corporate_actions(["AAPL"], FIRST, LAST).is_empty()
    assert files.treasury_yields(FIRST, LAST).is_empty()
    assert files.option_bars([OCC], FIRST, LAST).is_empty()
    assert files.instruments(["AAPL"]).is_empty()


@pytest.mark.parametrize("name", sorted(set(FILES) - {"prices"}))
def test_an_optional_file_with_a_header_and_no_rows_means_none(tmp_path, name):
    header = CONTENTS[name].splitlines()[0]
    every(source(tmp_path, **{name: header}))


READ_ALIKE = [
    ("header in any case and order, extra columns", "Volume, CLOSE ,note,Date,Symbol\n10,5.5,x,2024-01-02,AAPL\n"),
    ("byte order mark and Windows line ends", "\ufeffsymbol,date,close,volume\r\nAAPL,2024-01-02,5.5,10\r\n"),
    ("quotes and spaces", 'symbol,date,close,volume\n" aapl ","2024-01-02"," 5.5 ",10.0\n'),
    ("blank lines", "\nsymbol,date,close,volume\n\nAAPL,2024-01-02,5.5,10\n\n"),
    ("no line end at the end", "symbol,date,close,volume\nAAPL,2024-01-02,5.5,1e1"),
]


@pytest.mark.parametrize("text", [c[1] for c in READ_ALIKE], ids=[c[0] for c in READ_ALIKE])
def test_spellings_that_read_alike(tmp_path, text):
    rows = source(tmp_path, prices=text).daily_bars(["AAPL"], FIRST, LAST)
    assert rows.rows() == [("AAPL", date(2024, 1, 2), None, None, None, Decimal("5.5"), 10.0, None, None)]


CLOSES = [
    ("191.14999389648438", "191.149994"),
    ("0.0000005", "0"),
    ("0.0000015", "0.000002"),
    ("1e3", "1000"),
    ("-1.5", "-1.5"),
    ("0", "0"),
    ("", None),
    ("NaN", None),
]


@pytest.mark.parametrize(("text", "expected"), CLOSES)
def test_closes_are_exact_to_six_decimals_and_what_they_are_worth_is_left_to_screening(tmp_path, text, expected):
    files = source(tmp_path, prices=f"symbol,date,close\nAAPL,2024-01-02,{text}\n")
    close = files.daily_bars(["AAPL"], FIRST, LAST)["close"].item()
    assert close == (None if expected is None else Decimal(expected))


def test_rows_of_other_symbols_and_dates_stay_behind_and_days_without_trading_do_not(tmp_path):
    files = source(
        tmp_path,
        prices="symbol,date,close\nA,2024-01-05,1\nA,2024-01-06,2\nB,2024-01-06,3\nA,2024-01-08,4\nA,2024-01-06,2\n",
    )
    rows = files.daily_bars(["A"], date(2024, 1, 6), date(2024, 1, 7))
    assert rows["close"].to_list() == [Decimal(2), Decimal(2)]
    assert files.stored_range() == (date(2024, 1, 5), date(2024, 1, 8))


def test_a_volume_that_is_no_number_keeps_the_row_with_its_problem(tmp_path):
    text = "symbol,date,close,volume\nA,2024-01-02,1,5\nA,2024-01-03,2,n/a\nA,2024-01-04,3,\nA,2024-01-05,4,inf\n"
    rows = source(tmp_path, prices=text).daily_bars(["A"], FIRST, LAST)
    assert rows["close"].to_list() == [1, 2, 3, 4]
    assert rows["volume"].to_list() == [5.0, None, None, None]
    assert rows["problem"].to_list() == [None, "volume_not_a_number", None, "volume_not_a_number"]
    assert json.loads(rows["received"][1]) == {"symbol": "A", "date": "2024-01-03", "close": "2", "volume": "n/a"}


PARQUET = [
    ("typed", {"symbol": ["AAPL"], "date": [date(2024, 1, 2)], "close": [5.5], "volume": [10]}),
    ("text", {"symbol": ["AAPL"], "date": ["2024-01-02"], "close": ["5.5"], "volume": ["10"]}),
    ("instants", {"Symbol": ["AAPL"], "Date": [datetime(2024, 1, 2)], "close": [Decimal("5.5")], "volume": [1e1]}),  # noqa: DTZ001  # a naive column is what is tested
]  # fmt: skip


@pytest.mark.parametrize("columns", [c[1] for c in PARQUET], ids=[c[0] for c in PARQUET])
def test_parquet(tmp_path, columns):
    rows = parquet(tmp_path, pl.DataFrame(columns)).daily_bars(["AAPL"], FIRST, LAST)
    assert rows.rows() == [("AAPL", date(2024, 1, 2), None, None, None, Decimal("5.5"), 10.0, None, None)]


def test_parquet_with_dictionary_text_and_missing_numbers(tmp_path):
    frame = pl.DataFrame({"symbol": ["A", "A"], "date": ["2024-01-02", "2024-01-03"], "close": [float("nan"), None]})
    rows = parquet(tmp_path, frame.cast({"symbol": pl.Categorical})).daily_bars(["A"], FIRST, LAST)
    assert rows["close"].to_list() == [None, None]


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    files = source(tmp_path)
    first = files.daily_bars(["AAPL"], FIRST, LAST)
    path = tmp_path / "prices.csv"
    status = path.stat()
    path.write_text(PRICES.replace("185.64", "999.99"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert files.daily_bars(["AAPL"], FIRST, LAST).equals(first), "same size and time: not read again"
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert files.daily_bars(["AAPL"], FIRST, LAST)["close"].item() == Decimal("999.99")


H = "symbol,date,close\n"
ACTION = "symbol,ex_date,kind,split_from,split_to,cash_amount\n"
OPTION = "symbol,date,close\n"
INSTRUMENT = "symbol,kind,name,sector,industry\n"
MALFORMED = [
    ("prices", "", r"prices.csv is empty; expected a header line with symbol, date, close"),
    ("prices", H, r"prices.csv has a header and no rows"),
    ("prices", "symbol,date\nA,2024-01-02\n", r"prices.csv, line 1: there is no column close, only symbol, date"),
    ("prices", "symbol,date,close,Close\nA,2024-01-02,1,2\n", r"line 1: the column close is there twice"),
    ("prices", H + "A,2024-01-02,1\nA,02/01/2024,1\n", r"line 3: date is '02/01/2024'; expected a date as YYYY-MM-DD"),
    ("prices", H + "A,2024-1-2,1\n", r"line 2: date is '2024-1-2'"),
    ("prices", H + "A,2024-02-30,1\n", r"line 2: date is '2024-02-30'"),
    ("prices", H + "A,,1\n", r"line 2: date is empty; expected a date"),
    ("prices", H + ",2024-01-02,1\n", r"line 2: symbol is empty; expected a value"),
    ("prices", H + "\n\nA,2024-01-02,abc\n", r"line 4: close is 'abc'; expected a number or nothing"),
    ("prices", H + 'A,2024-01-02,"1,000.50"\n', r"line 2: close is '1,000.50'; expected a number"),
    ("prices", H + "A,2024-01-02,inf\n", r"line 2: close is 'inf'"),
    ("prices", H + "A,2024-01-02,1" + "0" * 16 + "\n", r"line 2: close is '10000000000000000'"),
    ("prices", H + "A,2024-01-02,1\nA B!,2024-01-02,1\n", r"line 3: 'A B!' is no symbol"),
    ("prices", H + f"{OCC},2024-01-02,1\n", r"line 2: '" + OCC + "' is an option; .* option_prices"),
    ("prices", H + "A,2024-01-02,1\nA,2024-01-03,1,7\n", r"line 3: 4 values; expected 3 as in the header"),
    ("prices", H + 'A,2024-01-02,1\n"A,2024-01-03,1\n', r"line 3: .*quote that is never closed"),
    ("prices", H.encode() + b"A,2024-01-02,\xff\n", r"prices.csv is not UTF-8 text"),
    ("corporate_actions", ACTION + "A,2024-01-02,merger,,,\n", r"line 2: kind is 'merger'; expected one of split, div"),
    ("corporate_actions", ACTION + "A,2024-01-02,split,1,,\n", r"line 2: split_to is empty; expected a number above 0"),
    ("corporate_actions", ACTION + "A,2024-01-02,split,0,2,\n", r"line 2: split_from is .0.; expected a number above"),
    ("corporate_actions", ACTION + "A,2024-01-02,dividend,,,-1\n", r"line 2: cash_amount is '-1'; expected a number"),
    (
        "corporate_actions",
        ACTION + "A,2024-01-02,dividend,,,1\na,2024-01-02,dividend,,,2\n",
        r"line 3: a second row for symbol A, ex_date 2024-01-02, kind dividend; add several",
    ),
    ("treasury_yields", "date,tenor,yield\n2024-01-02,10Y,4.25\n", r"line 2: yield is '4.25'; .* 0.0425 for 4.25 %"),
    ("treasury_yields", "date,tenor,yield\n2024-01-02,7Y,0.04\n", r"line 2: tenor is '7Y'; expected one of 1M, 3M"),
    ("treasury_yields", "date,tenor,yield\n2024-01-02,10Y,\n", r"line 2: yield is empty"),
    (
        "treasury_yields",
        "date,tenor,yield\n2024-01-02,10Y,0.04\n2024-01-02,10y,0.04\n",
        r"line 3: a second row for date 2024-01-02, tenor 10Y; keep one",
    ),
    ("option_prices", OPTION + "AAPL,2024-01-02,1\n", r"line 2: 'AAPL' is no OCC option symbol"),
    ("option_prices", OPTION + "AAPL240230C00150000,2024-01-02,1\n", r"line 2: .* expires on 240230: no such day"),
    ("option_prices", OPTION + f"{OCC},2024-01-02,0\n", r"line 2: close is '0'; expected a number above 0 or nothing"),
    ("option_prices", OPTION + f"{OCC},2024-01-02,1\nO:{OCC},2024-01-02,1\n", r"line 3: a second row for symbol AAPL2"),
    ("instruments", INSTRUMENT + "A,share,,,\n", r"line 2: kind is 'share'; expected one of stock, etf, fund"),
    ("instruments", INSTRUMENT + "A,stock,,,\nA,etf,,,\n", r"line 3: a second row for symbol A; keep one"),
    ("instruments", INSTRUMENT + "Home equity,stock,,,\n", r"line 2: 'Home equity' is no symbol"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), MALFORMED)
def test_a_malformed_file_is_an_error_with_file_and_line(tmp_path, name, text, message):
    with pytest.raises(MarketDataError, match=message) as raised:
        every(source(tmp_path, **{name: text}))
    assert str(tmp_path / f"{name}.csv") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_line_is_right_behind_cells_that_span_lines(tmp_path):
    text = INSTRUMENT + 'A,stock,"two\nlines",,\nB,stock,,,\nC,thing,,,\n'
    with pytest.raises(MarketDataError, match=r"line 5: kind is 'thing'"):
        every(source(tmp_path, instruments=text))


BAD_PARQUET = [
    (pl.DataFrame({"symbol": ["A"], "date": [date(2024, 1, 2)]}), "there is no column close"),
    (pl.DataFrame({"symbol": ["A"], "date": [20240102], "close": [1.0]}), "the column date is Int64; expected a date"),
    (pl.DataFrame({"symbol": ["A"], "date": [date(2024, 1, 2)], "close": [[1.0]]}), "the column close is List"),
    (
        pl.DataFrame({"symbol": ["A", "A"], "date": [date(2024, 1, 2)] * 2, "close": [1.0, float("inf")]}),
        "row 2: close is 'inf'; expected a number or nothing",
    ),
]


@pytest.mark.parametrize(("frame", "message"), BAD_PARQUET)
def test_malformed_parquet(tmp_path, frame, message):
    with pytest.raises(MarketDataError, match=message):
        every(parquet(tmp_path, frame))


def test_parquet_that_is_none(tmp_path):
    (tmp_path / "prices.parquet").write_text("symbol,date,close\n")
    with pytest.raises(MarketDataError, match=r"prices.parquet is not a readable Parquet file"):
        every(FilesSource(tmp_path, CALENDAR))


def test_no_folder_no_prices_or_two_of_them(tmp_path):
    with pytest.raises(MarketDataError, match=r"missing, does not exist: create it .* SIGMASIGHT_FILES_DIR"):
        FilesSource(tmp_path / "missing", CALENDAR).symbols()
    with pytest.raises(MarketDataError, match=r"has neither prices.csv nor prices.parquet: put one there"):
        FilesSource(tmp_path, CALENDAR).symbols()
    files = source(tmp_path)
    pl.DataFrame({"symbol": ["A"]}).write_parquet(tmp_path / "prices.parquet")
    with pytest.raises(MarketDataError, match=r"has both prices.csv and prices.parquet: remove"):
        files.symbols()


def test_what_changed_is_told_by_month(tmp_path):
    rows = ["AAPL,2024-01-02,185.64", "AAPL,2024-02-01,186.86", "MSFT,2024-02-01,403.78"]
    told = {"NVDA": "symbol,ex_date,kind,split_from,split_to,cash_amount\nNVDA,2024-02-09,split,1,10,\n"}

    def digests(rows, **others) -> dict[str, str]:
        return source(tmp_path, prices="\n".join(["symbol,date,close", *rows]) + "\n", **others).contents()

    before = digests(rows)
    assert list(before) == ["2024-01", "2024-02"]
    assert digests(rows[::-1]) == before
    for changed in ([*rows[:2], "MSFT,2024-02-01,403.79"], rows[:2], [*rows, "QQQ,2024-02-29,1"]):
        after = digests(changed)
        assert (after["2024-01"] == before["2024-01"], after["2024-02"] == before["2024-02"]) == (True, False)
    files = source(tmp_path, prices="\n".join(["symbol,date,close", *rows]) + "\n", corporate_actions=told["NVDA"])
    with_split = files.contents()
    assert (with_split["2024-01"] == before["2024-01"], with_split["2024-02"] == before["2024-02"]) == (True, False)
    (tmp_path / "corporate_actions.csv").unlink()
    assert files.contents() == before


def test_when_it_was_changed_is_when_its_newest_file_was(tmp_path):
    files = source(tmp_path, **CONTENTS)
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
    assert files.changed_at().timestamp() == 1_700_000_000 + len(CONTENTS) - 1
