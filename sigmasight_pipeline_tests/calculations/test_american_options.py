"""American prices and Greeks against published values, QuantLib over the whole grid, and their own laws."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
import QuantLib
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from sigmasight_pipeline.calculations import american_options, black_scholes, early_exercise

Floats = NDArray[np.float64]

GESKE_JOHNSON = {
    # (strike, volatility): values at 1, 4 and 7 months of a put on 40 at 4.88 %. Binomial values of 10,000 steps
    # as in Ju (1998), table 1; those of Geske and Johnson (1984) differ in the last digits.
    (35.0, 0.2): (0.0062, 0.2004, 0.4328),
    (40.0, 0.2): (0.8522, 1.5798, 1.9904),
    (45.0, 0.2): (5.0000, 5.0883, 5.2670),
    (35.0, 0.3): (0.0774, 0.6975, 1.2198),
    (40.0, 0.3): (1.3099, 2.4825, 3.1696),
    (45.0, 0.3): (5.0597, 5.7056, 6.2436),
    (35.0, 0.4): (0.2466, 1.3460, 2.1549),
    (40.0, 0.4): (1.7681, 3.3874, 4.3526),
    (45.0, 0.4): (5.2868, 6.5099, 7.3830),
}
MONTHS = (0.0833, 0.3333, 0.5833)

PUBLISHED = [
    *(
        ("Geske and Johnson (1984)", False, 40.0, strike, years, 0.0488, volatility, 0.0, value, 5e-4)
        for (strike, volatility), values in GESKE_JOHNSON.items()
        for years, value in zip(MONTHS, values, strict=True)
    ),
    ("Hull, 9th ed., example 21.1, 500 steps", False, 50.0, 50.0, 5 / 12, 0.10, 0.40, 0.0, 4.283, 2e-3),
]


@pytest.mark.parametrize(
    ("source", "is_call", "spot", "strike", "years", "rate", "volatility", "dividend_yield", "value", "tolerance"),
    PUBLISHED,
)
def test_published_prices(
    source: str,
    is_call: bool,
    spot: float,
    strike: float,
    years: float,
    rate: float,
    volatility: float,
    dividend_yield: float,
    value: float,
    tolerance: float,
) -> None:
    computed = american_options.price(is_call, spot, strike, years, rate, volatility, dividend_yield)
    assert computed == pytest.approx(value, abs=tolerance, rel=0), source


def test_the_published_premium() -> None:
    """Andersen, Lake and Offengenden (2016), section 6: rate and yield 5 %, volatility 25 %, a year, at the money."""
    option = (False, 100.0, 100.0, 1.0, 0.05, 0.25, 0.05)
    premium = american_options.price(*option) - black_scholes.price(*option)
    assert premium == pytest.approx(0.106952702747, abs=3e-4, rel=0)


class Options(NamedTuple):
    """Options of strike 100 by the arguments of `price`, and what QuantLib says they are worth."""

    is_call: NDArray[np.bool_]
    spot: Floats
    strike: Floats
    days: NDArray[np.int64]
    rate: Floats
    volatility: Floats
    dividend_yield: Floats
    reference: Floats

    @property
    def arguments(self) -> tuple[Any, ...]:
        return (*self[:3], self.days / 365.0, *self[4:7])


class _Reference:
    """One QuantLib option after another, without building the process anew for each."""

    def __init__(self) -> None:
        self._today = QuantLib.Date(2, 1, 2024)
        QuantLib.Settings.instance().evaluationDate = self._today
        self._quotes = {name: QuantLib.SimpleQuote(1.0) for name in ("spot", "rate", "dividend_yield", "volatility")}
        days = QuantLib.Actual365Fixed()
        handles = {name: QuantLib.QuoteHandle(quote) for name, quote in self._quotes.items()}

        def flat(name: str) -> Any:
            return QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(self._today, handles[name], days))

        volatility = QuantLib.BlackConstantVol(self._today, QuantLib.NullCalendar(), handles["volatility"], days)
        self._process = QuantLib.BlackScholesMertonProcess(
            handles["spot"], flat("dividend_yield"), flat("rate"), QuantLib.BlackVolTermStructureHandle(volatility)
        )

    def value(self, option: tuple[Any, ...]) -> float:
        is_call, spot, strike, days, rate, volatility, dividend_yield = option
        for name, number in (
            ("spot", spot),
            ("rate", rate),
            ("dividend_yield", dividend_yield),
            ("volatility", volatility),
        ):
            self._quotes[name].setValue(float(number))
        payoff = QuantLib.PlainVanillaPayoff(QuantLib.Option.Call if is_call else QuantLib.Option.Put, float(strike))
        priced = QuantLib.VanillaOption(payoff, QuantLib.AmericanExercise(self._today, self._today + int(days)))
        earns, costs = (dividend_yield, rate) if is_call else (rate, dividend_yield)
        if earns <= 0.0 and costs < earns:  # two boundaries, which the integral engine refuses
            engine = QuantLib.FdBlackScholesVanillaEngine(self._process, 400, 400)
        else:
            scheme = QuantLib.QdFpAmericanEngine.accurateScheme()
            engine = QuantLib.QdFpAmericanEngine(self._process, scheme)
        priced.setPricingEngine(engine)
        return float(priced.NPV())


RATES = (-0.02, -0.005, 0.0, 0.0001, 0.03, 0.08, 0.15)
DAYS = (1, 7, 30, 91, 365, 1095)
VOLATILITIES = (0.05, 0.12, 0.25, 0.6, 1.5)


@pytest.fixture(scope="module")
def options() -> Options:
    """Every corner of the grid, each with a spot of its own around the strike, some far from it."""
    random = np.random.default_rng(7)
    corners = list(itertools.product((True, False), RATES, RATES, DAYS, VOLATILITIES))
    is_call, rate, dividend_yield, days, volatility = (np.array(column) for column in zip(*corners, strict=True))
    width = np.maximum(0.05, volatility * np.sqrt(days / 365.0))
    spot = np.clip(100.0 * np.exp(random.normal(0.0, 1.2, len(corners)) * width), 10.0, 1000.0)
    strike = np.full(len(corners), 100.0)
    reference = _Reference()
    columns = (is_call, spot, strike, days, rate, volatility, dividend_yield)
    values = np.array([reference.value(option) for option in zip(*columns, strict=True)])
    return Options(*columns, values)


def test_within_the_bound_of_quantlib_over_the_whole_grid(options: Options) -> None:
    error = np.abs(american_options.price(*options.arguments) - options.reference) / options.strike
    assert error.max() < 0.005
    assert np.quantile(error, 0.95) < 0.001
    assert np.quantile(error, 0.95) < 1e-4, "better than asked for, as `premiums` says"
    assert error.max() < 2e-3


def test_never_below_the_exercise_value_nor_the_european_one(options: Options) -> None:
    value = american_options.price(*options.arguments)
    assert (value >= black_scholes.price(*options.arguments)).all()
    assert (value >= american_options.exercise_value(*options.arguments[:3])).all()


def test_the_european_value_to_the_bit_where_early_exercise_is_worth_nothing(options: Options) -> None:
    keeps = options.is_call & (options.dividend_yield <= 0.0) & (options.rate >= 0.0)
    keeps |= ~options.is_call & (options.rate <= 0.0) & (options.dividend_yield >= 0.0)
    assert keeps.sum() > 500
    assert_array_equal(
        american_options.price(*options.arguments)[keeps], black_scholes.price(*options.arguments)[keeps]
    )
    for ours, european in zip(
        american_options.greeks(*options.arguments), black_scholes.greeks(*options.arguments), strict=True
    ):
        assert_array_equal(ours[keeps], european[keeps])


def test_at_its_exercise_value_an_option_moves_one_for_one(options: Options) -> None:
    value = american_options.price(*options.arguments)
    exercise = american_options.exercise_value(*options.arguments[:3])
    ended = (value == exercise) & (exercise > 0.0)
    early = ended & (value > black_scholes.price(*options.arguments) + 1e-6)
    assert early.sum() > 100
    greeks = american_options.greeks(*options.arguments)
    assert_array_equal(greeks.delta[early], np.where(options.is_call, 1.0, -1.0)[early])
    for other in greeks[1:]:
        assert_array_equal(other[early], 0.0)


def test_greeks_are_the_slopes_of_the_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """On options as they are listed, central differences with steps small against the curvature.

    The prices are those of a boundary iterated to its end: what is left of it after the usual steps is no slope.
    """
    random = np.random.default_rng(3)
    count = 4000
    is_call = random.random(count) < 0.5
    strike = np.full(count, 100.0)
    spot, years = 100.0 * np.exp(random.normal(0.0, 0.12, count)), random.uniform(0.08, 2.0, count)
    rate, volatility, dividend = (random.uniform(*ends, count) for ends in ((0.01, 0.06), (0.15, 0.8), (0.0, 0.06)))

    def priced(*, spot: Floats = spot, years: Floats = years, rate: Floats = rate, v: Floats = volatility) -> Floats:
        return american_options.price(is_call, spot, strike, years, rate, v, dividend)

    greeks = american_options.greeks(is_call, spot, strike, years, rate, volatility, dividend)
    monkeypatch.setattr(early_exercise, "ITERATIONS", 12)
    kept = (priced() - american_options.exercise_value(is_call, spot, strike)) > 0.05
    assert kept.mean() > 0.8
    step = 0.1
    up, down, day = priced(spot=spot + step), priced(spot=spot - step), 0.25 / 365
    slopes = {
        "delta": ((up - down) / (2 * step), 2e-4),
        "gamma": ((up - 2 * priced() + down) / step**2, 2e-4),
        "theta": (-(priced(years=years + day) - priced(years=years - day)) / 0.5, 5e-4),
        "vega": ((priced(v=volatility + 1e-3) - priced(v=volatility - 1e-3)) / 0.2, 5e-4),
        "rho": ((priced(rate=rate + 1e-4) - priced(rate=rate - 1e-4)) / 0.02, 1e-3),
    }
    for name, (slope, tolerance) in slopes.items():
        assert_allclose(getattr(greeks, name)[kept], slope[kept], rtol=5e-3, atol=tolerance, err_msg=name)


def test_a_figure_does_not_depend_on_what_else_is_priced(options: Options) -> None:
    together = np.stack([american_options.price(*options.arguments), *american_options.greeks(*options.arguments)])
    chosen = np.random.default_rng(1).choice(len(options.spot), 60, replace=False)
    for row in chosen:
        alone = [argument[row] for argument in options.arguments]
        own = np.stack([american_options.price(*alone), *american_options.greeks(*alone)])
        assert_array_equal(own, together[:, row])


@pytest.mark.parametrize("is_call", [True, False])
def test_degenerate_inputs(is_call: bool) -> None:
    price = american_options.price
    assert price(is_call, 90.0, 100.0, 0.0, 0.05, 0.2, 0.03) == (0.0 if is_call else 10.0)
    assert np.isnan(price(is_call, np.nan, 100.0, 1.0, 0.05, 0.2, 0.03))
    assert np.isnan(price(is_call, 100.0, 100.0, 1.0, 0.05, -0.2, 0.03))
    assert np.isnan(price(is_call, 0.0, 100.0, 1.0, 0.05, 0.2, 0.03))
    still = price(is_call, 120.0 if is_call else 80.0, 100.0, 1.0, 0.05, 0.0, 0.05)
    assert still == pytest.approx(20.0, abs=1e-9), "without volatility it is exercised now"
    assert price(is_call, np.empty(0), 100.0, 1.0, 0.05, 0.2, 0.03).shape == (0,)
    assert price(is_call, np.full((2, 3), 100.0), 100.0, 1.0, 0.05, 0.2, 0.03).shape == (2, 3)
    for greek in american_options.greeks(is_call, 100.0, 100.0, 0.0, 0.05, 0.2, 0.03):
        assert greek == 0.0


@pytest.mark.parametrize(
    ("is_call", "spot", "days", "rate", "volatility", "dividend_yield"),
    [
        (True, 138.2465, 1, -0.0166, 0.05, -0.00004),
        (True, 350.4386, 3, -0.0177, 0.05, -0.0072),
        (True, 36.0845, 1, -0.0484, 0.05, -0.0004),
        (True, 178.7101, 18, -0.0398, 0.01, -0.0196),
        (False, 60.0, 3, -0.0072, 0.05, -0.0177),
        (False, 400.0, 3, -0.0072, 0.05, -0.0177),
    ],
)
def test_two_boundaries_and_no_doubt_where_it_ends(
    is_call: bool, spot: float, days: int, rate: float, volatility: float, dividend_yield: float
) -> None:
    """So far from the strike that nothing is left to chance: exercised when that brings most."""
    terms = is_call, spot, 100.0, days / 365, rate, volatility, dividend_yield
    times = np.linspace(0.0, days / 365, 1001)
    gain = (spot * np.exp(-dividend_yield * times) - 100.0 * np.exp(-rate * times)) * (1 if is_call else -1)
    assert float(american_options.price(*terms)) == pytest.approx(max(gain.max(), 0.0), abs=1e-3)
    assert np.isfinite(np.array(american_options.greeks(*terms))).all()


def test_rises_with_spot_and_volatility(options: Options) -> None:
    """To within what the approximation may be off between neighbours."""
    is_call, spot, strike, years, rate, volatility, dividend = options.arguments
    value = american_options.price(*options.arguments)
    more = american_options.price(is_call, spot, strike, years, rate, volatility * 1.05, dividend)
    assert (more >= value - 1e-3 * strike).all()
    higher = american_options.price(is_call, spot * 1.02, strike, years, rate, volatility, dividend)
    assert ((higher - value) * np.where(is_call, 1.0, -1.0) >= -1e-3 * strike).all()
