"""Reference tables: portfolios and what they hold, instruments, factors, sessions. Not partitioned.

What belongs here: facts that are stated (imported, configured), not computed from prices. What does not: market data
and results.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, Table, UniqueConstraint

from .columns import code, count, day, document, flag, instant, metadata, money, price, session_key, stat

POSITION_TYPES = ("LONG", "SHORT", "LC", "LP", "SC", "SP")
INVESTMENT_CLASSES = ("PUBLIC", "OPTIONS", "PRIVATE")
INSTRUMENT_KINDS = ("stock", "etf", "fund", "index", "option", "private")
EXERCISE_STYLES = ("american", "european")
SCENARIO_CATEGORIES = (
    "market",
    "rates",
    "commodity",
    "international",
    "rotation",
    "combined",
    "volatility",
    "historical",
    "replay",
)
SCENARIO_SEVERITIES = ("mild", "base", "moderate", "severe", "extreme")
SCENARIO_KINDS = ("vector", "replay", "worst")
"""Stated shocks; what really happened between two dates; what happened in the market's worst stretch so far."""

SCENARIO_CONFIDENCES = ("noisy", "exact")
"""Stated shocks may be pulled towards what the others make likely, or are honoured to the digit."""

FACTOR_KINDS = ("style", "shock_only", "rate", "characteristic")
FLOW_KINDS = ("contribution", "withdrawal")

portfolios = Table(
    "portfolios",
    metadata,
    Column("portfolio_id", BigInteger, Identity(), primary_key=True, comment="Identifier given by the database"),
    code("code", "Short unique name used on the command line and in file names"),
    code("name", "Name shown to people; unique"),
    code("description", "What the portfolio is", nullable=True),
    code("base_currency", "Currency of every amount (USD)"),
    code("benchmark_symbol", "Symbol returns are compared with"),
    day("inception_date", "First session with results; opening positions are brought in at its close"),
    money("initial_equity", "Equity at inception, US dollars", gt=0),
    money("opening_cash", "Initial equity less the opening value of positions brought in", nullable=True),
    money("equity_balance", "Net asset value of the newest snapshot", nullable=True),
    day("equity_as_of", "Session of the newest snapshot", nullable=True),
    flag("active", "Whether the portfolio is open: no closing_date is stated", default="true"),
    day("closing_date", "Last session with results of a closed portfolio; NULL while it is open", nullable=True),
    UniqueConstraint("code", name="portfolios_code_key"),
    UniqueConstraint("name", name="portfolios_name_key"),
    comment="One row per portfolio: equity at inception and, kept by portfolio_snapshots, newest net asset value.",
)

positions = Table(
    "positions",
    metadata,
    Column("position_id", BigInteger, Identity(), primary_key=True, comment="Identifier given by the database"),
    Column(
        "portfolio_id",
        BigInteger,
        ForeignKey("sigmasight.portfolios.portfolio_id", ondelete="CASCADE"),
        nullable=False,
        comment="Portfolio that holds the position",
    ),
    code("symbol", "Canonical symbol; compact OCC symbol for an option"),
    code("lot", "Lot name; distinguishes several entries of one symbol on one session"),
    code("position_type", "LONG, SHORT, or long/short call/put", isin=POSITION_TYPES),
    code("investment_class", "PUBLIC, OPTIONS or PRIVATE (valued by marks)", isin=INVESTMENT_CLASSES),
    code("investment_subtype", "Finer class as given", nullable=True),
    price("quantity", "Signed quantity as traded on the entry date (long > 0, short < 0)"),
    price("multiplier", "Underlying units per unit of quantity: 100 for options, else 1", gt=0),
    price("entry_price", "Price per unit as traded on the entry date, US dollars", gt=0),
    day("entry_date", "Session of entry"),
    price("exit_price", "Price per unit at exit, US dollars", nullable=True, gt=0),
    day("exit_date", "Session of exit; NULL while open", nullable=True),
    code("underlying_symbol", "Underlying of an option", nullable=True),
    code("option_kind", "C (call) or P (put)", nullable=True, isin=("C", "P")),
    price("strike_price", "Strike as of entry, US dollars", nullable=True, gt=0),
    day("expiration_date", "Expiration date of an option", nullable=True),
    code("notes", "Free text", nullable=True),
    code("source_file", "File the row came from", nullable=True),
    count("source_line", "Line of that file", nullable=True),
    UniqueConstraint("portfolio_id", "symbol", "entry_date", "lot", name="positions_natural_key"),
    comment="One row per position lot as imported: what was bought or sold, when and at what price.",
)

