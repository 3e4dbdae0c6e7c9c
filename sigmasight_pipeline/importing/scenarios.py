"""Stress scenarios: a YAML file to validated rows of ``stress_test_scenarios``.

What belongs here: what a scenario may say. What does not: reading single nodes and naming their lines
(``scenario_nodes``), what a scenario does to portfolios (``calculations.stress``) and storing the rows.

A scenario is a vector of stated shocks, or a replay of what really happened between two dates or in the worst stretch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import polars as pl
import yaml

from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.reference import (
    SCENARIO_CATEGORIES,
    SCENARIO_CONFIDENCES,
    SCENARIO_SEVERITIES,
    stress_test_scenarios,
)
from sigmasight_pipeline.user_files import UserFileError, read_user_file

from .scenario_nodes import (
    MAXIMUM_BYTES,
    NULL,
    NodeReader,
    ScenarioFileError,
    ScenarioProblem,
    ScenarioReason,
    line_of,
    one_of,
    root,
    shown,
    whole_file,
)

LARGEST_PRICE_SHOCK = Decimal(1)
"""The shock of a price factor is above minus this, and at most this."""

LARGEST_SHOCK_OF: Mapping[str, Decimal] = {"Volatility": Decimal(3)}
"""Factors that can gain more than a price factor may."""

LARGEST_RATE_SHOCK = Decimal("0.10")
LEAST_VOLATILITY_SHIFT, LARGEST_VOLATILITY_SHIFT = Decimal(-1), Decimal(5)
"""The shift is above the one and at most the other."""

LEAST_WORST, LARGEST_WORST = 2, 252
"""Sessions a worst stretch may have."""

LONGEST_ID, LONGEST_NAME, LONGEST_DESCRIPTION, LONGEST_ACCEPTED = 60, 100, 500, 500

_LIST = "scenarios"
_REQUIRED = ("id", "name", "category", "severity")
_KINDS = ("shocks", "replay")
_OF_SHOCKS = ("confidence", "accepted")
_OPTIONAL = ("description", "volatility_shift", "active")
_ID = re.compile(rf"[a-z0-9_]{{1,{LONGEST_ID}}}")
_PRICED, _RATE = ("style", "shock_only"), "rate"
_MARKET = "Market"
_RELATIVE = "relative"


def read_scenarios(path: Path, *, factors: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``stress_test_scenarios`` of a file, as `parse_scenarios`. Raises ScenarioFileError."""
    try:
        content = read_user_file(path, MAXIMUM_BYTES)
    except UserFileError as error:
        raise ScenarioFileError(
            str(path), [whole_file(f"{error}; name one that can, e.g. in SIGMASIGHT_SCENARIOS_FILE")]
        ) from None
    return parse_scenarios(content, file_name=str(path), factors=factors)


