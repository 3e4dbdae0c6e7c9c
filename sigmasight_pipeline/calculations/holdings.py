"""Who holds what at which session: the life of every position, and its terms after splits.

What belongs here: a position's first and last row, effective exit, what it was brought in with, and its
quantity, entry price, strike and symbol at each session. What does not: prices and values (``valuation``).

A position is *anchored* at its entry session, or at the first stored session when it was entered before that:
quantity and entry price are stated as of the anchor, and splits count from there. Its rows run from the later
of entry and the portfolio's inception (*start*) to its effective exit (*end*).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import BoolArray, IntArray
from sigmasight_pipeline.calculations.contracts import Contract, adjusted_symbol, contract_of
from sigmasight_pipeline.calculations.money import PRICE, from_units, rounded_product, to_units
from sigmasight_pipeline.calculations.portfolio_lives import lives
from sigmasight_pipeline.calculations.splits import NO_SPLITS, SplitSteps, continued
from sigmasight_pipeline.calculations.timeline import NEVER, Timeline, day_numbers, open_sessions, to_dates


class NonWholeSplitRatioError(ValueError):
    """Options are held through a split of their underlying that gives no whole number of shares per share.

    Such a contract gets another deliverable than 100 shares, so neither its multiplier nor its strike mean
    what the position says. `contracts` are the OCC symbols as entered, `first_session` the earliest session
    affected.
    """

    def __init__(self, contracts: Sequence[str], first_session: date) -> None:
        super().__init__(
            f"cannot value {', '.join(contracts)} from {first_session}: a split of the underlying is not a whole "
            "number of new shares per share, so the contract has another deliverable; enter an exit before that session"
        )
        self.contracts = tuple(contracts)
        self.first_session = first_session


@dataclass(frozen=True)
class Lots:
    """Positions with a row in a window of sessions, ordered by position_id.

    Arrays have one element per lot; sessions are numbers of the timeline. `end` is beyond the timeline while
    the position is open; `through` is the last session with a row, earlier than `end` where the portfolio was closed.
    `frame` has the positions' own columns.
    """

    frame: pl.DataFrame
    quantity: IntArray
    entry_price: IntArray
    exit_price: IntArray
    multiplier: IntArray
    anchor: IntArray
    start: IntArray
    end: IntArray
    through: IntArray
    inception: IntArray
    brought_in: BoolArray
    settles: BoolArray
    is_option: BoolArray
    is_private: BoolArray
    split_code: IntArray
    anchor_node: IntArray
    contracts: tuple[Contract | None, ...]

    def __len__(self) -> int:
        return len(self.quantity)


def split_symbols(positions: pl.DataFrame) -> list[str]:
    """Symbols whose corporate actions and prices positions depend on: their own, or an option's underlying."""
    own = positions.filter(pl.col("investment_class") == "PUBLIC").get_column("symbol")
    underlying = positions.filter(pl.col("investment_class") == "OPTIONS").get_column("underlying_symbol")
    return pl.concat([own, underlying.rename("symbol")]).drop_nulls().unique().sort().to_list()


def brought_in(timeline: Timeline, entry_day: IntArray, inception: IntArray) -> BoolArray:
    """Whether a position entered on a day was there before the portfolio's inception (a session's number).

    An entry before the first stored session always was.
    """
    before_record = entry_day < (timeline.days[0] if len(timeline) else NEVER)
    return (timeline.on_or_after(entry_day) < inception) | before_record


@dataclass(frozen=True)
class Window:
    """The sessions an engine computes and the lots with a row among them.

    `wanted` are the numbers of the open sessions asked for, ascending; `first` to `last` the run of sessions
    looked at, which contains them. Arrays over sessions count from `first`.
    """

    timeline: Timeline
    wanted: IntArray
    first: int
    last: int
    steps: SplitSteps
    lots: Lots

    def __len__(self) -> int:
        return self.last - self.first + 1

    @property
    def days(self) -> IntArray:
        """Day numbers of the run of sessions."""
        return self.timeline.days[self.first : self.last + 1]

    def rows(self, start: int = 0, stop: int | None = None) -> tuple[IntArray, IntArray]:
        """Every (session, lot) of the run, or from `start` up to `stop`, that has a row; by session, then position_id.

        Sessions count from the run's first.
        """
        run = np.arange(start, len(self) if stop is None else stop)
        numbers = run[:, None] + self.first
        session, lot = np.nonzero((self.lots.start <= numbers) & (numbers <= self.lots.through))
        return session.astype(np.int64) + start, lot.astype(np.int64)