tags = Table(
    "tags",
    metadata,
    Column("tag_id", BigInteger, Identity(), primary_key=True, comment="Identifier given by the database"),
    code("name", "Name of the tag"),
    code("kind", "regular or strategy", isin=("regular", "strategy")),
    code("colour", "Colour for display, #rrggbb", nullable=True),
    UniqueConstraint("name", name="tags_name_key"),
    comment="One row per tag.",
)

position_tags = Table(
    "position_tags",
    metadata,
    Column(
        "position_id",
        BigInteger,
        ForeignKey("sigmasight.positions.position_id", ondelete="CASCADE"),
        primary_key=True,
        comment="Tagged position",
    ),
    Column(
        "tag_id",
        BigInteger,
        ForeignKey("sigmasight.tags.tag_id", ondelete="CASCADE"),
        primary_key=True,
        comment="Tag",
    ),
    Index("position_tags_tag_id", "tag_id"),
    comment="One row per position and tag it carries.",
)

position_marks = Table(
    "position_marks",
    metadata,
    Column(
        "position_id",
        BigInteger,
        ForeignKey("sigmasight.positions.position_id", ondelete="CASCADE"),
        primary_key=True,
        comment="PRIVATE position",
    ),
    session_key(),
    price("price", "Manual value per unit, US dollars", ge=0),
    code("source", "Where the mark came from"),
    comment="One row per PRIVATE position and session a manual value was given for.",
)

portfolio_cash_flows = Table(
    "portfolio_cash_flows",
    metadata,
    Column(
        "portfolio_id",
        BigInteger,
        ForeignKey("sigmasight.portfolios.portfolio_id", ondelete="CASCADE"),
        primary_key=True,
        comment="Portfolio the money enters or leaves",
    ),
    session_key(),
    Column(
        "kind",
        code("kind", "").type,
        primary_key=True,
        comment="contribution (> 0) or withdrawal (< 0)",
        info={"isin": FLOW_KINDS},
    ),
    Column(
        "sequence",
        BigInteger,
        primary_key=True,
        comment="Distinguishes several flows of a kind on one session, from 1",
    ),
    money("amount", "US dollars at the start of the day; in > 0, out < 0"),
    code("note", "Free text", nullable=True),
    comment="One row per cash flow of a portfolio.",
)

instruments = Table(
    "instruments",
    metadata,
    code("symbol", "Canonical symbol", primary_key=True),
    code("kind", "stock, etf, fund, index, option or private", isin=INSTRUMENT_KINDS),
    code("name", "Name shown to people", nullable=True),
    code("sector", "Sector", nullable=True),
    code("industry", "Industry", nullable=True),
    code("sector_source", "Where the sector came from", nullable=True),
    stat("duration", "Modified duration of a bond fund, years"),
    flag("active", "Whether prices are still expected"),
    day("first_session", "First session with a price", nullable=True),
    day("last_session", "Last session with a price, once it stopped trading", nullable=True),
    code("replaced_by", "Symbol whose prices continue this one's after last_session", nullable=True),
    code(
        "exercise_style",
        "Stated style of the contract or of options on the symbol; NULL: by the list of index roots",
        nullable=True,
        isin=EXERCISE_STYLES,
    ),
    stat(
        "dividend_yield",
        "Stated dividend yield for options on the symbol, continuously compounded, decimal; NULL: from its dividends",
        ge=-0.05,
        le=0.5,
    ),
    comment="One row per symbol the pipeline knows: held, underlying, benchmark or factor proxy.",
)

