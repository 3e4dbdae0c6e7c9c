"""Stress tests of a large book: seconds for thirty scenarios on ten thousand positions.

What belongs here: the time of the engine, positions and options re-priced, on one session. What does not: correctness,
beyond making sure that every position has a figure; the demo's own time (``benchmarks.demo``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sigmasight_pipeline.demo.parameters import FACTORS, RATE
from sigmasight_pipeline_tests.benchmarks.measurement import Measurement, fastest
from sigmasight_pipeline_tests.calculations.stress_world import World, contract, long, market, scenario

POSITIONS = 10_000
OPTIONS = 2_000
SYMBOLS = 1_000
SCENARIOS = 30
SHOCKED = 5
"""Factors shocked in each of the scenarios that have several."""


def run() -> list[Measurement]:
    """Seconds for 30 scenarios x 10,000 positions, and for the 14 single shocks of market and rates."""
    world = _world()
    scenarios = _scenarios()
    results, positions = world.run(*scenarios)
    assert positions.height == SCENARIOS * POSITIONS
    assert set(results["status"]) == set(positions["status"]) == {"ok"}
    stress = fastest(lambda: world.run(*scenarios), 3)
    risk = fastest(world.risk, 3)
    return [
        Measurement(f"{SCENARIOS} stress scenarios", stress, positions.height),
        Measurement("single shocks of market and rates", risk, world.risk().height * POSITIONS),
    ]


def _world() -> World:
    """A market of a thousand stocks, and ten thousand positions in them, a fifth of them options."""
    random = np.random.default_rng(20240102)
    letters = [chr(ord("A") + number) for number in range(26)]
    names = [f"X{first}{second}{third}" for first in letters[:2] for second in letters for third in letters][:SYMBOLS]
    loadings = random.uniform(0.3, 1.5, size=SYMBOLS)
    stocks = {name: {"Market": float(own)} for name, own in zip(names, loadings, strict=True)}
    order = random.permutation(POSITIONS).tolist()
    book = [_position(number, names[number % SYMBOLS], number < OPTIONS) for number in order]
    return market(stocks, history=260).holding(*book)


def _position(number: int, symbol: str, is_option: bool) -> dict[str, Any]:
    if is_option:
        return contract(number, f"{symbol}240920{'CP'[number % 2]}{90 + number % 20:05d}000", 5 - number % 11 or 1)
    return long(number, symbol, 100 - number % 201 or 1)


def _scenarios() -> list[dict[str, Any]]:
    """Half of them single shocks, half of several factors with the market among them and volatilities up."""
    keys = [factor.key for factor in FACTORS if factor.key != RATE]
    single = [scenario(f"single_{number}", {keys[number % len(keys)]: -0.1}) for number in range(SCENARIOS // 2)]
    others = keys[1:]
    several = []
    for number in range(SCENARIOS - len(single)):
        shocks = {others[(number + step) % len(others)]: -0.2 + 0.1 * step for step in range(SHOCKED - 1)}
        several.append(scenario(f"several_{number}", {"Market": -0.3, **shocks}, volatility_shift=1.0))
    return [*single, *several]
