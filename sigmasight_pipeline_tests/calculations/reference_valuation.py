"""The rules of position values written a second time, one position and one session after the other.

What belongs here: an oracle in plain Python (dicts, loops, Fractions) that shares no code with the engines and follows
the specification's sentences. What does not: speed, and anything the engines would have to agree on by construction.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from fractions import Fraction
from typing import Any

import polars as pl

Row = dict[str, Any]

CENT = Fraction(1, 100)
MICRO = Fraction(1, 1_000_000)


def half_even(value: Fraction, unit: Fraction) -> Fraction:
    """`value` rounded to a whole number of `unit`, ties to the even one."""
    whole, rest = divmod(value / unit, 1)
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1)
    return (whole + up) * unit


class ReferenceValuation:
    """Every column of ``position_values`` for any session, from the frames the engine gets."""

    def __init__(self, frames: dict[str, pl.DataFrame], *, max_stale_sessions: int, max_mark_age: int) -> None:
        rows = {name: list(frame.iter_rows(named=True)) for name, frame in frames.items()}
        self.open = sorted(row["session_date"] for row in rows["calendar"] if not row["is_closed"])
        self.portfolios = {row["portfolio_id"]: row for row in rows["portfolios"] if row["active"]}
        self.positions = sorted(rows["positions"], key=lambda row: row["position_id"])
        self.links = {
            row["symbol"]: (row["last_session"], row["replaced_by"])
            for row in rows["instruments"]
            if row["last_session"] and row["replaced_by"]
        }
        self.closes: dict[str, dict[date, Fraction]] = defaultdict(dict)
        for row in rows["prices"]:
            self.closes[row["symbol"]][row["session_date"]] = Fraction(row["close"])
        self.quotes: dict[str, dict[date, Fraction]] = defaultdict(dict)
        for row in rows["option_prices"]:
            if row["close"] is not None:
                self.quotes[row["symbol"]][row["session_date"]] = Fraction(row["close"])
        self.actions: dict[str, list[Row]] = defaultdict(list)
        for row in rows["actions"]:
            self.actions[row["symbol"]].append(row)
        self.marks: dict[int, dict[date, Fraction]] = defaultdict(dict)
        for row in rows["marks"]:
            self.marks[row["position_id"]][row["session_date"]] = Fraction(row["price"])
        self.model = {
            (row["contract"], row["session_date"]): row["model_price"]
            for row in rows["option_model"]
            if row["model_price"] is not None
        }
        self.max_stale_sessions, self.max_mark_age = max_stale_sessions, max_mark_age

    # -- the calendar ---------------------------------------------------------------------------------------------

    def session_of(self, day: date) -> date | None:
        """The session a date belongs to: itself or the next; a date before the first stored session stays."""
        if day < self.open[0]:
            return day
        return next((session for session in self.open if session >= day), None)

    def age(self, observed: date, at: date) -> int:
        return sum(1 for session in self.open if observed < session <= at)

    # -- symbols, splits, dividends -------------------------------------------------------------------------------

    def chain(self, symbol: str) -> list[tuple[str, date, date]]:
        """(symbol, after, through): whose rows count as `symbol`'s in which stretch of time."""
        stretches, after, seen = [], date.min, {symbol}
        while symbol in self.links and self.links[symbol][1] not in seen:
            last, following = self.links[symbol]
            stretches.append((symbol, after, last))
            after, symbol = max(after, last), following
            seen.add(symbol)
        return [*stretches, (symbol, after, date.max)]

    def close_series(self, symbol: str) -> dict[date, Fraction]:
        return {
            day: price
            for name, after, through in self.chain(symbol)
            for day, price in self.closes[name].items()
            if after < day <= through
        }

    def events(self, symbol: str, kind: str) -> list[tuple[date, Row]]:
        found = []
        for name, after, through in self.chain(symbol):
            for row in self.actions[name]:
                if row["kind"] == kind and after < row["ex_date"] <= through:
                    moved = self.session_of(row["ex_date"])
                    if moved is not None:
                        found.append((moved, row))
        return sorted(found, key=lambda item: (item[0], item[1]["ex_date"]))

    def ratio(self, symbol: str | None, after: date, through: date) -> Fraction:
        """New shares per old share from `after` to `through`; the reciprocal where `through` comes first."""
        if symbol is None:
            return Fraction(1)
        if through < after:
            return 1 / self.ratio(symbol, through, after)
        product = Fraction(1)
        for ex_date, row in self.events(symbol, "split"):
            if after < ex_date <= through:
                product *= Fraction(row["split_to"]) / Fraction(row["split_from"])
        return product

    # -- positions ------------------------------------------------------------------------------------------------

    def life(self, position: Row) -> tuple[date, date, date | None, bool, bool] | None:
        """(anchor, first row, exit or None, brought in, exit is a settlement); None without any row."""
        inception = self.session_of(self.portfolios[position["portfolio_id"]]["inception_date"])
        entry = self.session_of(position["entry_date"])
        if inception is None or entry is None:
            return None
        anchor, inception = max(entry, self.open[0]), max(inception, self.open[0])
        brought_in = entry < inception or position["entry_date"] < self.open[0]
        exit_session = self.session_of(position["exit_date"]) if position["exit_date"] else None
        settles = False
        expiration = position["expiration_date"]
        if position["investment_class"] == "OPTIONS" and expiration <= self.open[-1]:
            expiry = max((session for session in self.open if session <= expiration), default=date.min)
            if exit_session is None or expiry < exit_session:
                exit_session, settles = expiry, True
        first = max(anchor, inception)
        if exit_session is not None and exit_session < first:
            return None
        return anchor, first, exit_session, brought_in, settles

    def split_symbol(self, position: Row) -> str | None:
        symbol: str | None = {
            "PUBLIC": position["symbol"],
            "OPTIONS": position["underlying_symbol"],
            "PRIVATE": None,
        }[position["investment_class"]]
        return symbol

    def occ(self, position: Row, ratio: Fraction) -> str:
        symbol: str = position["symbol"]
        if ratio == 1:
            return symbol
        strike = half_even(Fraction(int(symbol[-8:]), 1000) / ratio, Fraction(1, 1000))
        return f"{symbol[:-8]}{int(strike * 1000):08d}"

    def own_series(self, position: Row, anchor: date) -> dict[date, Fraction]:
        """Observed prices of the position itself: closes, closes under the day's OCC symbol, or marks."""
        if position["investment_class"] == "PUBLIC":
            return self.close_series(position["symbol"])
        if position["investment_class"] == "PRIVATE":
            return self.marks[position["position_id"]]
        under = position["underlying_symbol"]
        return {
            day: price
            for symbol, series in self.quotes.items()
            for day, price in series.items()
            if symbol == self.occ(position, self.ratio(under, anchor, day))
        }

    def model_price(self, position: Row, anchor: date, session: date) -> Fraction | None:
        under = position["underlying_symbol"]
        strike = Fraction(position["strike_price"]) * self.ratio(under, date.min, anchor)
        contract = f"{under} {position['expiration_date']} {position['option_kind']} {strike}"
        price = self.model.get((contract, session))
        return None if price is None else half_even(Fraction(round(price * 1e6), 10**6), MICRO)

    def last(
        self, series: dict[date, Fraction], session: date, split_symbol: str | None
    ) -> tuple[Fraction, date] | None:
        days = [day for day in series if day <= session]
        if not days:
            return None
        return series[max(days)] / self.ratio(split_symbol, max(days), session), max(days)

    def intrinsic(self, position: Row, anchor: date, session: date, spot: Fraction) -> Fraction:
        strike = Fraction(position["strike_price"]) / self.ratio(position["underlying_symbol"], anchor, session)
        return max(Fraction(0), spot - strike if position["option_kind"] == "C" else strike - spot)

    def price(self, position: Row, anchor: date, session: date) -> tuple[Fraction, str, date | None]:
        """Unrounded price, its source, and when it was observed, of a position held at `session`."""
        split_symbol = self.split_symbol(position)
        own = self.last(self.own_series(position, anchor), session, split_symbol)
        entry = Fraction(position["entry_price"]) / self.ratio(split_symbol, anchor, session)
        unpriced = entry, "entry_price", None
        if position["investment_class"] == "PRIVATE":
            return (own[0], "mark", own[1]) if own else unpriced
        if own and own[1] == session:
            return own[0], "market", session
        if position["investment_class"] == "PUBLIC":
            return (own[0], "carried", own[1]) if own else unpriced
        under = self.last(self.close_series(position["underlying_symbol"]), session, split_symbol)
        model = self.model_price(position, anchor, session)
        if model is not None and under:
            return model, "model", under[1]
        if own:
            return own[0], "carried", own[1]
        return (self.intrinsic(position, anchor, session, under[0]), "intrinsic", under[1]) if under else unpriced

    def settlement(self, position: Row, anchor: date, session: date) -> tuple[Fraction, str, date | None]:
        under_symbol = position["underlying_symbol"]
        under = self.last(self.close_series(under_symbol), session, under_symbol)
        if under and self.age(under[1], session) <= self.max_stale_sessions:
            return self.intrinsic(position, anchor, session, under[0]), "settlement", under[1]
        own = self.last(self.own_series(position, anchor), session, under_symbol)
        return (own[0], "settlement_unpriced", own[1]) if own else (Fraction(0), "settlement_unpriced", None)

    def value(self, position: Row, anchor: date, session: date, price: Fraction) -> Fraction:
        ratio = self.ratio(self.split_symbol(position), anchor, session)
        quantity = Fraction(position["quantity"]) * ratio
        return half_even(quantity * price * Fraction(position["multiplier"]), CENT)

    def dividends(self, position: Row, anchor: date, session: date) -> list[tuple[date, Fraction]]:
        """(ex-session, cents rounded) of every dividend from entry through `session`."""
        if position["investment_class"] != "PUBLIC":
            return []
        found = []
        for ex_date, row in self.events(position["symbol"], "dividend"):
            if anchor < ex_date <= session:
                before = max(day for day in self.open if day < ex_date)
                quantity = Fraction(position["quantity"]) * self.ratio(position["symbol"], anchor, before)
                found.append((ex_date, half_even(quantity * Fraction(row["cash_amount"]), CENT)))
        return found

    # -- rows -----------------------------------------------------------------------------------------------------

    def row(self, position: Row, session: date) -> Row | None:
        life = self.life(position) if position["portfolio_id"] in self.portfolios else None
        if life is None:
            return None
        anchor, first, exit_session, brought_in, settles = life
        if not first <= session <= (exit_session or date.max):
            return None
        split_symbol = self.split_symbol(position)
        ratio = self.ratio(split_symbol, anchor, session)
        is_exit, is_first = session == exit_session, session == first
        cost = half_even(
            Fraction(position["quantity"]) * Fraction(position["entry_price"]) * Fraction(position["multiplier"]), CENT
        )
        if not is_exit:
            price, source, observed = self.price(position, anchor, session)
        elif settles:
            price, source, observed = self.settlement(position, anchor, session)
        else:
            price, source, observed = Fraction(position["exit_price"]), "exit", session
        amount = self.value(position, anchor, session, price)
        value, proceeds = (Fraction(0), amount) if is_exit else (amount, Fraction(0))
        paid = self.dividends(position, anchor, session)
        dividend = Fraction(0) if is_first else sum((cash for ex, cash in paid if ex == session), Fraction(0))
        if is_first and brought_in:
            daily, cash = Fraction(0), Fraction(0) - value
        elif is_first:
            daily, cash = value + proceeds - cost, proceeds - cost
        else:
            before = max(day for day in self.open if day < session)
            value_before = self.value(position, anchor, before, self.price(position, anchor, before)[0])
            daily, cash = value + proceeds - value_before + dividend, proceeds + dividend
        age = None if observed is None else self.age(observed, session)
        limit = self.max_mark_age if position["investment_class"] == "PRIVATE" else self.max_stale_sessions
        notional: Fraction | None = abs(value)
        if position["investment_class"] == "OPTIONS" and not is_exit:
            under = self.last(self.close_series(position["underlying_symbol"]), session, split_symbol)
            notional = abs(self.value(position, anchor, session, under[0])) if under else None
        return {
            "session_date": session,
            "position_id": position["position_id"],
            "portfolio_id": position["portfolio_id"],
            "symbol": self.occ(position, ratio) if position["investment_class"] == "OPTIONS" else position["symbol"],
            "quantity": Fraction(0) if is_exit else half_even(Fraction(position["quantity"]) * ratio, MICRO),
            "entry_price": half_even(Fraction(position["entry_price"]) / ratio, MICRO),
            "price": half_even(price, MICRO),
            "price_source": source,
            "price_date": observed,
            "stale_sessions": age,
            "stale": age is not None and age > limit,
            "market_value": value,
            "exposure": value,
            "notional": notional,
            "cost_basis": Fraction(0) if is_exit else cost,
            "unrealized_pnl": Fraction(0) if is_exit else value - cost,
            "daily_pnl": daily,
            "realized_pnl": proceeds - cost if is_exit else Fraction(0),
            "dividend_pnl": dividend,
            "total_pnl": (proceeds if is_exit else value) - cost + sum(cash for _, cash in paid),
            "cash_effect": cash,
        }

    def rows(self, sessions: list[date]) -> list[Row]:
        """Rows of the open ones of `sessions`, by session and position, with weights."""
        result = []
        for session in sorted(set(sessions) & set(self.open)):
            found = [row for position in self.positions if (row := self.row(position, session))]
            for row in found:
                mates = [other for other in found if other["portfolio_id"] == row["portfolio_id"]]
                gross = sum(abs(other["market_value"]) for other in mates)
                row["weight"] = float(row["market_value"] / gross) if gross else None
            result += found
        return result
