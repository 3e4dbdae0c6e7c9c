"""Option pricing, Greeks and implied volatility against loops over the libraries one would otherwise call.

What belongs here: timings of ``black_scholes`` and ``implied_volatility`` on 10,000 options, of Greeks on 1,000,000
too, of American price and Greeks on 100,000. What does not: correctness, beyond making sure that both sides found the
same values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import erfc, exp, log, sqrt
from typing import NamedTuple

import mibian
import numpy as np
import QuantLib
from numpy.typing import NDArray
from scipy.optimize import brentq

from sigmasight_pipeline.calculations import american_options, black_scholes
from sigmasight_pipeline.calculations.implied_volatility import implied_volatility
from sigmasight_pipeline_tests.benchmarks.measurement import Measurement, fastest

OPTIONS = 10_000
MANY_OPTIONS = 1_000_000
BRENTQ_OPTIONS = 500
MIBIAN_PRICES = 200
MIBIAN_GREEKS = 300
MIBIAN_INVERSIONS = 10

BRENTQ_BUDGET = 1 / 20
"""Stands for the architecture's 15 times py_lets_be_rational, which takes 1.2 to 1.7 times as long as this loop and is
no dependency."""

MIBIAN_BUDGET = 1 / 3_000
DIVIDEND_YIELD = 0.02
GREEKS_BUDGET = 1 / 5_000
AMERICAN_BUDGET = 1 / 100

AMERICAN_OPTIONS = 100_000
QUANTLIB_OPTIONS = 60
FINITE_DIFFERENCES = 100
"""Steps in time and price of QuantLib's engine: its defaults."""

Floats = NDArray[np.float64]
Option = tuple[bool, float, float, float, float]


class Options(NamedTuple):
    """Options and their volatilities; without a dividend yield, which mibian and the loop do not know."""

    is_call: NDArray[np.bool_]
    spot: Floats
    strike: Floats
    time: Floats
    rate: Floats
    volatility: Floats

    def price(self) -> Floats:
        """What they are worth."""
        return black_scholes.price(self.is_call, self.spot, self.strike, self.time, self.rate, self.volatility)

    def greeks(self) -> black_scholes.Greeks:
        """Their Greeks."""
        return black_scholes.greeks(self.is_call, self.spot, self.strike, self.time, self.rate, self.volatility)

    def inverted(self, prices: Floats) -> Floats:
        """The volatilities back from the prices."""
        found = implied_volatility(self.is_call, prices, self.spot, self.strike, self.time, self.rate)
        return found.volatility

    def first(self, count: int) -> list[Option]:
        """The first of them as plain Python numbers: is_call, spot, strike, time, rate."""
        columns = (self.is_call, self.spot, self.strike, self.time, self.rate)
        return list(zip(*(column[:count].tolist() for column in columns), strict=True))


def run() -> list[Measurement]:
    """Seconds for all options; ratios compare the time per option, as the peers are given fewer."""
    options = _options(OPTIONS)
    prices = options.price()

    def inverted() -> Floats:
        return options.inverted(prices)

    american = _options(AMERICAN_OPTIONS)

    def american_figures() -> Floats:
        """Price and Greeks; every underlying pays dividends, so that early exercise may pay for each of them."""
        value, greeks = american_options.price_and_greeks(
            american.is_call,
            american.spot,
            american.strike,
            american.time,
            american.rate,
            american.volatility,
            DIVIDEND_YIELD,
        )
        return np.stack([value, *greeks])

    stage, with_brentq, with_mibian = "implied volatility", _brentq(options, prices), _mibian(options, prices)
    return [
        _compared("option price", options.price, "mibian.BS loop", _mibian_prices(options)),
        *(
            _compared("Greeks", some.greeks, "mibian.BS loop", _mibian_greeks(some), GREEKS_BUDGET)
            for some in (options, _options(MANY_OPTIONS))
        ),
        _compared(
            "American price and Greeks",
            american_figures,
            "QuantLib finite-difference loop",
            _quantlib(american),
            AMERICAN_BUDGET,
            tolerance=(1.5, 0.02),
        ),
        _compared(stage, inverted, "scipy.optimize.brentq loop", with_brentq, BRENTQ_BUDGET),
        _compared(stage, inverted, "mibian.BS loop", with_mibian, MIBIAN_BUDGET),
    ]


def _compared(
    stage: str,
    ours: Callable[[], Floats | black_scholes.Greeks],
    peer: str,
    theirs: Callable[[], Sequence[float] | Sequence[Sequence[float]]],
    budget: float | None = None,
    tolerance: tuple[float, float] = (1e-6, 0.0),
) -> Measurement:
    """Alternating, so that a busy machine slows both. Raises AssertionError where the results differ."""
    found, computed = theirs(), np.asarray(ours()).T
    np.testing.assert_allclose(found, computed[: len(found)], rtol=tolerance[1], atol=tolerance[0])
    rounds = [(fastest(ours, 3), fastest(theirs, 1)) for _ in range(5)]
    seconds, peer_seconds = (min(taken) for taken in zip(*rounds, strict=True))
    count = len(computed)
    return Measurement(stage, seconds, count, seconds / count / (peer_seconds / len(found)), peer, budget)


