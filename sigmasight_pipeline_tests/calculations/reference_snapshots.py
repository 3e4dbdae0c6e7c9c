"""The rules of exposures and snapshots written a second time, one portfolio and one session after the other.

What belongs here: an oracle in plain Python over rows of ``position_values``. Money is exact; returns are products of
exact fractions since inception, so they differ from compounded doubles by rounding only. What does not: speed, and
code shared with the engines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from fractions import Fraction
from typing import Any

Row = dict[str, Any]

EXITS = {"exit", "settlement", "settlement_unpriced"}


def exposures(rows: Iterable[Row], positions: dict[int, Row]) -> Row:
    """The row of ``portfolio_exposures`` of one portfolio and session, without keys and Greeks."""
    held = [row for row in rows if row["price_source"] not in EXITS]
    exposure = [Fraction(row["exposure"]) for row in held]
    kinds = [positions[row["position_id"]]["investment_class"] for row in held]
    sides = [positions[row["position_id"]]["quantity"] > 0 for row in held]

    def gross(kind: str) -> Fraction:
        return sum((abs(value) for value, own in zip(exposure, kinds, strict=True) if own == kind), Fraction(0))

    long = sum((value for value in exposure if value > 0), Fraction(0))
    short = sum((value for value in exposure if value < 0), Fraction(0))
    notionals = [row["notional"] for row in held]
    return {
        "long_exposure": long,
        "short_exposure": short,
        "gross_exposure": long - short,
        "net_exposure": long + short,
        "stock_exposure": gross("PUBLIC"),
        "option_exposure": gross("OPTIONS"),
        "private_exposure": gross("PRIVATE"),
        "notional": None if None in notionals else sum(map(Fraction, notionals), Fraction(0)),
        "position_count": len(held),
        "long_count": sum(sides),
        "short_count": len(sides) - sum(sides),
        "option_count": kinds.count("OPTIONS"),
        "stock_count": kinds.count("PUBLIC"),
        "private_count": kinds.count("PRIVATE"),
    }


def concentration(amounts: Iterable[tuple[str, Fraction]]) -> Row:
    """The concentration columns of ``portfolio_exposures``, of companies and delta-adjusted exposures."""
    by_company: dict[str, Fraction] = defaultdict(Fraction)
    for company, amount in amounts:
        by_company[company] += amount
    sizes = sorted((abs(value) for value in by_company.values()), reverse=True)
    total = sum(sizes)
    shares = [size / total for size in sizes] if total else []
    hhi = sum(share * share for share in shares) if total else None
    return {
        "hhi": hhi,
        "effective_positions": 1 / hhi if hhi else None,
        "top_1_weight": sum(shares[:1]) if total else None,
        "top_3_weight": sum(shares[:3]) if total else None,
        "top_10_weight": sum(shares[:10]) if total else None,
        "concentration_status": "ok" if total else "no_exposure",
    }


def snapshots(
    sessions: list[date], portfolio: Row, values: dict[date, list[Row]], flows: dict[date, Fraction]
) -> dict[date, Row]:
    """Rows of ``portfolio_snapshots`` of one portfolio at `sessions` (all since its inception), by session.

    `values` are its rows of ``position_values`` by session, `flows` its cash flows by session.
    """
    result: dict[date, Row] = {}
    nav = cash = Fraction(portfolio["initial_equity"])
    pnl_of: dict[date, Fraction] = {}
    return_of: dict[date, Fraction | None] = {}
    high: Fraction | None = Fraction(1)
    for number, session in enumerate(sessions):
        rows = values.get(session, [])
        pnl = sum((Fraction(row["daily_pnl"]) for row in rows), Fraction(0))
        flow = flows.get(session, Fraction(0)) if number else Fraction(0)
        base = nav + flow
        nav, cash = base + pnl, cash + flow + sum(Fraction(row["cash_effect"]) for row in rows)
        pnl_of[session] = pnl
        return_of[session] = pnl / base if base > 0 else None

        def since(first: date, last: date = session) -> tuple[Fraction, Fraction | None]:
            days = [day for day in pnl_of if first <= day <= last]
            growth: Fraction | None = Fraction(1)
            for day in days:
                daily = return_of[day]
                growth = None if growth is None or daily is None else growth * (1 + daily)
            return sum((pnl_of[day] for day in days), Fraction(0)), None if growth is None else growth - 1

        total_pnl, total = since(date.min)
        mtd = since(session.replace(day=1))
        qtd = since(session.replace(month=3 * ((session.month - 1) // 3) + 1, day=1))
        ytd = since(session.replace(month=1, day=1))
        high = None if high is None or total is None else max(high, 1 + total)
        gross = sum(abs(Fraction(row["exposure"])) for row in rows)
        held = [row for row in rows if row["price_source"] not in EXITS]
        result[session] = {
            "net_asset_value": nav,
            "cash_balance": cash,
            "market_value": sum((Fraction(row["market_value"]) for row in rows), Fraction(0)),
            "daily_pnl": pnl,
            "realized_pnl": sum((Fraction(row["realized_pnl"]) for row in rows), Fraction(0)),
            "dividend_income": sum((Fraction(row["dividend_pnl"]) for row in rows), Fraction(0)),
            "net_cash_flow": flow,
            "daily_return": return_of[session],
            "cumulative_pnl": total_pnl,
            "cumulative_return": total,
            "mtd_pnl": mtd[0],
            "mtd_return": mtd[1],
            "qtd_pnl": qtd[0],
            "qtd_return": qtd[1],
            "ytd_pnl": ytd[0],
            "ytd_return": ytd[1],
            "high_water_mark": high,
            "drawdown": None if high is None or total is None else (1 + total) / high - 1,
            "leverage": gross / nav if nav > 0 else None,
            "return_status": "no_base" if base <= 0 else "broken_index" if total is None else "ok",
            "stale_positions": sum(row["stale"] for row in held),
            "unpriced_positions": sum(row["price_source"] == "entry_price" for row in held),
            "model_priced_positions": sum(row["price_source"] == "model" for row in held),
            "is_first": number == 0,
        }
    return result
