"""The symbols the simulated market knows: everything the demo holds, every factor proxy, and a few more.

What belongs here: one row of parameters per symbol, with the reason beside a number that needs one. What does not:
what a parameter means and what an unknown symbol gets (``parameters``).

Reference prices are the demo's own entry prices where it had one (META had two: the higher is taken, which leaves its
450 put out of the money), rounded market prices of the time elsewhere; the funds and Amazon stand a little lower, so
that the individual portfolio, fully invested otherwise, keeps some cash. None lies so low that a cent is large beside
a day's move. Market loadings are small where a style factor carries the market already: AAPL's slope on the market
alone is 0.30 + 0.45 x 1.17 + 0.30 x 1.35 = 1.23.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from sigmasight_pipeline.demo.parameters import FACTORS, RATE, FirstReport, Kind, Misprint, Split, SymbolParameters

VOLATILITY_INDEX = "VIX"
"""Not a product of betas: its level follows the Volatility factor between bounds (``factors_path``)."""

_TECHNOLOGY = "Technology"
_FINANCE = "Financial Services"
_HEALTH = "Healthcare"
_CYCLICAL = "Consumer Cyclical"
_DEFENSIVE = "Consumer Defensive"
_COMMUNICATION = "Communication Services"
_ENERGY = "Energy"
_INDUSTRIALS = "Industrials"

# what is spread over sectors says so: it belongs to none, which is something else than not being classified
_EQUITY_FUND = "fund:equity"
_INTERNATIONAL_FUND = "fund:international equity"
_BOND_FUND = "fund:bond"
_MONEY_MARKET_FUND = "fund:money market"
_VOLATILITY_FUND = "fund:volatility"
_EQUITY_INDEX = "index:equity"
_VOLATILITY = "index:volatility"

_BLOCK = SymbolParameters(
    "SQ", "stock", "Block", _TECHNOLOGY, "Software - Infrastructure", 74.0, 0.38,
    {"Market": 0.55, "Growth": 0.85}, last_session=date(2025, 1, 17), replaced_by="XYZ",
)  # fmt: skip

# Sectors and industries as data vendors name them. Rate betas: banks gain 2-3 % per 100 bp, growth stocks lose 1-2 %.
_STOCKS: tuple[SymbolParameters, ...] = (
    SymbolParameters(
        "AAPL", "stock", "Apple", _TECHNOLOGY, "Consumer Electronics", 225.0, 0.17,
        {"Market": 0.30, "Growth": 0.45, "Technology": 0.30, RATE: -1.0}, dividend_yield=0.0048,
    ),
    SymbolParameters(
        "MSFT", "stock", "Microsoft", _TECHNOLOGY, "Software - Infrastructure", 420.0, 0.14,
        {"Market": 0.15, "Growth": 0.40, "Technology": 0.40, RATE: -1.0}, dividend_yield=0.0075,
    ),
    SymbolParameters(
        "AMZN", "stock", "Amazon.com", _CYCLICAL, "Internet Retail", 166.0, 0.20,
        {"Market": 0.25, "Growth": 0.70, "Technology": 0.15, RATE: -1.5},
    ),
    SymbolParameters(
        "GOOGL", "stock", "Alphabet", _COMMUNICATION, "Internet Content & Information", 160.0, 0.19,
        {"Market": 0.30, "Growth": 0.45, "Technology": 0.20}, dividend_yield=0.0045,
    ),
    SymbolParameters(
        "META", "stock", "Meta Platforms", _COMMUNICATION, "Internet Content & Information", 530.0, 0.25,
        {"Market": 0.30, "Growth": 0.60, "Technology": 0.20, RATE: -1.5}, dividend_yield=0.0036,
    ),
    # ten for one, as in fact on that date; its 800 call becomes an 80 call
    SymbolParameters(
        "NVDA", "stock", "NVIDIA", _TECHNOLOGY, "Semiconductors", 700.0, 0.33,
        {"Market": 0.30, "Momentum": 0.40, "Technology": 0.75, RATE: -2.0}, dividend_yield=0.0004,
        splits=(Split(date(2024, 6, 10), 10),),
    ),
    SymbolParameters(
        "AMD", "stock", "Advanced Micro Devices", _TECHNOLOGY, "Semiconductors", 162.0, 0.35,
        {"Market": 0.40, "Growth": 0.30, "Technology": 0.75, RATE: -2.0},
    ),
    SymbolParameters(
        "TSLA", "stock", "Tesla", _CYCLICAL, "Auto Manufacturers", 255.0, 0.42,
        {"Market": 0.60, "Growth": 0.90, RATE: -2.0},
    ),
    SymbolParameters(
        "BRK.B", "stock", "Berkshire Hathaway", _FINANCE, "Insurance - Diversified", 440.0, 0.11,
        {"Market": 0.20, "Value": 0.65, RATE: 1.0},
    ),
    SymbolParameters(
        "JPM", "stock", "JPMorgan Chase", _FINANCE, "Banks - Diversified", 170.0, 0.16,
        {"Market": 0.25, "Value": 0.95, RATE: 2.5}, dividend_yield=0.024,
        # the demo's first session: loaded on its evening, and again with what follows it
        first_reports=(FirstReport(date(2024, 1, 2), 1.004, corrected_on=date(2024, 1, 3)),),
    ),
    SymbolParameters(
        "C", "stock", "Citigroup", _FINANCE, "Banks - Diversified", 55.0, 0.21,
        {"Market": 0.45, "Value": 1.00, RATE: 3.0}, dividend_yield=0.038,
    ),
    SymbolParameters(
        "V", "stock", "Visa", _FINANCE, "Credit Services", 268.0, 0.13,
        {"Market": 0.20, "Quality": 0.55, "Low_Volatility": 0.25}, dividend_yield=0.0077,
    ),
    SymbolParameters(
        "JNJ", "stock", "Johnson & Johnson", _HEALTH, "Drug Manufacturers - General", 160.0, 0.13,
        {"Value": 0.25, "Low_Volatility": 0.55, RATE: -0.5}, dividend_yield=0.030,
    ),
    SymbolParameters(
        "UNH", "stock", "UnitedHealth Group", _HEALTH, "Healthcare Plans", 545.0, 0.21,
        {"Value": 0.40, "Low_Volatility": 0.40}, dividend_yield=0.014,
    ),
    SymbolParameters(
        "HD", "stock", "Home Depot", _CYCLICAL, "Home Improvement Retail", 350.0, 0.16,
        {"Market": 0.35, "Quality": 0.40, "Value": 0.30, RATE: -2.5}, dividend_yield=0.025,
    ),
    SymbolParameters(
        "PG", "stock", "Procter & Gamble", _DEFENSIVE, "Household & Personal Products", 165.0, 0.12,
        {"Low_Volatility": 0.75, "Value": 0.05, RATE: -1.0}, dividend_yield=0.024,
    ),
    # the second split of a held symbol, and of a short one; it has no option in the demo
    SymbolParameters(
        "NFLX", "stock", "Netflix", _COMMUNICATION, "Entertainment", 490.0, 0.27,
        {"Market": 0.25, "Growth": 0.80, RATE: -1.0}, splits=(Split(date(2025, 3, 17), 4),),
    ),
    SymbolParameters(
        "SHOP", "stock", "Shopify", _TECHNOLOGY, "Software - Application", 195.0, 0.40,
        {"Market": 0.60, "Growth": 0.90, RATE: -2.5},
    ),
    SymbolParameters(
        "ZM", "stock", "Zoom Communications", _TECHNOLOGY, "Software - Application", 70.0, 0.30,
        {"Market": 0.50, "Growth": 0.40},
    ),
    SymbolParameters(
        "PTON", "stock", "Peloton Interactive", _CYCLICAL, "Leisure", 40.0, 0.50,
        {"Market": 0.70, "Growth": 0.50, "Size": 0.50},
    ),
    SymbolParameters(
        "ROKU", "stock", "Roku", _COMMUNICATION, "Entertainment", 60.0, 0.45,
        {"Market": 0.70, "Growth": 0.80, "Size": 0.20},
    ),
    SymbolParameters(
        "XOM", "stock", "Exxon Mobil", _ENERGY, "Oil & Gas Integrated", 110.0, 0.16,
        {"Value": 0.55, "Oil": 0.35}, dividend_yield=0.034,
    ),
    SymbolParameters(
        "F", "stock", "Ford Motor", _CYCLICAL, "Auto Manufacturers", 12.0, 0.25,
        {"Market": 0.50, "Value": 0.80}, dividend_yield=0.050,
    ),
    SymbolParameters(
        "GE", "stock", "GE Aerospace", _INDUSTRIALS, "Aerospace & Defense", 140.0, 0.21,
        {"Market": 0.50, "Value": 0.30, "Travel": 0.25}, dividend_yield=0.006,
    ),
    # taken over for cash: its price stands still at the last session and no more come
    SymbolParameters(
        "SPLK", "stock", "Splunk", _TECHNOLOGY, "Software - Infrastructure", 152.0, 0.12,
        {"Market": 0.10, "Technology": 0.10}, last_session=date(2024, 3, 15),
    ),
    # young: it began to trade on that day in fact, too; its contracts change hands without quotes. The negative volume
    # is one a vendor served for a session of its own.
    SymbolParameters(
        "RDDT", "stock", "Reddit", _COMMUNICATION, "Internet Content & Information", 52.0, 0.48,
        {"Market": 0.50, "Growth": 0.80}, first_session=date(2024, 3, 21), options_quoted=False,
        misprints=(Misprint(date(2024, 8, 20), negative_volume=True),),
    ),
    # thinly traded: two weeks without a close, and one close with its decimal point in the wrong place
    SymbolParameters(
        "CRAWA", "stock", "Crawford United", _INDUSTRIALS, "Specialty Industrial Machinery", 34.0, 0.30,
        {"Size": 0.40, "Value": 0.20}, gap=(date(2024, 10, 7), date(2024, 10, 18)),
        misprints=(Misprint(date(2024, 8, 14), close_factor=10.0),),
    ),
    # renamed on 2025-01-21, as in fact
    _BLOCK,
    replace(
        _BLOCK, symbol="XYZ", continues="SQ", first_session=date(2025, 1, 21), last_session=None, replaced_by=None,
    ),
)  # fmt: skip

# Durations in years as published for the funds. A bond fund's return is its yield less duration x change of the
# 10-year yield, plus specific noise of a few basis points a day: rate beta near minus duration, no market beta.
_BOND_CARRY = 0.042


def _bond_fund(symbol: str, kind: Kind, name: str, price: float, duration: float) -> SymbolParameters:
    return SymbolParameters(
        symbol, kind, name, _BOND_FUND, None, price, 0.006, {RATE: -duration},
        alpha=_BOND_CARRY, duration=duration, dividend_yield=0.036, dividends_per_year=12,
    )  # fmt: skip


# Funds and ETFs other than proxies follow factors with little noise of their own.
_FUNDS: tuple[SymbolParameters, ...] = (
    _bond_fund("FXNAX", "fund", "Fidelity U.S. Bond Index Fund", 19.80, 6.0),
    _bond_fund("BND", "etf", "Vanguard Total Bond Market ETF", 73.50, 6.0),
    _bond_fund("AGG", "etf", "iShares Core U.S. Aggregate Bond ETF", 98.90, 6.0),
    _bond_fund("IEF", "etf", "iShares 7-10 Year Treasury Bond ETF", 96.00, 7.2),
    _bond_fund("TLT", "etf", "iShares 20+ Year Treasury Bond ETF", 98.50, 16.5),
    SymbolParameters(
        "FCNTX", "fund", "Fidelity Contrafund", _EQUITY_FUND, None, 14.85, 0.035,
        {"Market": 0.30, "Growth": 0.60}, dividend_yield=0.030, dividends_per_year=1,
    ),
    SymbolParameters(
        "FMAGX", "fund", "Fidelity Magellan Fund", _EQUITY_FUND, None, 14.70, 0.045,
        {"Market": 0.25, "Growth": 0.65}, dividend_yield=0.030, dividends_per_year=1,
    ),
    SymbolParameters(
        "VTIAX", "fund", "Vanguard Total International Stock Index Fund", _INTERNATIONAL_FUND, None, 30.0, 0.035,
        {"Market": 0.15, "Europe": 0.50, "Emerging_Markets": 0.25, "China": 0.03}, dividend_yield=0.029,
    ),
    # one dollar a unit on every day; what it earns is paid out and reinvested by its holders, outside of its price
    SymbolParameters("SPAXX", "fund", "Fidelity Government Money Market Fund", _MONEY_MARKET_FUND, None, 1.0, 0.0, {}),
    # loses what the market gains in a session
    SymbolParameters("SH", "etf", "ProShares Short S&P500", _EQUITY_FUND, None, 12.5, 0.006, {"Market": -1.0}),
    SymbolParameters(
        "VTI", "etf", "Vanguard Total Stock Market ETF", _EQUITY_FUND, None, 237.0, 0.008,
        {"Market": 0.88, "Size": 0.12}, dividend_yield=0.014,
    ),
    SymbolParameters(
        "QQQ", "etf", "Invesco QQQ Trust", _EQUITY_FUND, None, 420.0, 0.030,
        {"Market": 0.15, "Growth": 0.50, "Technology": 0.30}, dividend_yield=0.006,
    ),
    SymbolParameters(
        "VNQ", "etf", "Vanguard Real Estate ETF", "Real Estate", "REIT - Diversified", 88.0, 0.09,
        {"Value": 0.50, "Low_Volatility": 0.50, RATE: -4.5}, dividend_yield=0.039,
    ),
    # a thinly traded note: one week without a close shows what stale prices look like
    SymbolParameters(
        "DJP", "etf", "iPath Bloomberg Commodity Index Total Return ETN", "Commodities", "Commodities", 30.0, 0.08,
        {"Market": 0.05, "Oil": 0.28, "Gold": 0.25, "Emerging_Markets": 0.10},
        gap=(date(2024, 9, 9), date(2024, 9, 13)),
    ),
    SymbolParameters(
        "IWM", "etf", "iShares Russell 2000 ETF", _EQUITY_FUND, None, 199.0, 0.06, {"Size": 1.18}, dividend_yield=0.013,
    ),
    SymbolParameters(
        "SPLV", "etf", "Invesco S&P 500 Low Volatility ETF", _EQUITY_FUND, None, 62.0, 0.04,
        {"Low_Volatility": 1.0, RATE: -1.0}, dividend_yield=0.022,
    ),
    # an index has no dividends: SPY's return less its payout
    SymbolParameters("SPX", "index", "S&P 500 Index", _EQUITY_INDEX, None, 5300.0, 0.0, {"Market": 1.0}, alpha=-0.013),
    # its volatility serves for the range of its days only
    SymbolParameters(VOLATILITY_INDEX, "index", "CBOE Volatility Index", _VOLATILITY, None, 14.0, 1.1, {}),
)  # fmt: skip

# name, sector, reference price, dividend yield, payments a year of each factor's proxy
_PROXIES: Mapping[str, tuple[str, str, float, float, int]] = {
    "SPY": ("SPDR S&P 500 ETF Trust", _EQUITY_FUND, 530.00, 0.013, 4),
    "VTV": ("Vanguard Value ETF", _EQUITY_FUND, 150.00, 0.024, 4),
    "VUG": ("Vanguard Growth ETF", _EQUITY_FUND, 308.00, 0.006, 4),
    "MTUM": ("iShares MSCI USA Momentum Factor ETF", _EQUITY_FUND, 156.00, 0.009, 4),
    "QUAL": ("iShares MSCI USA Quality Factor ETF", _EQUITY_FUND, 146.00, 0.012, 4),
    "SIZE": ("iShares MSCI USA Size Factor ETF", _EQUITY_FUND, 132.00, 0.016, 4),
    "USMV": ("iShares MSCI USA Min Vol Factor ETF", _EQUITY_FUND, 78.50, 0.018, 4),
    "USO": ("United States Oil Fund", "Energy", 67.50, 0.0, 0),
    "GLD": ("SPDR Gold Shares", "Commodities", 219.00, 0.0, 0),
    "EWG": ("iShares MSCI Germany ETF", _INTERNATIONAL_FUND, 29.50, 0.027, 1),
    "EEM": ("iShares MSCI Emerging Markets ETF", _INTERNATIONAL_FUND, 40.00, 0.026, 1),
    "FXI": ("iShares China Large-Cap ETF", _INTERNATIONAL_FUND, 32.00, 0.025, 1),
    # loses a fifth a year, as the roll of volatility futures does; starts high enough to stay above a few dollars
    "VIXY": ("ProShares VIX Short-Term Futures ETF", _VOLATILITY_FUND, 60.00, 0.0, 0),
    # high yield reacts to rates through its correlation with them (beta near -2), not by its duration: none is given
    "HYG": ("iShares iBoxx High Yield Corporate Bond ETF", _BOND_FUND, 77.00, 0.057, 12),
    "XLK": ("Technology Select Sector SPDR Fund", "Technology", 192.00, 0.007, 4),
    "JETS": ("U.S. Global Jets ETF", "Industrials", 25.00, 0.0, 0),
}


def _proxy(factor: str, symbol: str) -> SymbolParameters:
    name, sector, price, payout, payments = _PROXIES[symbol]
    return SymbolParameters(
        symbol, "etf", name, sector, None, price, 0.0, {factor: 1.0},
        dividend_yield=payout, dividends_per_year=payments,
    )  # fmt: skip


UNIVERSE: Mapping[str, SymbolParameters] = {
    row.symbol: row
    for row in (
        *_STOCKS,
        *_FUNDS,
        *(_proxy(factor.key, factor.proxy) for factor in FACTORS if factor.proxy is not None),
    )
}
"""Parameters by symbol."""
