"""A YAML file of scenarios as nodes: what can be wrong with one, and reading texts, numbers, dates and mappings of it.

What belongs here: values that are read alike wherever they stand, and telling the line of every one that is not what it
should be. What does not: which keys a scenario has and what they may say (``scenarios``).

The file is read as nodes, never constructed as objects: nothing in it can run, and every node knows its line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from itertools import accumulate

import yaml

from .problems import LONGEST_SHOWN_VALUE
from .spelling import iso_date, number

MAXIMUM_BYTES = 128 * 1024
"""Ten times what ships; a YAML file of this size takes up to two seconds to read."""

DEEPEST = 100
"""Brackets that may be open at once; four are in use."""

_TOO_DEEP = "the text is nested too deeply; write a list of scenarios"

_TEXT, NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"


class ScenarioReason(StrEnum):
    """What can be wrong with a scenarios file."""

    FILE_UNREADABLE = "file_unreadable"
    NO_SCENARIOS = "no_scenarios"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_KEY = "unknown_key"
    DUPLICATE_KEY = "duplicate_key"
    MISSING_KEY = "missing_key"
    KEY_DOES_NOT_FIT = "key_does_not_fit"
    BAD_ID = "bad_id"
    DUPLICATE_ID = "duplicate_id"
    BAD_TEXT = "bad_text"
    UNKNOWN_CATEGORY = "unknown_category"
    UNKNOWN_SEVERITY = "unknown_severity"
    UNKNOWN_CONFIDENCE = "unknown_confidence"
    NO_SHOCKS = "no_shocks"
    UNKNOWN_FACTOR = "unknown_factor"
    SHOCK_OUT_OF_RANGE = "shock_out_of_range"
    RELATIVE_WITHOUT_MARKET = "relative_without_market"
    RELATIVE_MARKET = "relative_market"
    VOLATILITY_SHIFT_OUT_OF_RANGE = "volatility_shift_out_of_range"
    REPLAY_ENDS_BEFORE_IT_BEGINS = "replay_ends_before_it_begins"
    WORST_OUT_OF_RANGE = "worst_out_of_range"


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


def whole_file(message: str, line: int = 1) -> ScenarioProblem:
    """A problem of the file itself."""
    return ScenarioProblem(ScenarioReason.FILE_UNREADABLE, line, message)


def root(content: bytes, file_name: str) -> yaml.Node | None:
    """The document's node; None for an empty one. Raises ScenarioFileError for text that is no YAML."""
    if len(content) > MAXIMUM_BYTES:
        message = f"the file has {len(content):,} bytes, {MAXIMUM_BYTES:,} are allowed"
        raise ScenarioFileError(file_name, [whole_file(message)])
    if _brackets_open(content) > DEEPEST:
        raise ScenarioFileError(file_name, [whole_file(_TOO_DEEP)])
    try:
        return yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        problem = whole_file("the text is not UTF-8; save it as UTF-8", content[: error.start].count(b"\n") + 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = error.problem or error.context
        problem = whole_file(
            f"the text is no YAML: {told}; check indentation, colons and quotes", mark.line + 1 if mark else 1
        )
    except yaml.reader.ReaderError as error:
        line = content.decode("utf-8-sig")[: error.position].count("\n") + 1
        problem = whole_file("the text holds a control character; remove it", line)
    except RecursionError:
        problem = whole_file(_TOO_DEEP)
    raise ScenarioFileError(file_name, [problem])


def _brackets_open(content: bytes) -> int:
    """The most brackets that are open at once; reading a text of brackets without end takes seconds."""
    steps = ({0x5B: 1, 0x7B: 1, 0x5D: -1, 0x7D: -1}.get(byte, 0) for byte in content)
    return max(accumulate(steps), default=0)


def line_of(node: yaml.Node) -> int:
    """Line a node begins in, from 1."""
    return int(node.start_mark.line) + 1


def shown(node: yaml.Node) -> str:
    """What a node says, as a message quotes it."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    text = str(node.value)
    return repr(text if len(text) <= LONGEST_SHOWN_VALUE else text[: LONGEST_SHOWN_VALUE - 1] + "…")


def one_of(values: Sequence[str]) -> str:
    """A closed list as a message names it."""
    return ", ".join(values)


@dataclass
class NodeReader:
    """Reads single nodes and gathers what is wrong with them; None for a value that cannot be used."""

    problems: list[ScenarioProblem] = field(default_factory=list)

    def report(self, reason: ScenarioReason, node: yaml.Node, message: str) -> None:
        """Add a problem of a node."""
        self.problems.append(ScenarioProblem(reason, line_of(node), message))

    def mapping(
        self, node: yaml.Node, required: Sequence[str], optional: Sequence[str], expected: str, where: str
    ) -> dict[str, yaml.Node]:
        """The values of a mapping by key; unknown, repeated and missing keys are reported."""
        if not isinstance(node, yaml.MappingNode):
            self.report(ScenarioReason.WRONG_TYPE, node, f"{expected}, not {shown(node)}")
            return {}
        allowed = (*required, *optional)
        values: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else shown(key)
            if name not in allowed:
                self.report(
                    ScenarioReason.UNKNOWN_KEY,
                    key,
                    f"{where} has no key {shown(key)}; the keys are {one_of(allowed)}",
                )
            elif name in values:
                self.report(ScenarioReason.DUPLICATE_KEY, key, f"{where} has the key {name} twice; keep one")
            else:
                values[name] = value
        for name in required:
            if name not in values:
                self.report(ScenarioReason.MISSING_KEY, node, f"{where} has no {name}; it needs {one_of(required)}")
        return values

    def text(self, node: yaml.Node, name: str, longest: int) -> str | None:
        """A text that says something."""
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TEXT:
            self.report(ScenarioReason.WRONG_TYPE, node, f"{name} is {shown(node)}; write text, in quotes if need be")
            return None
        value = " ".join(node.value.split())
        if not 0 < len(value) <= longest or not value.isprintable():
            self.report(
                ScenarioReason.BAD_TEXT, node, f"{name} is {shown(node)}; write 1 to {longest} printable characters"
            )
        return value

    def chosen(self, node: yaml.Node, name: str, allowed: Sequence[str], reason: ScenarioReason) -> str | None:
        """One of a closed list."""
        value = node.value if isinstance(node, yaml.ScalarNode) else None
        if value not in allowed:
            self.report(reason, node, f"{name} is {shown(node)}; it is one of {one_of(allowed)}")
            return None
        return str(value)

    def flag(self, node: yaml.Node) -> bool | None:
        """True or false."""
        flags: Mapping[object, bool] = {"true": True, "false": False}
        plain = isinstance(node, yaml.ScalarNode) and node.tag != _TEXT
        value = flags.get(node.value.lower()) if plain else None
        if value is None:
            self.report(ScenarioReason.WRONG_TYPE, node, f"active is {shown(node)}; write true or false")
        return value

    def number(self, node: yaml.Node, name: str, example: str) -> Decimal | None:
        """A plain decimal number."""
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        value = number(node.value) if plain else None
        if value is None:
            self.report(
                ScenarioReason.WRONG_TYPE, node, f"{name} is {shown(node)}; write a plain decimal such as {example}"
            )
        return value

    def day(self, node: yaml.Node, name: str) -> date | None:
        """A calendar date."""
        value = iso_date(node.value) if isinstance(node, yaml.ScalarNode) else None
        if value is None:
            self.report(ScenarioReason.WRONG_TYPE, node, f"{name} is {shown(node)}; write a date such as 2020-02-19")
        return value