factor_definitions = Table(
    "factor_definitions",
    metadata,
    code("factor", "Key of the factor, spelt so everywhere", primary_key=True),
    code("name", "Name shown to people"),
    code(
        "kind",
        "style, shock_only, rate or characteristic",
        isin=FACTOR_KINDS,
    ),
    code("proxy_symbol", "Symbol whose returns stand for the factor", nullable=True),
    count("display_order", "Order in tables"),
    flag("active", "Whether the factor is computed"),
    comment="One row per risk factor and the proxy that stands for it.",
)

stress_test_scenarios = Table(
    "stress_test_scenarios",
    metadata,
    code("scenario_id", "Key of the scenario, spelt so everywhere", primary_key=True),
    code("name", "Name shown to people"),
    code("description", "What happens in it", nullable=True),
    code("category", "Kind of event", isin=SCENARIO_CATEGORIES),
    code("severity", "Expected size on a long-only equity book", isin=SCENARIO_SEVERITIES),
    code("kind", "Stated shocks (vector), a replay of two dates, or of the worst stretch", isin=SCENARIO_KINDS),
    document(
        "shocks",
        "Decimal return (Interest_Rate: yield change) by factor key, {relative: ...} where it is beyond what the "
        "market's shock implies; empty for replays",
        nullable=False,
    ),
    code(
        "confidence",
        "How far a vector's shocks are honoured; NULL for replays",
        nullable=True,
        isin=SCENARIO_CONFIDENCES,
    ),
    day("replay_from", "Close the replayed returns begin at; its session, or the last one before", nullable=True),
    day("replay_to", "Close they end at", nullable=True),
    count("worst_sessions", "Sessions of the worst stretch", nullable=True, ge=2),
    stat(
        "volatility_shift",
        "Relative change of option volatilities (1.5: +150 %); NULL for a replay: that of the volatility index",
        gt=-1,
    ),
    code("accepted", "Why a shock of it need not be honoured", nullable=True),
    flag("active", "Whether the scenario is computed"),
    comment="One row per stress scenario of the scenarios file.",
)

trading_sessions = Table(
    "trading_sessions",
    metadata,
    session_key(),
    instant("opens_at", "Opening of the exchange"),
    instant("closes_at", "Close of the exchange"),
    flag("is_half_day", "Early close"),
    flag("is_closed", "Unscheduled closure: nothing is computed for this session"),
    day("previous_session", "Previous session that is not closed", nullable=True),
    day("next_session", "Next session that is not closed", nullable=True),
    comment="One row per New York Stock Exchange session.",
)

portfolio_imports = Table(
    "portfolio_imports",
    metadata,
    Column("import_id", BigInteger, Identity(), primary_key=True, comment="Identifier given by the database"),
    code("portfolio_code", "Portfolio the file belongs to"),
    code("kind", "positions, marks or flows", isin=("positions", "marks", "flows")),
    code("file_name", "Name of the file as given"),
    code("content_sha256", "Hash of the file's bytes together with the options it was imported with"),
    document("content", "The validated rows, one object each, and the portfolio's own fields", nullable=False),
    instant("imported_at", "When the file was accepted"),
    instant("applied_at", "When the reference assets applied it; NULL while waiting", nullable=True),
    Index("portfolio_imports_waiting", "portfolio_code", "kind", "import_id"),
    comment="One row per accepted file, waiting for or applied by the reference assets; nothing is ever removed.",
)

__all__ = [
    "factor_definitions",
    "instruments",
    "portfolio_cash_flows",
    "portfolio_imports",
    "portfolios",
    "position_marks",
    "position_tags",
    "positions",
    "stress_test_scenarios",
    "tags",
    "trading_sessions",
]
