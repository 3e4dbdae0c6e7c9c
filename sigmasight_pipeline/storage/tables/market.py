"""Market data tables: what was observed, session by session, as traded.

What belongs here: prices, actions, yields and returns, and the rows that were revised or refused. What does not:
anything that depends on a portfolio.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Table

from .columns import code, count, day, document, instant, metadata, price, provenance, session_key, stat

TENORS = ("1M", "3M", "6M", "1Y", "2Y", "5Y", "10Y", "30Y")

daily_prices = Table(
    "daily_prices",
    metadata,
    session_key(),
    code("symbol", "Canonical symbol", primary_key=True),
    price("open", "Opening price as traded, US dollars", nullable=True, gt=0),
    price("high", "Highest price as traded, US dollars", nullable=True, gt=0),
    price("low", "Lowest price as traded, US dollars", nullable=True, gt=0),
    price("close", "Closing price as traded (never adjusted), US dollars", gt=0),
    stat("volume", "Shares traded", ge=0),
    code("source", "Source the row came from"),
    instant("fetched_at", "When the row was fetched"),
    Index("daily_prices_symbol_session", "symbol", "session_date"),
    comment="One row per symbol and session that has a close: prices as traded, unadjusted.",
)

daily_price_revisions = Table(
    "daily_price_revisions",
    metadata,
    Column("revision_id", BigInteger, Identity(), primary_key=True, comment="Identifier given by the database"),
    day("session_date", "Session of the replaced row"),
    code("symbol", "Symbol of the replaced row"),
    price("open", "Replaced opening price", nullable=True),
    price("high", "Replaced high", nullable=True),
    price("low", "Replaced low", nullable=True),
    price("close", "Replaced close"),
    stat("volume", "Replaced volume"),
    code("source", "Source of the replaced row"),
    instant("fetched_at", "When the replaced row had been fetched"),
    instant("replaced_at", "When it was replaced"),
    code("replaced_by_source", "Source of the row that replaced it"),
    Index("daily_price_revisions_symbol_session", "symbol", "session_date"),
    comment="One row per price that a later, different value replaced.",
)

rejected_prices = Table(
    "rejected_prices",
    metadata,
    Column("rejection_id", BigInteger, Identity(), primary_key=True, comment="Identifier given by the database"),
    day("session_date", "Session the row was for, where it could be read", nullable=True),
    code("symbol", "Symbol as received", nullable=True),
    code("reason", "Why it was refused (closed list)"),
    document("received", "The row as received", nullable=False),
    code("source", "Source the row came from"),
    instant("rejected_at", "When it was refused"),
    code(
        "status",
        "quarantined (may be confirmed), accepted (by a person, stored by the next run), confirmed, or rejected",
        isin=("quarantined", "accepted", "confirmed", "rejected"),
    ),
    Index("rejected_prices_symbol_session", "symbol", "session_date"),
    comment="One row per received price that was not stored, with the reason.",
)

corporate_actions = Table(
    "corporate_actions",
    metadata,
    code("symbol", "Canonical symbol", primary_key=True),
    day("ex_date", "First session the price trades without it", primary_key=True),
    Column(
        "kind",
        code("kind", "").type,
        primary_key=True,
        comment="split or dividend",
        info={"isin": ("split", "dividend")},
    ),
    price("split_from", "Old shares", nullable=True, gt=0),
    price("split_to", "New shares for them", nullable=True, gt=0),
    price("cash_amount", "Cash dividend per old share, US dollars", nullable=True, gt=0),
    day("pay_date", "Payment date (information only)", nullable=True),
    code("source", "Source the row came from"),
    Index("corporate_actions_ex_date", "ex_date"),
    comment="One row per split or cash dividend by symbol and ex-date.",
)

daily_returns = Table(
    "daily_returns",
    metadata,
    session_key(),
    code("symbol", "Canonical symbol", primary_key=True),
    stat("simple_return", "Total return since the previous close, decimal", nullable=False, ge=-1),
    stat("log_return", "Logarithm of one plus the simple return", nullable=False),
    count("sessions_spanned", "Sessions since the previous close; above 1 the return bridges a gap", ge=1),
    *provenance(),
    Index("daily_returns_symbol_session", "symbol", "session_date"),
    comment="One row per symbol and session with a close and an earlier one: total return, dividends and splits in.",
)

treasury_yields = Table(
    "treasury_yields",
    metadata,
    session_key(),
    Column(
        "tenor",
        code("tenor", "").type,
        primary_key=True,
        comment="1M 3M 6M 1Y 2Y 5Y 10Y 30Y",
        info={"isin": TENORS},
    ),
    stat("yield", "Par yield, decimal (0.045 is 4.5 %)", nullable=False, ge=-0.05, le=0.30),
    day("observed_date", "Date it was observed; earlier than the session when carried forward"),
    code("source", "Source the row came from"),
    comment="One row per session and tenor of the Treasury par yield curve.",
)

option_prices = Table(
    "option_prices",
    metadata,
    session_key(),
    code("symbol", "Compact OCC symbol as quoted on the session", primary_key=True),
    price("close", "Closing price per underlying unit, US dollars", nullable=True, gt=0),
    price("bid", "Closing bid", nullable=True, ge=0),
    price("ask", "Closing ask", nullable=True, ge=0),
    stat("implied_volatility", "Implied volatility as given by the source, decimal", gt=0),
    stat("open_interest", "Contracts outstanding", ge=0),
    code("source", "Source the row came from"),
    Index("option_prices_symbol_session", "symbol", "session_date"),
    comment="One row per option contract and session with a quote.",
)