def parse_scenarios(content: bytes, *, file_name: str, factors: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``stress_test_scenarios`` in order of scenario_id; shocks are JSON text with sorted keys.

    `factors` are rows of ``factor_definitions``: shocks may be of those that have a return, active or not. The file is
    a mapping with the one key `scenarios`, a list of mappings: id, name, category, severity, and either shocks or
    replay; optionally description, volatility_shift and active (true), beside shocks also confidence (noisy or exact)
    and accepted (why a shock need not be honoured). A shock is a decimal, of a priced factor above -1 and at most 1
    (Volatility: 3), of the rate from -0.10 to 0.10, or {relative: decimal} within the same bounds beside a shock of
    Market. A replay is {from: date, to: date} or {worst: sessions}. volatility_shift is above -1 and at most 5, and 0
    where a vector does not say. Raises ScenarioFileError with every problem.
    """
    reader = _Reader(factors)
    rows = reader.rows(root(content, file_name))
    if reader.nodes.problems:
        raise ScenarioFileError(file_name, reader.nodes.problems)
    return pl.DataFrame(rows, schema=polars_schema(stress_test_scenarios)).sort("scenario_id")


@dataclass
class _Reader:
    """Reads scenarios into rows and gathers what is wrong with them."""

    factors: pl.DataFrame

    def __post_init__(self) -> None:
        with_return = self.factors.filter(pl.col("kind").is_in([*_PRICED, _RATE])).sort("display_order", "factor")
        self.kinds = dict(with_return.select("factor", "kind").iter_rows())
        self.nodes = NodeReader()
        self.report = self.nodes.report

    def rows(self, top: yaml.Node | None) -> list[dict[str, object]]:
        """One row per scenario; what is wrong goes to the problems."""
        if top is None:
            message = f"the file is empty; begin with '{_LIST}:' and a list of scenarios"
            self.nodes.problems.append(ScenarioProblem(ScenarioReason.NO_SCENARIOS, 1, message))
            return []
        expected = f"the file must be a mapping with the key {_LIST!r}"
        if isinstance(top, yaml.ScalarNode):  # not quoted: what is no file of ours may be anybody's
            self.report(ScenarioReason.WRONG_TYPE, top, f"{expected}, not a text")
            return []
        keys = self.nodes.mapping(top, (_LIST,), (), expected, "the file")
        listed = keys.get(_LIST)
        if listed is None:
            return []
        if not isinstance(listed, yaml.SequenceNode):
            self.report(
                ScenarioReason.WRONG_TYPE, listed, f"{_LIST} is {shown(listed)}; write a list, each item after '- '"
            )
            return []
        if not listed.value:
            self.report(ScenarioReason.NO_SCENARIOS, listed, "there is no scenario in the list; write one at least")
        first: dict[str, int] = {}
        return [self.scenario(node, first) for node in listed.value]

    def scenario(self, node: yaml.Node, first: dict[str, int]) -> dict[str, object]:
        """The row of one scenario; `first` has the line of every id so far."""
        optional = (*_KINDS, *_OF_SHOCKS, *_OPTIONAL)
        values = self.nodes.mapping(
            node, _REQUIRED, optional, "a scenario must be a mapping with an id", "the scenario"
        )
        if isinstance(node, yaml.MappingNode):
            self.fitting(node, values)

        def read(name: str, reader: Callable[[yaml.Node], object], default: object = None) -> object:
            return reader(values[name]) if name in values else default

        is_replay = "replay" in values
        row = {
            "scenario_id": read("id", lambda value: self.identifier(value, first)),
            "name": read("name", lambda value: self.nodes.text(value, "name", LONGEST_NAME)),
            "description": read(
                "description", lambda value: self.nodes.text(value, "description", LONGEST_DESCRIPTION)
            ),
            "category": read(
                "category",
                lambda value: self.nodes.chosen(
                    value, "category", SCENARIO_CATEGORIES, ScenarioReason.UNKNOWN_CATEGORY
                ),
            ),
            "severity": read(
                "severity",
                lambda value: self.nodes.chosen(
                    value, "severity", SCENARIO_SEVERITIES, ScenarioReason.UNKNOWN_SEVERITY
                ),
            ),
            "kind": "vector",
            "shocks": read("shocks", self.shocks, "{}"),
            "confidence": read(
                "confidence",
                lambda value: self.nodes.chosen(
                    value, "confidence", SCENARIO_CONFIDENCES, ScenarioReason.UNKNOWN_CONFIDENCE
                ),
                None if is_replay else SCENARIO_CONFIDENCES[0],
            ),
            "replay_from": None,
            "replay_to": None,
            "worst_sessions": None,
            "volatility_shift": read("volatility_shift", self.volatility_shift, None if is_replay else 0.0),
            "accepted": read("accepted", lambda value: self.nodes.text(value, "accepted", LONGEST_ACCEPTED)),
            "active": read("active", self.nodes.flag, True),
        }
        return {**row, **(self.replay(values["replay"]) if is_replay else {})}

    def fitting(self, node: yaml.Node, values: Mapping[str, yaml.Node]) -> None:
        """A scenario has shocks or a replay, and only what belongs to the one it has."""
        if not any(name in values for name in _KINDS):
            self.report(
                ScenarioReason.MISSING_KEY,
                node,
                "the scenario has neither shocks nor replay; write one of them, such as shocks: {Market: -0.10}",
            )
        if all(name in values for name in _KINDS):
            self.report(
                ScenarioReason.KEY_DOES_NOT_FIT,
                values["replay"],
                "the scenario has shocks and a replay; a replay takes what really happened: keep one of them",
            )
        elif "replay" in values:
            for name in _OF_SHOCKS:
                if name in values:
                    self.report(
                        ScenarioReason.KEY_DOES_NOT_FIT,
                        values[name],
                        f"{name} belongs to stated shocks, and a replay has none; remove it",
                    )

    def identifier(self, node: yaml.Node, first: dict[str, int]) -> str | None:
        """An id that no scenario before has."""
        value = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
        if not _ID.fullmatch(value):
            self.report(
                ScenarioReason.BAD_ID,
                node,
                f"the id is {shown(node)}; write up to {LONGEST_ID} lower-case letters, digits and underscores",
            )
            return None
        if value in first:
            message = f"the id {value} stands in line {first[value]} already; give each scenario its own"
            self.report(ScenarioReason.DUPLICATE_ID, node, message)
        first.setdefault(value, line_of(node))
        return value

    def volatility_shift(self, node: yaml.Node) -> float | None:
        """The relative change of option volatilities."""
        value = self.nodes.number(node, "volatility_shift", "1.5 (for +150 %)")
        if value is not None and not LEAST_VOLATILITY_SHIFT < value <= LARGEST_VOLATILITY_SHIFT:
            self.report(
                ScenarioReason.VOLATILITY_SHIFT_OUT_OF_RANGE,
                node,
                f"volatility_shift is {value}; it is above {LEAST_VOLATILITY_SHIFT} and at most "
                f"{LARGEST_VOLATILITY_SHIFT} (1.5: +150 %)",
            )
        return None if value is None else float(value)

    def replay(self, node: yaml.Node) -> dict[str, object]:
        """What a replay says: its kind, and two dates or a number of sessions."""
        keys = ("from", "to", "worst")
        expected = "replay must be a mapping such as {from: 2020-02-19, to: 2020-03-23} or {worst: 21}"
        values = self.nodes.mapping(node, (), keys, expected, "replay")
        if not isinstance(node, yaml.MappingNode):
            return {}
        if "worst" in values:
            for name in ("from", "to"):
                if name in values:
                    self.report(
                        ScenarioReason.KEY_DOES_NOT_FIT,
                        values[name],
                        f"replay has worst and {name}; the worst stretch finds its own dates: keep one of them",
                    )
            return {"kind": "worst", "worst_sessions": self.worst(values["worst"])}
        missing = [name for name in ("from", "to") if name not in values]
        if missing:
            self.report(ScenarioReason.MISSING_KEY, node, f"replay has no {one_of(missing)}; {expected}")
            return {}
        first, last = (self.nodes.day(values[name], name) for name in ("from", "to"))
        if first is not None and last is not None and first >= last:
            self.report(
                ScenarioReason.REPLAY_ENDS_BEFORE_IT_BEGINS,
                values["to"],
                f"the replay ends on {last}, which is not after its beginning, {first}; exchange or correct the dates",
            )
        return {"kind": "replay", "replay_from": first, "replay_to": last}

    def worst(self, node: yaml.Node) -> int | None:
        """How many sessions a worst stretch has."""
        value = self.nodes.number(node, "worst", "21 (sessions)")
        if value is None:
            return None
        if value != int(value) or not LEAST_WORST <= value <= LARGEST_WORST:
            self.report(
                ScenarioReason.WORST_OUT_OF_RANGE,
                node,
                f"worst is {value}; it is a whole number of sessions from {LEAST_WORST} to {LARGEST_WORST}",
            )
        return int(value)

    def shocks(self, node: yaml.Node) -> str | None:
        """Decimal shocks by factor, as JSON."""
        expected = "shocks must be a mapping of factors to numbers such as {Market: -0.10}"
        if not isinstance(node, yaml.MappingNode):
            reason = ScenarioReason.NO_SHOCKS if node.tag == NULL else ScenarioReason.WRONG_TYPE
            self.report(reason, node, f"{expected}, not {shown(node)}")
            return None
        if not node.value:
            self.report(ScenarioReason.NO_SHOCKS, node, f"there are no shocks; {expected}")
        stated: dict[str, float | dict[str, float]] = {}
        relative: list[tuple[str, yaml.Node]] = []
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            kind = self.kinds.get(str(name))
            if kind is None:
                message = f"there is no factor {shown(key)}; they are {one_of([*self.kinds])}"
                self.report(ScenarioReason.UNKNOWN_FACTOR, key, message)
                continue
            if name in stated:
                self.report(ScenarioReason.DUPLICATE_KEY, key, f"shocks has the key {name} twice; keep one")
            if isinstance(value, yaml.MappingNode):
                relative.append((str(name), value))
                shock = self.relative(value, str(name), kind)
                stated[str(name)] = {} if shock is None else {_RELATIVE: shock}
                continue
            number = self.nodes.number(value, f"the shock of {name}", "-0.05 (for -5 %)")
            if number is not None:
                stated[str(name)] = self.in_range(value, str(name), kind, number)
        named = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
        for name, value in relative:
            if name == _MARKET:
                message = "the shock of Market is what the others are relative to; write a decimal such as -0.05, or 0"
                self.report(ScenarioReason.RELATIVE_MARKET, value, message)
            elif _MARKET not in named:
                message = (
                    f"the shock of {name} is relative to what the market's implies, and there is none of Market; "
                    "add Market, 0 for a rotation"
                )
                self.report(ScenarioReason.RELATIVE_WITHOUT_MARKET, value, message)
        return json.dumps(stated, sort_keys=True)

    def relative(self, node: yaml.Node, name: str, kind: str) -> float | None:
        """A shock stated as so much more than the market's implies."""
        values = self.nodes.mapping(node, (_RELATIVE,), (), "", f"the shock of {name}")
        if _RELATIVE not in values:
            return None
        number = self.nodes.number(values[_RELATIVE], f"the relative shock of {name}", "0.15 (for 15 % more)")
        return None if number is None else self.in_range(values[_RELATIVE], name, kind, number)

    def in_range(self, node: yaml.Node, name: str, kind: str, shock: Decimal) -> float:
        """The shock, reported where it is larger than any may be."""
        if kind == _RATE:
            largest, fits = LARGEST_RATE_SHOCK, abs(shock) <= LARGEST_RATE_SHOCK
            allowed = f"from -{largest} to {largest} (0.01: +1 percentage point)"
        else:
            largest = LARGEST_SHOCK_OF.get(name, LARGEST_PRICE_SHOCK)
            fits = -LARGEST_PRICE_SHOCK < shock <= largest
            allowed = f"above -{LARGEST_PRICE_SHOCK} and at most {largest} (-0.05: -5 %)"
        if not fits:
            self.report(
                ScenarioReason.SHOCK_OUT_OF_RANGE,
                node,
                f"the shock of {name} is {shock}; it is a decimal {allowed}",
            )
        return float(shock)