def window(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    actions: pl.DataFrame,
    instruments: pl.DataFrame,
    look_back: int = 0,
) -> Window:
    """The window of `sessions`, which may lie anywhere in `calendar`, from `look_back` sessions earlier on.

    Frames are rows of the tables of those names; `calendar` all of ``trading_sessions`` from the first stored
    session. Raises NonWholeSplitRatioError and timeline.SessionWindowError.
    """
    timeline = open_sessions(sessions, calendar)
    wanted = timeline.positions(sessions)
    first, last = (max(int(wanted[0]) - look_back, 0), int(wanted[-1])) if len(wanted) else (0, -1)
    moved = timeline.moved(continued(actions, instruments, "ex_date"), "ex_date")
    steps = SplitSteps(moved, split_symbols(positions))
    lots = _lots(positions, portfolios, timeline, steps, (first, last))
    return Window(timeline=timeline, wanted=wanted, first=first, last=last, steps=steps, lots=lots)


def _lots(
    positions: pl.DataFrame,
    portfolios: pl.DataFrame,
    timeline: Timeline,
    steps: SplitSteps,
    run: tuple[int, int],
) -> Lots:
    """The lots with a row at a session of the run. An exit traded on the expiry session counts as the exit."""
    first, last = run
    frame = positions.join(lives(portfolios), on="portfolio_id").sort("position_id")
    entry_day = day_numbers(frame.get_column("entry_date"))
    inception_day = day_numbers(frame.get_column("inception_date"))
    exit_at = timeline.on_or_after(day_numbers(frame.get_column("exit_date")))
    is_option = (frame.get_column("investment_class") == "OPTIONS").to_numpy()
    expiry = timeline.expiry(day_numbers(frame.get_column("expiration_date")))
    expiry[~is_option] = len(timeline)
    anchor = timeline.on_or_after(entry_day)
    inception = timeline.on_or_after(inception_day)
    start, end = np.maximum(anchor, inception), np.minimum(exit_at, expiry)
    # a book that is closed sells nothing: its positions just have no more rows
    through = np.minimum(end, timeline.on_or_before(day_numbers(frame.get_column("closing_date"))))
    kept = np.flatnonzero((start <= np.minimum(through, last)) & (through >= first))
    frame = frame[kept]
    anchor, is_option = anchor[kept], is_option[kept]
    is_private = (frame.get_column("investment_class") == "PRIVATE").to_numpy()
    own = frame.get_column("symbol").to_list()
    underlying = frame.get_column("underlying_symbol").to_list()
    split_code = np.array(
        [
            NO_SPLITS if private else steps.codes[under if option else symbol]
            for private, option, under, symbol in zip(is_private, is_option, underlying, own, strict=True)
        ],
        dtype=np.int64,
    )
    anchor_node = steps.nodes(split_code, timeline.days[anchor])
    lots = Lots(
        frame=frame,
        quantity=to_units(frame.get_column("quantity"), PRICE),
        entry_price=to_units(frame.get_column("entry_price"), PRICE),
        exit_price=to_units(frame.get_column("exit_price"), PRICE),
        multiplier=to_units(frame.get_column("multiplier"), PRICE),
        anchor=anchor,
        start=start[kept],
        end=end[kept],
        through=through[kept],
        inception=inception[kept],
        brought_in=brought_in(timeline, entry_day[kept], inception[kept]),
        settles=(expiry < exit_at)[kept],
        is_option=is_option,
        is_private=is_private,
        split_code=split_code,
        anchor_node=anchor_node,
        contracts=_contracts(frame, is_option, anchor_node, steps),
    )
    _refuse_uneven(lots, steps, timeline, last)
    return lots


def _contracts(
    frame: pl.DataFrame, is_option: BoolArray, anchor_node: IntArray, steps: SplitSteps
) -> tuple[Contract | None, ...]:
    terms = frame.select("symbol", "underlying_symbol", "option_kind", "strike_price", "expiration_date")
    return tuple(
        contract_of(symbol, under, kind, Fraction(strike), expiration, int(node), steps) if option else None
        for option, node, (symbol, under, kind, strike, expiration) in zip(
            is_option, anchor_node, terms.iter_rows(), strict=True
        )
    )


def _refuse_uneven(lots: Lots, steps: SplitSteps, timeline: Timeline, last: int) -> None:
    through = steps.nodes(lots.split_code, timeline.days[np.minimum(lots.through, last)])
    refused: dict[str, int] = {}
    for index in np.flatnonzero(lots.is_option & (through > lots.anchor_node)):
        for node in range(int(lots.anchor_node[index]), int(through[index])):
            if steps.steps[node].denominator != 1:
                refused.setdefault(lots.frame.get_column("symbol")[int(index)], int(steps.days[node]))
    if refused:
        earliest = to_dates(np.array([min(refused.values())]))[0]
        raise NonWholeSplitRatioError(sorted(refused), earliest)


