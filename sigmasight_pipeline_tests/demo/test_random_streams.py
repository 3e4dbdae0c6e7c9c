"""Random numbers addressed by name and day."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.demo import random_streams as streams

KEY = streams.digest(7, "stream", "AAPL")


def test_digest_is_the_blake2_of_seed_and_names() -> None:
    # b2sum of the bytes "20221201\x1fspecific\x1fAAPL"; a change here would change every simulated price
    assert streams.digest(20221201, "specific", "AAPL") == 0xEFFE19AED8F441680040FD7B3C5986FA


def test_raw_draws_are_those_of_every_numpy_version() -> None:
    key = streams.digest(20221201, "specific", "AAPL")
    assert streams.raw_draws(key, 528_060, 3)[:, 0].tolist() == [
        11_461_693_183_569_245_650,
        11_803_008_825_270_480_074,
        1_185_675_043_852_990_761,
    ]


@pytest.mark.parametrize(("one", "other"), [((1, "a"), (2, "a")), ((1, "a", "b"), (1, "ab")), ((1, "a"), (1, "b"))])
def test_digest_tells_seeds_and_names_apart(one: tuple[int, str], other: tuple[int, str]) -> None:
    assert streams.digest(*one) != streams.digest(*other)


def test_weekday_numbers_count_weekdays() -> None:
    monday = date(2024, 1, 1)
    week = [streams.weekday_number(monday + timedelta(days=n)) for n in range(8)]
    assert [number - week[0] for number in week] == [0, 1, 2, 3, 4, 4, 4, 5]


@settings(max_examples=60, deadline=None)
@given(first=st.integers(0, 600_000), count=st.integers(1, 40), width=st.integers(1, 5), before=st.integers(0, 30))
def test_draws_of_a_day_do_not_depend_on_the_range(first: int, count: int, width: int, before: int) -> None:
    start = max(0, first - before)
    longer = streams.raw_draws(KEY, start, first - start + count + 3, width)
    assert np.array_equal(streams.raw_draws(KEY, first, count, width), longer[first - start : first - start + count])


def test_uniforms_normals_and_coins_have_their_distributions() -> None:
    raw = streams.raw_draws(KEY, 0, 200_000)[:, 0]
    uniform, normal, coins = streams.uniforms(raw), streams.normals(raw), streams.coin_flips(raw, 0.25)
    assert 0 < uniform.min() < uniform.max() < 1
    # within five standard errors of a sample of 200,000
    assert abs(uniform.mean() - 0.5) < 5 * 12**-0.5 / 200_000**0.5
    assert abs(normal.mean()) < 5 / 200_000**0.5
    assert abs(normal.var() - 1) < 5 * (2 / 200_000) ** 0.5
    assert abs((normal**4).mean() - 3) < 5 * (96 / 200_000) ** 0.5
    assert abs(coins.mean() - 0.25) < 5 * (0.25 * 0.75 / 200_000) ** 0.5
    assert abs(np.corrcoef(coins, normal)[0, 1]) < 5 / 200_000**0.5


def test_extreme_raw_draws_stay_inside_the_unit_interval() -> None:
    raw = np.array([0, 2**64 - 1], dtype=np.uint64)
    assert np.isfinite(streams.normals(raw)).all()
    assert (streams.uniforms(raw) > 0).all()
    assert (streams.uniforms(raw) < 1).all()
