"""Scenario files: the shipped one, every rule by table with its line, and text that is no YAML."""

from __future__ import annotations

import json
from datetime import date
from importlib import resources
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.importing.scenario_nodes import MAXIMUM_BYTES, ScenarioFileError, ScenarioReason
from sigmasight_pipeline.importing.scenarios import parse_scenarios, read_scenarios
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.reference import SCENARIO_CATEGORIES, SCENARIO_SEVERITIES

FACTORS = pl.read_csv(resources.files("sigmasight_pipeline.assets").joinpath("factor_definitions.csv").read_bytes())
SHIPPED = Path(str(resources.files("sigmasight_pipeline.assets").joinpath("stress_scenarios.yaml")))

GOOD = """\
scenarios:
  - id: down
    name: Market Down
    category: market
    severity: base
    shocks: {Market: -0.05}
"""
"""One scenario; its shocks are in line 6."""


def parse(text: str | bytes) -> pl.DataFrame:
    content = text.encode() if isinstance(text, str) else text
    return parse_scenarios(content, file_name="mine.yaml", factors=FACTORS)


def refused(text: str | bytes) -> list[tuple[str, int]]:
    with pytest.raises(ScenarioFileError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"mine.yaml: {len(caught.value.problems)} error(s)")
    return [(str(problem.reason), problem.line) for problem in caught.value.problems]


def test_a_good_file() -> None:
    found = parse(GOOD)
    assert dict(found.schema) == polars_schema(tables.stress_test_scenarios)
    assert found.to_dicts() == [
        {
            "scenario_id": "down",
            "name": "Market Down",
            "description": None,
            "category": "market",
            "severity": "base",
            "kind": "vector",
            "shocks": '{"Market": -0.05}',
            "confidence": "noisy",
            "replay_from": None,
            "replay_to": None,
            "worst_sessions": None,
            "volatility_shift": 0.0,
            "accepted": None,
            "active": True,
        }
    ]


def test_optional_keys_order_and_spellings() -> None:
    text = (
        GOOD
        + """\
  - shocks:
      Oil: +.5
      Interest_Rate: -0.10
      Market: -.999
      Volatility: 3
      Technology: {relative: +.15}
    confidence: exact
    accepted: Because it is old.
    active: false
    severity: extreme
    volatility_shift: 1.5
    category: historical
    name: "2008"
    id: 2008_again
    description: >
      Everything,
      at once
"""
    )
    found = parse(text).sort("scenario_id").row(0, named=True)
    assert found == {
        "scenario_id": "2008_again",
        "name": "2008",
        "description": "Everything, at once",
        "category": "historical",
        "severity": "extreme",
        "kind": "vector",
        "shocks": '{"Interest_Rate": -0.1, "Market": -0.999, "Oil": 0.5, "Technology": {"relative": 0.15}, '
        '"Volatility": 3.0}',
        "confidence": "exact",
        "replay_from": None,
        "replay_to": None,
        "worst_sessions": None,
        "volatility_shift": 1.5,
        "accepted": "Because it is old.",
        "active": False,
    }


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "{from: 2020-02-19, to: '2020-03-23'}",
            {"kind": "replay", "replay_from": date(2020, 2, 19), "replay_to": date(2020, 3, 23)},
        ),
        ("{worst: 21}", {"kind": "worst", "worst_sessions": 21}),
        ("{worst: 21}\n    volatility_shift: 0", {"kind": "worst", "worst_sessions": 21, "volatility_shift": 0.0}),
    ],
)
def test_replays(said: str, expected: dict[str, object]) -> None:
    """A replay states no shocks, is neither noisy nor exact, and takes the volatility that happened."""
    found = parse(with_line("shocks: {Market: -0.05}", f"replay: {said}")).row(0, named=True)
    nothing = ("replay_from", "replay_to", "worst_sessions", "confidence", "accepted", "volatility_shift")
    assert {name: found[name] for name in ("kind", *nothing)} == {**dict.fromkeys(nothing), **expected}
    assert found["shocks"] == "{}"