@dataclass(frozen=True)
class Terms:
    """Quantity, entry price (millionths) and symbol of lots after splits; `code` is each row's line of the arrays.

    The first lines are the lots as entered; `moved` are the others, as (lot, ratio since the anchor).
    """

    code: IntArray
    quantity: IntArray
    entry_price: IntArray
    symbol: pl.Series
    moved: tuple[tuple[int, Fraction], ...]


def terms_at(held: Window, lot: IntArray, node: IntArray) -> Terms:
    """The terms of each row, a lot at a node of its splits; quantity and entry price rounded half-even."""
    lots, steps = held.lots, held.steps
    size = len(steps.steps) + 1
    code = lot.copy()
    moved = np.flatnonzero(node != lots.anchor_node[lot])
    pairs, inverse = np.unique(lot[moved] * size + node[moved], return_inverse=True)
    code[moved] = len(lots) + inverse
    of, at = pairs // size, pairs % size
    forward, ratios = steps.coded(lots.anchor_node[of], at)
    quantity = rounded_product([lots.quantity[of]], divisor=1, what="a quantity", ratio_codes=forward, ratios=ratios)
    entry_price = rounded_product(
        [lots.entry_price[of]],
        divisor=1,
        what="an entry price",
        ratio_codes=forward,
        ratios=[1 / ratio for ratio in ratios],
    )
    lines = tuple((int(index), ratios[line]) for index, line in zip(of, forward, strict=True))
    own = lots.frame.get_column("symbol")
    adjusted = [adjusted_symbol(own[index], ratio) if lots.is_option[index] else own[index] for index, ratio in lines]
    return Terms(
        code=code,
        quantity=np.concatenate([lots.quantity, quantity]),
        entry_price=np.concatenate([lots.entry_price, entry_price]),
        symbol=pl.concat([own, pl.Series("symbol", adjusted, dtype=pl.String)]),
        moved=lines,
    )


def _strikes(lots: Lots, terms: Terms) -> pl.Series:
    """The strike of each line of `terms`, US dollars; NULL but for options."""
    entered = [contract.strike if contract else None for contract in lots.contracts]
    strikes = entered + [strike / ratio if (strike := entered[lot]) else None for lot, ratio in terms.moved]
    return pl.Series("strike_price", [None if strike is None else float(strike) for strike in strikes], pl.Float64)


def holdings(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    actions: pl.DataFrame,
    instruments: pl.DataFrame,
) -> pl.DataFrame:
    """One row per position and open session of `sessions`, from the later of entry and inception to effective
    exit.

    Frames are rows of ``trading_sessions`` (all, from the first stored session), ``portfolios``,
    ``positions``, ``corporate_actions`` and ``instruments``. Columns: session_date, position_id,
    portfolio_id, symbol (options: the OCC symbol adjusted for splits), contract (NULL but for options),
    quantity (signed, after splits, also on the exit session), entry_price, strike_price (US dollars, after
    splits), is_entry, brought_in (entered before inception), is_inception, held_since_previous, is_exit,
    is_expiry (the exit is a settlement). Raises NonWholeSplitRatioError and timeline.SessionWindowError.
    """
    held = window(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        positions=positions,
        actions=actions,
        instruments=instruments,
    )
    timeline, lots = held.timeline, held.lots
    session, lot = held.rows()
    kept = np.isin(session + held.first, held.wanted)
    session, lot = session[kept] + held.first, lot[kept]
    terms = terms_at(held, lot, held.steps.nodes(lots.split_code[lot], timeline.days[session]))
    contract = pl.Series([contract and contract.contract for contract in lots.contracts], dtype=pl.String)
    return pl.DataFrame(
        [
            to_dates(timeline.days[session], "session_date"),
            lots.frame.get_column("position_id").gather(lot),
            lots.frame.get_column("portfolio_id").gather(lot),
            terms.symbol.gather(terms.code),
            contract.gather(lot).alias("contract"),
            from_units(terms.quantity[terms.code], PRICE, "quantity"),
            from_units(terms.entry_price[terms.code], PRICE, "entry_price"),
            _strikes(lots, terms).gather(terms.code),
            pl.Series("is_entry", ~lots.brought_in[lot] & (session == lots.start[lot])),
            pl.Series("brought_in", lots.brought_in[lot]),
            pl.Series("is_inception", session == lots.inception[lot]),
            pl.Series("held_since_previous", session > lots.start[lot]),
            pl.Series("is_exit", session == lots.end[lot]),
            pl.Series("is_expiry", (session == lots.end[lot]) & lots.settles[lot]),
        ]
    )
