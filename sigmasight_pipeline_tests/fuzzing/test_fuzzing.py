"""Whatever is in a file or a setting: it is taken whole or refused in words, soon, and never by a traceback.

Every input has a number and follows from it, so that one that fails can be made again: `input_of(name, number)`.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from sigmasight_pipeline_tests.fuzzing.mutations import mutated
from sigmasight_pipeline_tests.fuzzing.parsers import GOOD, LONGEST_TOLD, parsers, typed_parquet

PARSERS = parsers()
SHORT, LONG = 200, 10_000
"""Inputs of the default suite and of the long run, over all parsers."""

SECONDS_PER_MEGABYTE = 2.0
"""Work one input may take, of this process; a smaller one as much as one of a megabyte."""


def input_of(name: str, number: int) -> bytes:
    """The input of that number for a parser."""
    generator = random.Random(f"{name} {number}")
    _, seeds = PARSERS[name]
    if not seeds:
        return typed_parquet(generator, GOOD[name.partition(".")[0]])
    return mutated(generator, generator.choice(seeds))


def judge(name: str, number: int, folder: Path) -> bool:
    """Whether the input is refused; fails where a rule of all parsers is broken."""
    content = input_of(name, number)
    parse, _ = PARSERS[name]
    began = time.process_time()
    outcome = parse(content, folder)
    taken = time.process_time() - began
    allowed = SECONDS_PER_MEGABYTE * max(1, len(content) / 1e6)
    assert taken < allowed, f"{taken:.2f} s for {len(content):,} bytes"
    for told in outcome.told:
        assert 0 < len(told) < LONGEST_TOLD, told[:2000]
        assert "\n" not in told
        told.encode()
    return outcome.is_refused


def run(name: str, count: int, folder: Path) -> int:
    """How many of `count` inputs are refused; every one that breaks a rule is listed."""
    refused, broken = 0, []
    for number in range(count):
        try:
            refused += judge(name, number, folder)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            broken.append(f"{name} {number}: {type(error).__name__}: {str(error)[:300]!r}")
    assert not broken, "\n".join(broken[:40])
    return refused


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_mutated_is_taken_or_refused_in_words(name: str, tmp_path: Path) -> None:
    run(name, SHORT // len(PARSERS) + 1, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_many_mutated_inputs(name: str, tmp_path: Path) -> None:
    count = LONG // len(PARSERS) + 1
    refused = run(name, count, tmp_path)
    assert 0 < refused < count, "mutations that are all taken, or all refused, try nothing"


@pytest.mark.parametrize("name", [name for name, (_, seeds) in PARSERS.items() if seeds])
def test_what_is_not_mutated_is_taken(name: str, tmp_path: Path) -> None:
    parse, seeds = PARSERS[name]
    for content in seeds:
        assert parse(content, tmp_path).told == ()


def test_an_input_follows_from_its_number() -> None:
    for name in PARSERS:
        assert input_of(name, 7) == input_of(name, 7)
