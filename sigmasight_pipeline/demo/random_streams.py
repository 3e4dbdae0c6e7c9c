"""Random numbers addressed by name and day: the value for a day does not depend on what else was drawn.

What belongs here: turning (seed, names, day) into uniforms, normals and coin flips. What does not: any meaning.

A counter-based generator (Philox) is keyed with a BLAKE2 hash of the seed and the names, and its counter is the
weekday number, so that a price is the same whichever range, symbols or process ask for it. Only the raw 64-bit
output is used, which NumPy keeps stable across versions, unlike the streams of its distributions.
"""

from __future__ import annotations

from datetime import date
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Raw = NDArray[np.uint64]

_COIN_BITS = 11
"""The low bits of a raw draw; the uniform is made of the 52 highest, so both are independent of each other."""

_UNIFORM_BITS = 52
"""One fewer than a double holds, so that half a step can be added and neither 0 nor 1 comes out."""

_OUTPUTS_PER_COUNTER = 4
"""One step of Philox4x64's counter gives four 64-bit numbers."""


def digest(seed: int, *names: str) -> int:
    """A 128-bit number that depends on the seed and the names alone (never on Python's salted ``hash``)."""
    text = "\x1f".join((str(seed), *names))
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big")


def weekday_number(day: date) -> int:
    """Position of `day` in the sequence of Mondays to Fridays since 0001-01-01, whatever the holidays."""
    weeks, weekday = divmod(day.toordinal() - 1, 7)
    return weeks * 5 + min(weekday, 4)


def raw_draws(key: int, first: int, count: int, width: int = 1) -> Raw:
    """Raw draws of the days numbered `first` to `first + count - 1`, shape (count, width)."""
    block, skipped = divmod(first * width, _OUTPUTS_PER_COUNTER)
    generator = np.random.Philox(key=key)
    generator.advance(block)
    return generator.random_raw(skipped + count * width)[skipped:].reshape(count, width)


def uniforms(raw: Raw) -> Floats:
    """Uniform numbers strictly between 0 and 1, of the same shape."""
    return ((raw >> np.uint64(64 - _UNIFORM_BITS)).astype(np.float64) + 0.5) * 2.0**-_UNIFORM_BITS


def normals(raw: Raw) -> Floats:
    """Standard normal numbers, of the same shape."""
    return np.asarray(ndtri(uniforms(raw)), dtype=np.float64)


def coin_flips(raw: Raw, probability: float) -> NDArray[np.bool_]:
    """True with `probability` (in steps of 1/2048), independent of the uniform or normal of the same draw."""
    low = raw & np.uint64((1 << _COIN_BITS) - 1)
    return np.asarray(low < round(probability * (1 << _COIN_BITS)))


def uniforms_of_name(seed: int, *names: str, count: int) -> list[float]:
    """`count` uniform numbers that belong to a name rather than to a day."""
    return [float(value) for value in uniforms(raw_draws(digest(seed, *names), 0, count))[:, 0]]
