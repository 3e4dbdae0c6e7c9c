"""Stress scenarios: a YAML file to validated rows of ``stress_test_scenarios``.

What belongs here: what a scenario may say, and telling every line that says something else. What does not: what a
scenario does to portfolios (``calculations.stress``) and storing the rows.

The file is read as nodes, never constructed as objects: nothing in it can run, and every node knows its line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from itertools import accumulate
from pathlib import Path

import polars as pl
import yaml

from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.reference import (
    SCENARIO_CATEGORIES,
    SCENARIO_SEVERITIES,
    stress_test_scenarios,
)
from sigmasight_pipeline.user_files import UserFileError, read_user_file

from .problems import LONGEST_SHOWN_VALUE
from .spelling import number

MAXIMUM_BYTES = 128 * 1024
"""Fifteen times what ships; a YAML file of this size takes up to two seconds to read."""

LARGEST_PRICE_SHOCK = Decimal(1)
LARGEST_RATE_SHOCK = Decimal("0.10")
LEAST_VOLATILITY_SHIFT, LARGEST_VOLATILITY_SHIFT = Decimal(-1), Decimal(5)
"""The shift is above the one and at most the other."""

DEEPEST = 100
"""Brackets that may be open at once; three are in use."""

LONGEST_ID, LONGEST_NAME, LONGEST_DESCRIPTION = 60, 100, 500

_LIST = "scenarios"
_REQUIRED = ("id", "name", "category", "severity", "shocks")
_OPTIONAL = ("description", "volatility_shift", "active")
_ID = re.compile(rf"[a-z0-9_]{{1,{LONGEST_ID}}}")
_TOO_DEEP = "the text is nested too deeply; write a list of scenarios"
_TEXT, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
_PRICED, _RATE = ("style", "shock_only"), "rate"


class ScenarioReason(StrEnum):
    """What can be wrong with a scenarios file."""

    FILE_UNREADABLE = "file_unreadable"
    NO_SCENARIOS = "no_scenarios"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_KEY = "unknown_key"
    DUPLICATE_KEY = "duplicate_key"
    MISSING_KEY = "missing_key"
    BAD_ID = "bad_id"
    DUPLICATE_ID = "duplicate_id"
    BAD_TEXT = "bad_text"
    UNKNOWN_CATEGORY = "unknown_category"
    UNKNOWN_SEVERITY = "unknown_severity"
    NO_SHOCKS = "no_shocks"
    UNKNOWN_FACTOR = "unknown_factor"
    SHOCK_OUT_OF_RANGE = "shock_out_of_range"
    VOLATILITY_SHIFT_OUT_OF_RANGE = "volatility_shift_out_of_range"


@dataclass(frozen=True, slots=True)
class ScenarioProblem:
    """One thing wrong in one place: the line from 1, and a sentence that says what is allowed."""

    reason: ScenarioReason
    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message} [{self.reason}]"


class ScenarioFileError(ValueError):
    """A scenarios file that is refused; `problems` has everything found, by line."""

    def __init__(self, file_name: str, problems: Sequence[ScenarioProblem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{file_name}: {len(self.problems)} error(s), no scenario was changed:\n{lines}")


def read_scenarios(path: Path, *, factors: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``stress_test_scenarios`` of a file, as `parse_scenarios`. Raises ScenarioFileError."""
    try:
        content = read_user_file(path, MAXIMUM_BYTES)
    except UserFileError as error:
        raise ScenarioFileError(
            str(path), [_whole(f"{error}, or set SIGMASIGHT_SCENARIOS_FILE to the right one")]
        ) from None
    return parse_scenarios(content, file_name=str(path), factors=factors)