def _quantlib(options: Options) -> Callable[[], list[tuple[float, ...]]]:
    """Price and Greeks one by one: delta, gamma and theta of the grid, vega and rho by pricing once more each."""
    today = QuantLib.Date(2, 1, 2024)
    QuantLib.Settings.instance().evaluationDate = today
    quotes = [QuantLib.SimpleQuote(1.0) for _ in range(4)]
    spot, rate, dividend, volatility = (QuantLib.QuoteHandle(quote) for quote in quotes)
    days = QuantLib.Actual365Fixed()
    process = QuantLib.BlackScholesMertonProcess(
        spot,
        QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(today, dividend, days)),
        QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(today, rate, days)),
        QuantLib.BlackVolTermStructureHandle(
            QuantLib.BlackConstantVol(today, QuantLib.NullCalendar(), volatility, days)
        ),
    )
    engine = QuantLib.FdBlackScholesVanillaEngine(process, FINITE_DIFFERENCES, FINITE_DIFFERENCES)
    given = list(zip(options.first(QUANTLIB_OPTIONS), options.volatility[:QUANTLIB_OPTIONS].tolist(), strict=True))

    def one(
        is_call: bool, level: float, strike: float, years: float, interest: float, sigma: float
    ) -> tuple[float, ...]:
        for quote, value in zip(quotes, (level, interest, DIVIDEND_YIELD, sigma), strict=True):
            quote.setValue(value)
        payoff = QuantLib.PlainVanillaPayoff(QuantLib.Option.Call if is_call else QuantLib.Option.Put, strike)
        option = QuantLib.VanillaOption(payoff, QuantLib.AmericanExercise(today, today + round(years * 365)))
        option.setPricingEngine(engine)
        value, delta, gamma, theta = option.NPV(), option.delta(), option.gamma(), option.theta() / 365
        quotes[3].setValue(sigma + 1e-3)
        vega = (option.NPV() - value) / 0.1
        quotes[3].setValue(sigma)
        quotes[1].setValue(interest + 1e-4)
        rho = (option.NPV() - value) / 0.01
        return value, delta, gamma, theta, vega, rho

    return lambda: [one(*option, sigma) for option, sigma in given]


def _options(count: int) -> Options:
    """Listed options as they are: a week to two years, most strikes within 30 % of the spot."""
    random = np.random.default_rng(20240102)
    spot = random.uniform(20, 500, count)
    strike = spot * np.exp(random.normal(0, 0.15, count))
    time = random.integers(7, 700, count) / 365
    # Deep options get the volatility that leaves them worth something: nobody inverts the others.
    volatility = random.uniform(0.12, 0.8, count) + np.abs(np.log(strike / spot)) / np.sqrt(time) / 3
    rate = random.uniform(0.01, 0.05, count)
    return Options(random.random(count) < 0.5, spot, strike, time, rate, volatility)


def _brentq(options: Options, prices: Floats) -> Callable[[], list[float]]:
    """A loop over brentq with the closed form in plain Python."""

    def normal(x: float) -> float:
        return 0.5 * erfc(-x / sqrt(2.0))

    def excess(volatility: float, target: float, option: Option) -> float:
        is_call, spot, strike, time, rate = option
        total = volatility * sqrt(time)
        d1 = (log(spot / strike) + rate * time) / total + 0.5 * total
        sign = 1.0 if is_call else -1.0
        value = spot * normal(sign * d1) - strike * exp(-rate * time) * normal(sign * (d1 - total))
        return sign * value - target

    rows = list(zip(prices.tolist(), options.first(BRENTQ_OPTIONS), strict=False))
    return lambda: [brentq(excess, 1e-4, 5.0, args=row, xtol=1e-9) for row in rows]


def _mibian(options: Options, prices: Floats) -> Callable[[], list[float]]:
    """A loop over mibian, which bisects until the price agrees to six decimals."""
    rows = [
        (_mibian_arguments(option), {"callPrice" if option[0] else "putPrice": price})
        for price, option in zip(prices.tolist(), options.first(MIBIAN_INVERSIONS), strict=False)
    ]
    return lambda: [mibian.BS(arguments, **price).impliedVolatility / 100 for arguments, price in rows]


def _mibian_prices(options: Options) -> Callable[[], list[float]]:
    """A loop over mibian's prices, without its Greeks."""
    rows = [
        ("callPrice" if option[0] else "putPrice", _mibian_arguments(option), volatility * 100)
        for volatility, option in zip(options.volatility.tolist(), options.first(MIBIAN_PRICES), strict=False)
    ]
    return lambda: [
        getattr(mibian.BS(arguments, volatility=volatility, performance=True), side)
        for side, arguments, volatility in rows
    ]


def _mibian_greeks(options: Options) -> Callable[[], list[list[float]]]:
    """A loop over mibian's Greeks, which come with everything else it knows of an option."""
    rows = [
        (_greeks_names(option[0]), _mibian_arguments(option), volatility * 100)
        for volatility, option in zip(options.volatility.tolist(), options.first(MIBIAN_GREEKS), strict=False)
    ]

    def loop() -> list[list[float]]:
        found = []
        for names, arguments, volatility in rows:
            peer = mibian.BS(arguments, volatility=volatility)
            found.append([getattr(peer, name) for name in names])
        return found

    return loop


def _greeks_names(is_call: bool) -> list[str]:
    side = "call" if is_call else "put"
    return [f"{side}Delta", "gamma", f"{side}Theta", "vega", f"{side}Rho"]


def _mibian_arguments(option: Option) -> list[float]:
    """mibian takes the rate in percent and days."""
    _, spot, strike, time, rate = option
    return [spot, strike, rate * 100, time * 365]