def test_a_file_in_the_old_shape_means_what_it_meant() -> None:
    """Vectors of plain decimals, without a word of kind or confidence."""
    text = GOOD.replace("{Market: -0.05}", "{Low_Volatility: -0.25, Market: -0.15}\n    volatility_shift: 1.5")
    found = parse(text).row(0, named=True)
    assert (found["kind"], found["confidence"], found["accepted"]) == ("vector", "noisy", None)
    assert json.loads(found["shocks"]) == {"Low_Volatility": -0.25, "Market": -0.15}


def with_line(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


CASES: list[tuple[str, str | bytes, list[tuple[str, int]], str]] = [
    # case, text, reasons and lines, a part of the message
    ("unknown factor", with_line("Market:", "Mars:"), [("unknown_factor", 6)], "they are Market, Value, Growth"),
    ("factor of another case", with_line("Market:", "market:"), [("unknown_factor", 6)], "'market'"),
    ("a characteristic has no return", with_line("Market:", "Short_Interest:"), [("unknown_factor", 6)], ""),
    ("too large", with_line("-0.05", "1.01"), [("shock_out_of_range", 6)], "above -1 and at most 1"),
    ("everything is lost", with_line("-0.05", "-1"), [("shock_out_of_range", 6)], "above -1 and at most 1"),
    ("in percent", with_line("-0.05", "-5"), [("shock_out_of_range", 6)], "-0.05: -5 %"),
    (
        "rate in basis points",
        with_line("Market: -0.05", "Interest_Rate: 0.11"),
        [("shock_out_of_range", 6)],
        "from -0.10 to 0.10",
    ),
    ("percent sign", with_line("-0.05", "-5%"), [("wrong_type", 6)], "'-5%'"),
    ("number in quotes", with_line("-0.05", '"-0.05"'), [("wrong_type", 6)], "plain decimal such as -0.05"),
    ("not a number", with_line("-0.05", ".nan"), [("wrong_type", 6)], ".nan"),
    ("infinite", with_line("-0.05", "-.inf"), [("wrong_type", 6)], ""),
    ("sexagesimal", with_line("-0.05", "1:30"), [("wrong_type", 6)], ""),
    ("hexadecimal", with_line("-0.05", "0x1"), [("wrong_type", 6)], ""),
    ("true as a shock", with_line("-0.05", "true"), [("wrong_type", 6)], ""),
    ("no number", with_line("-0.05", ""), [("wrong_type", 6)], "''"),
    ("a list as a shock", with_line("-0.05", "[1]"), [("wrong_type", 6)], "a list"),
    ("shocks as a list", with_line("{Market: -0.05}", "[Market]"), [("wrong_type", 6)], "not a list"),
    ("shocks as text", with_line("{Market: -0.05}", "Market"), [("wrong_type", 6)], "'Market'"),
    ("empty shocks", with_line("{Market: -0.05}", "{}"), [("no_shocks", 6)], "{Market: -0.10}"),
    ("shocks without a value", with_line("{Market: -0.05}", ""), [("no_shocks", 6)], ""),
    ("shocks null", with_line("{Market: -0.05}", "null"), [("no_shocks", 6)], ""),
    ("factor twice", with_line("-0.05}", "-0.05, Market: 0.1}"), [("duplicate_key", 6)], "Market twice"),
    ("factor as a list", with_line("Market:", "[Market]:"), [("unknown_factor", 6)], "a list"),
    ("unknown key", GOOD + "    volatility: 1\n", [("unknown_key", 7)], "volatility_shift"),
    ("key twice", GOOD + "    name: Again\n", [("duplicate_key", 7)], "name twice"),
    ("key missing", with_line("    severity: base\n", ""), [("missing_key", 2)], "has no severity"),
    (
        "everything missing",
        "scenarios:\n  - {}\n",
        [("missing_key", 2)] * 5,
        "the scenario has neither shocks nor replay",
    ),
    ("volatility too large", with_line("Market: -0.05", "Volatility: 3.01"), [("shock_out_of_range", 6)], "at most 3"),
    (
        "relative without a market",
        with_line("Market: -0.05", "Oil: 0.1, Value: {relative: 0.2}"),
        [("relative_without_market", 6)],
        "the shock of Value is relative to what the market's implies",
    ),
    ("relative market", with_line("-0.05", "{relative: 0.2}"), [("relative_market", 6)], "or 0"),
    (
        "relative too large",
        with_line("-0.05", "0, Value: {relative: 1.5}"),
        [("shock_out_of_range", 6)],
        "the shock of Value is 1.5",
    ),
    ("relative as text", with_line("-0.05", "0, Value: {relative: much}"), [("wrong_type", 6)], "0.15 (for 15 % more)"),
    ("relative misspelt", with_line("-0.05", "0, Value: {rel: 0.1}"), [("missing_key", 6), ("unknown_key", 6)], "rel"),
    ("confidence unknown", GOOD + "    confidence: sure\n", [("unknown_confidence", 7)], "noisy, exact"),
    ("accepted without a reason", GOOD + "    accepted: ''\n", [("bad_text", 7)], "accepted"),
    ("accepted as true", GOOD + "    accepted: true\n", [("wrong_type", 7)], "accepted is 'true'"),
    (
        "shocks and a replay",
        GOOD + "    replay: {worst: 21}\n",
        [("key_does_not_fit", 7)],
        "keep one of them",
    ),
    (
        "a replay that ends before it begins",
        with_line("shocks: {Market: -0.05}", "replay:\n      from: 2020-03-23\n      to: 2020-02-19"),
        [("replay_ends_before_it_begins", 8)],
        "ends on 2020-02-19, which is not after its beginning, 2020-03-23",
    ),
    (
        "a replay of one day",
        with_line("shocks: {Market: -0.05}", "replay: {from: 2020-02-19, to: 2020-02-19}"),
        [("replay_ends_before_it_begins", 6)],
        "",
    ),
    ("no end", with_line("shocks: {Market: -0.05}", "replay: {from: 2020-02-19}"), [("missing_key", 6)], "has no to"),
    ("no dates", with_line("shocks: {Market: -0.05}", "replay: {}"), [("missing_key", 6)], "has no from, to"),
    (
        "no such date",
        with_line("shocks: {Market: -0.05}", "replay: {from: 2020-02-30, to: 2020-03-23}"),
        [("wrong_type", 6)],
        "from is '2020-02-30'; write a date such as 2020-02-19",
    ),
    ("a replay as text", with_line("shocks: {Market: -0.05}", "replay: 2020"), [("wrong_type", 6)], "{worst: 21}"),
    (
        "dates and worst",
        with_line("shocks: {Market: -0.05}", "replay: {worst: 21, to: 2020-03-23}"),
        [("key_does_not_fit", 6)],
        "finds its own dates",
    ),
    (
        "half a session",
        with_line("shocks: {Market: -0.05}", "replay: {worst: 20.5}"),
        [("worst_out_of_range", 6)],
        "from 2 to 252",
    ),
    ("one session", with_line("shocks: {Market: -0.05}", "replay: {worst: 1}"), [("worst_out_of_range", 6)], ""),
    ("worst as text", with_line("shocks: {Market: -0.05}", "replay: {worst: month}"), [("wrong_type", 6)], "21 (sess"),
    (
        "a replay stated to be exact",
        with_line("shocks: {Market: -0.05}", "replay: {worst: 21}\n    confidence: exact\n    accepted: yes it is"),
        [("key_does_not_fit", 7), ("key_does_not_fit", 8)],
        "confidence belongs to stated shocks",
    ),
    ("unknown category", with_line(": market", ": markets"), [("unknown_category", 4)], ", ".join(SCENARIO_CATEGORIES)),
    ("unknown severity", with_line(": base", ": awful"), [("unknown_severity", 5)], ", ".join(SCENARIO_SEVERITIES)),
    ("id in capitals", with_line("id: down", "id: Down"), [("bad_id", 2)], "lower-case"),
    ("id too long", with_line("id: down", f"id: {'a' * 61}"), [("bad_id", 2)], "up to 60"),
    ("id empty", with_line("id: down", "id:"), [("bad_id", 2)], ""),
    ("id as a list", with_line("id: down", "id: [down]"), [("bad_id", 2)], "a list"),
    ("duplicate id", GOOD + GOOD.split("\n", 1)[1], [("duplicate_id", 7)], "stands in line 2 already"),
    (
        "duplicate id in one line",
        "scenarios: [{id: a, name: A, category: market, severity: base, shocks: {Oil: 0.1}},"
        " {id: a, name: A, category: market, severity: base, shocks: {Oil: 0.1}}]",
        [("duplicate_id", 1)],
        "",
    ),
    ("name a number", with_line("Market Down", "2008"), [("wrong_type", 3)], "in quotes if need be"),
    ("name empty", with_line("Market Down", "''"), [("bad_text", 3)], "1 to 100"),
    ("name too long", with_line("Market Down", "x" * 101), [("bad_text", 3)], "1 to 100"),
    ("name with a control character", with_line("Market Down", '"a\\x07b"'), [("bad_text", 3)], "printable"),
    ("description too long", GOOD + f"    description: {'x' * 501}\n", [("bad_text", 7)], "1 to 500"),
    ("shift too low", GOOD + "    volatility_shift: -1\n", [("volatility_shift_out_of_range", 7)], "above -1"),
    ("shift too high", GOOD + "    volatility_shift: 5.01\n", [("volatility_shift_out_of_range", 7)], "at most 5"),
    ("shift as text", GOOD + "    volatility_shift: high\n", [("wrong_type", 7)], "1.5 (for +150 %)"),
    ("active as a number", GOOD + "    active: 1\n", [("wrong_type", 7)], "write true or false"),
    ("active as yes", GOOD + "    active: yes\n", [("wrong_type", 7)], ""),
    ("active in quotes", GOOD + "    active: 'true'\n", [("wrong_type", 7)], ""),
    ("empty file", "", [("no_scenarios", 1)], "begin with 'scenarios:'"),
    ("comments alone", "# nothing\n", [("no_scenarios", 1)], ""),
    ("empty list", "scenarios: []\n", [("no_scenarios", 1)], "one at least"),
    ("no list", "scenarios:\n", [("wrong_type", 1)], "write a list"),
    ("scenarios by name", "scenarios:\n  down: {}\n", [("wrong_type", 2)], "a mapping; write a list"),
    ("a list at the top", "- id: down\n", [("wrong_type", 1)], "not a list"),
    ("text at the top", "hello\n", [("wrong_type", 1)], "not a text"),
    ("another top key", GOOD + "version: 1\n", [("unknown_key", 7)], "the keys are scenarios"),
    ("scenarios missing", "scenario: []\n", [("missing_key", 1), ("unknown_key", 1)], ""),
    ("a scenario as text", "scenarios:\n  - down\n", [("wrong_type", 2)], "a scenario must be a mapping"),
    ("bad indentation", GOOD + "   name: x\n", [("file_unreadable", 7)], "no YAML"),
    ("unclosed brace", with_line("-0.05}", "-0.05"), [("file_unreadable", 7)], "no YAML"),
    ("a tab", with_line("    name", "\tname"), [("file_unreadable", 3)], "no YAML"),
    ("two documents", GOOD + "---\na: 1\n", [("file_unreadable", 7)], "no YAML"),
    ("an unknown alias", with_line("{Market: -0.05}", "*crash"), [("file_unreadable", 6)], "no YAML"),
    ("not UTF-8", with_line("Market Down", "XX").encode().replace(b"XX", b"\xff"), [("file_unreadable", 3)], "UTF-8"),
    ("a control character", with_line("Market Down", "a\x00b"), [("file_unreadable", 3)], "control character"),
    ("too large a file", b"#" * (MAXIMUM_BYTES + 1), [("file_unreadable", 1)], "131,072 are allowed"),
    ("nested without end", b"[" * 100_000, [("file_unreadable", 1)], "nested too deeply"),
    (
        "every problem of every scenario",
        GOOD
        + "  - id: DOWN\n    name: 1\n    category: x\n    severity: y\n    shocks: {Mars: 1, Oil: 2, Gold: a}\n"
        + "    volatility_shift: 9\n    active: maybe\n    more: 1\n",
        [
            ("bad_id", 7),
            ("wrong_type", 8),
            ("unknown_category", 9),
            ("unknown_severity", 10),
            ("unknown_factor", 11),
            ("shock_out_of_range", 11),
            ("wrong_type", 11),
            ("volatility_shift_out_of_range", 12),
            ("wrong_type", 13),
            ("unknown_key", 14),
        ],
        "",
    ),
]


@pytest.mark.parametrize(("case", "text", "expected", "says"), CASES, ids=[case[0] for case in CASES])
def test_rules(case: str, text: str | bytes, expected: list[tuple[str, int]], says: str) -> None:
    with pytest.raises(ScenarioFileError) as caught:
        parse(text)
    told = str(caught.value)
    assert sorted(refused(text)) == sorted(expected), told
    assert says in told, told
    lines = [problem.line for problem in caught.value.problems]
    assert lines == sorted(lines)


def test_every_reason_is_produced_by_a_row_of_the_table() -> None:
    assert {reason for _, _, expected, _ in CASES for reason, _ in expected} == set(map(str, ScenarioReason))


def test_aliases_are_read_and_nothing_is_constructed() -> None:
    text = (
        GOOD.replace("{Market: -0.05}", "&down {Market: -0.05}")
        + """\
  - {id: again, name: Again, category: market, severity: base, shocks: *down}
"""
    )
    assert parse(text)["shocks"].to_list() == ['{"Market": -0.05}'] * 2
    evil = with_line("Market Down", "!!python/object/apply:os.system ['true']")
    assert refused(evil) == [("wrong_type", 3)]


def test_the_shipped_file() -> None:
    """Those of every kind and category; vectors are stated so that they fit together."""
    found = read_scenarios(SHIPPED, factors=FACTORS)
    assert dict(found["kind"].value_counts().iter_rows()) == {"vector": 37, "replay": 8, "worst": 1}
    assert set(found["category"]) == set(SCENARIO_CATEGORIES)
    assert set(found["severity"]) == set(SCENARIO_SEVERITIES)
    assert found["active"].all()
    assert found["description"].null_count() == 0
    shocks = {row["scenario_id"]: json.loads(row["shocks"]) for row in found.to_dicts()}
    assert shocks["covid_crash_2020"] == {
        "Market": -0.35, "Oil": -0.65, "Travel": -0.70, "Technology": {"relative": 0.15},
    }  # fmt: skip
    assert shocks["value_rotation_20"] == {"Market": 0.0, "Value": {"relative": 0.2}, "Growth": {"relative": -0.1}}
    assert found["accepted"].null_count() == found.height
    assert set(found.filter(kind="vector")["confidence"]) == {"noisy"}
    windows = found.filter(kind="replay").select("replay_from", "replay_to").rows()
    assert (date(2020, 2, 19), date(2020, 3, 23)) in windows
    assert (date(1987, 10, 13), date(1987, 10, 19)) in windows
    assert found.filter(kind="worst").select("scenario_id", "worst_sessions").row(0) == ("worst_month_on_record", 21)
    assert shocks["rate_spike_300bp"] == {"Interest_Rate": 0.03}
    shifted = found.filter(pl.col("volatility_shift") != 0).select("scenario_id", "volatility_shift").rows()
    assert dict(shifted) == {
        "vix_spike_150": 1.5,
        "liquidity_crisis": 0.8,
        "financial_crisis_2008": 1.5,
        "covid_crash_2020": 1.5,
        "dotcom_crash_2000": 0.5,
    }
    assert sum(len(own) == 1 for own in shocks.values()) == 25
    for name, own in shocks.items():
        if "_up_" in name or "_down_" in name:
            assert len(own) == 1
            assert (next(iter(own.values())) > 0) == ("_up_" in name), name


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScenarioFileError, match=r"No such file.*SIGMASIGHT_SCENARIOS_FILE"):
        read_scenarios(tmp_path / "none.yaml", factors=FACTORS)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_rows_or_a_told_error(content: bytes) -> None:
    try:
        rows, problems = parse(b"scenarios:\n  - " + content).height, 0
    except ScenarioFileError as error:
        rows, problems = 0, len([problem for problem in error.problems if problem.line >= 1])
    assert rows or problems