def parse_scenarios(content: bytes, *, file_name: str, factors: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``stress_test_scenarios`` in order of scenario_id; shocks are JSON text with sorted keys.

    `factors` are rows of ``factor_definitions``: shocks may be of those that have a return, active or not. The file is
    a mapping with the one key `scenarios`, a list of mappings: id, name, category, severity and shocks, and optionally
    description, volatility_shift (0) and active (true). Shocks of priced factors are decimals from -1 to 1, of the rate
    from -0.10 to 0.10; volatility_shift is above -1 and at most 5. Raises ScenarioFileError with every problem.
    """
    reader = _Reader(factors)
    rows = reader.rows(_root(content, file_name))
    if reader.problems:
        raise ScenarioFileError(file_name, reader.problems)
    return pl.DataFrame(rows, schema=polars_schema(stress_test_scenarios)).sort("scenario_id")


def _whole(message: str, line: int = 1) -> ScenarioProblem:
    return ScenarioProblem(ScenarioReason.FILE_UNREADABLE, line, message)


def _root(content: bytes, file_name: str) -> yaml.Node | None:
    """The document's node; None for an empty one."""
    if len(content) > MAXIMUM_BYTES:
        message = f"the file has {len(content):,} bytes, {MAXIMUM_BYTES:,} are allowed"
        raise ScenarioFileError(file_name, [_whole(message)])
    if _brackets_open(content) > DEEPEST:
        raise ScenarioFileError(file_name, [_whole(_TOO_DEEP)])
    try:
        return yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        problem = _whole("the text is not UTF-8; save it as UTF-8", content[: error.start].count(b"\n") + 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = error.problem or error.context
        problem = _whole(
            f"the text is no YAML: {told}; check indentation, colons and quotes", mark.line + 1 if mark else 1
        )
    except yaml.reader.ReaderError as error:
        line = content.decode("utf-8-sig")[: error.position].count("\n") + 1
        problem = _whole("the text holds a control character; remove it", line)
    except RecursionError:
        problem = _whole(_TOO_DEEP)
    raise ScenarioFileError(file_name, [problem])


def _brackets_open(content: bytes) -> int:
    """The most brackets that are open at once; reading a text of brackets without end takes seconds."""
    steps = ({0x5B: 1, 0x7B: 1, 0x5D: -1, 0x7D: -1}.get(byte, 0) for byte in content)
    return max(accumulate(steps), default=0)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _shown(node: yaml.Node) -> str:
    """What a node says, as a message quotes it."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    text = str(node.value)
    return repr(text if len(text) <= LONGEST_SHOWN_VALUE else text[: LONGEST_SHOWN_VALUE - 1] + "…")


def _one_of(values: Sequence[str]) -> str:
    return ", ".join(values)


@dataclass
class _Reader:
    """Reads nodes into rows and gathers what is wrong with them."""

    factors: pl.DataFrame
    problems: list[ScenarioProblem] = field(default_factory=list)

    def __post_init__(self) -> None:
        with_return = self.factors.filter(pl.col("kind").is_in([*_PRICED, _RATE])).sort("display_order", "factor")
        self.kinds = dict(with_return.select("factor", "kind").iter_rows())

    def report(self, reason: ScenarioReason, node: yaml.Node, message: str) -> None:
        self.problems.append(ScenarioProblem(reason, _line(node), message))

    def rows(self, root: yaml.Node | None) -> list[dict[str, object]]:
        """One row per scenario; what is wrong goes to `problems`."""
        if root is None:
            message = f"the file is empty; begin with '{_LIST}:' and a list of scenarios"
            self.problems.append(ScenarioProblem(ScenarioReason.NO_SCENARIOS, 1, message))
            return []
        expected = f"the file must be a mapping with the key {_LIST!r}"
        if isinstance(root, yaml.ScalarNode):  # not quoted: what is no file of ours may be anybody's
            self.report(ScenarioReason.WRONG_TYPE, root, f"{expected}, not a text")
            return []
        top = self.mapping(root, (_LIST,), (), expected, "the file")
        listed = top.get(_LIST)
        if listed is None:
            return []
        if not isinstance(listed, yaml.SequenceNode):
            self.report(
                ScenarioReason.WRONG_TYPE, listed, f"{_LIST} is {_shown(listed)}; write a list, each item after '- '"
            )
            return []
        if not listed.value:
            self.report(ScenarioReason.NO_SCENARIOS, listed, "there is no scenario in the list; write one at least")
        first: dict[str, int] = {}
        return [self.scenario(node, first) for node in listed.value]

    def mapping(
        self, node: yaml.Node, required: Sequence[str], optional: Sequence[str], expected: str, where: str
    ) -> dict[str, yaml.Node]:
        """The values of a mapping by key; unknown, repeated and missing keys are reported."""
        if not isinstance(node, yaml.MappingNode):
            self.report(ScenarioReason.WRONG_TYPE, node, f"{expected}, not {_shown(node)}")
            return {}
        allowed = (*required, *optional)
        values: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else _shown(key)
            if name not in allowed:
                self.report(
                    ScenarioReason.UNKNOWN_KEY,
                    key,
                    f"{where} has no key {_shown(key)}; the keys are {_one_of(allowed)}",
                )
            elif name in values:
                self.report(ScenarioReason.DUPLICATE_KEY, key, f"{where} has the key {name} twice; keep one")
            else:
                values[name] = value
        for name in required:
            if name not in values:
                self.report(ScenarioReason.MISSING_KEY, node, f"{where} has no {name}; it needs {_one_of(required)}")
        return values

    def scenario(self, node: yaml.Node, first: dict[str, int]) -> dict[str, object]:
        """The row of one scenario; `first` has the line of every id so far."""
        values = self.mapping(node, _REQUIRED, _OPTIONAL, "a scenario must be a mapping with an id", "the scenario")

        def read(name: str, reader: Callable[[yaml.Node], object], default: object = None) -> object:
            return reader(values[name]) if name in values else default

        return {
            "scenario_id": read("id", lambda value: self.identifier(value, first)),
            "name": read("name", lambda value: self.text(value, "name", LONGEST_NAME)),
            "description": read("description", lambda value: self.text(value, "description", LONGEST_DESCRIPTION)),
            "category": read(
                "category",
                lambda value: self.chosen(value, "category", SCENARIO_CATEGORIES, ScenarioReason.UNKNOWN_CATEGORY),
            ),
            "severity": read(
                "severity",
                lambda value: self.chosen(value, "severity", SCENARIO_SEVERITIES, ScenarioReason.UNKNOWN_SEVERITY),
            ),
            "shocks": read("shocks", self.shocks),
            "volatility_shift": read("volatility_shift", self.volatility_shift, 0.0),
            "active": read("active", self.flag, True),
        }

    def text(self, node: yaml.Node, name: str, longest: int) -> str | None:
        """A text that says something."""
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TEXT:
            self.report(ScenarioReason.WRONG_TYPE, node, f"{name} is {_shown(node)}; write text, in quotes if need be")
            return None
        value = " ".join(node.value.split())
        if not 0 < len(value) <= longest or not value.isprintable():
            self.report(
                ScenarioReason.BAD_TEXT, node, f"{name} is {_shown(node)}; write 1 to {longest} printable characters"
            )
        return value

    def identifier(self, node: yaml.Node, first: dict[str, int]) -> str | None:
        """An id that no scenario before has."""
        value = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
        if not _ID.fullmatch(value):
            self.report(
                ScenarioReason.BAD_ID,
                node,
                f"the id is {_shown(node)}; write up to {LONGEST_ID} lower-case letters, digits and underscores",
            )
            return None
        if value in first:
            message = f"the id {value} stands in line {first[value]} already; give each scenario its own"
            self.report(ScenarioReason.DUPLICATE_ID, node, message)
        first.setdefault(value, _line(node))
        return value

    def chosen(self, node: yaml.Node, name: str, allowed: Sequence[str], reason: ScenarioReason) -> str | None:
        """One of a closed list."""
        value = node.value if isinstance(node, yaml.ScalarNode) else None
        if value not in allowed:
            self.report(reason, node, f"{name} is {_shown(node)}; it is one of {_one_of(allowed)}")
            return None
        return str(value)

    def flag(self, node: yaml.Node) -> bool | None:
        """True or false."""
        flags: Mapping[object, bool] = {"true": True, "false": False}
        plain = isinstance(node, yaml.ScalarNode) and node.tag != _TEXT
        value = flags.get(node.value.lower()) if plain else None
        if value is None:
            self.report(ScenarioReason.WRONG_TYPE, node, f"active is {_shown(node)}; write true or false")
        return value

    def number(self, node: yaml.Node, name: str, example: str) -> Decimal | None:
        """A plain decimal number."""
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        value = number(node.value) if plain else None
        if value is None:
            self.report(
                ScenarioReason.WRONG_TYPE, node, f"{name} is {_shown(node)}; write a plain decimal such as {example}"
            )
        return value

    def volatility_shift(self, node: yaml.Node) -> float | None:
        """The relative change of option volatilities."""
        value = self.number(node, "volatility_shift", "1.5 (for +150 %)")
        if value is not None and not LEAST_VOLATILITY_SHIFT < value <= LARGEST_VOLATILITY_SHIFT:
            self.report(
                ScenarioReason.VOLATILITY_SHIFT_OUT_OF_RANGE,
                node,
                f"volatility_shift is {value}; it is above {LEAST_VOLATILITY_SHIFT} and at most "
                f"{LARGEST_VOLATILITY_SHIFT} (1.5: +150 %)",
            )
        return None if value is None else float(value)

    def shocks(self, node: yaml.Node) -> str | None:
        """Decimal shocks by factor, as JSON."""
        expected = "shocks must be a mapping of factors to numbers such as {Market: -0.10}"
        if not isinstance(node, yaml.MappingNode):
            reason = ScenarioReason.NO_SHOCKS if node.tag == _NULL else ScenarioReason.WRONG_TYPE
            self.report(reason, node, f"{expected}, not {_shown(node)}")
            return None
        if not node.value:
            self.report(ScenarioReason.NO_SHOCKS, node, f"there are no shocks; {expected}")
        found: dict[str, float] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            kind = self.kinds.get(str(name))
            if kind is None:
                message = f"there is no factor {_shown(key)}; they are {_one_of([*self.kinds])}"
                self.report(ScenarioReason.UNKNOWN_FACTOR, key, message)
                continue
            if name in found:
                self.report(ScenarioReason.DUPLICATE_KEY, key, f"shocks has the key {name} twice; keep one")
            shock = self.number(value, f"the shock of {name}", "-0.05 (for -5 %)")
            if shock is not None:
                found[str(name)] = self.in_range(value, str(name), kind, shock)
        return json.dumps(found, sort_keys=True)

    def in_range(self, node: yaml.Node, name: str, kind: str, shock: Decimal) -> float:
        """The shock, reported where it is larger than any may be."""
        largest = LARGEST_RATE_SHOCK if kind == _RATE else LARGEST_PRICE_SHOCK
        unit = "0.01: +1 percentage point" if kind == _RATE else "-0.05: -5 %"
        if abs(shock) > largest:
            self.report(
                ScenarioReason.SHOCK_OUT_OF_RANGE,
                node,
                f"the shock of {name} is {shock}; it is a decimal from -{largest} to {largest} ({unit})",
            )
        return float(shock)
