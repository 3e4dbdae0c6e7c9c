"""Freshness by the calendar: a check `fresh` on every asset of results, which no weekend and no holiday makes late.

What belongs here: which session's results should be there by now, and which are the newest that are. What does not:
when it is asked (``schedules``), and which single rows are missing (``gaps``, ``audit``).

An asset is late when its newest stored session is older than the newest open session whose UTC day ended more than
`freshness_grace_hours` ago, and that is none after the last session of a fixed history (setting last_session), nor
after the last closing where every portfolio is closed.
Dagster's own freshness policies are not used: a cron policy wants a materialisation on the day after a holiday too, and
a time window long enough for every holiday calls an asset fresh for days without one; both count a materialisation of
any session, so that computing an old one again would hide that the newest is missing.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import dagster as dg

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets import graph
from sigmasight_pipeline.assets.resources import PostgresResource, SettingsResource
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.audit_integrity import SESSION_TABLES
from sigmasight_pipeline.storage.freshness import Stored, stored
from sigmasight_pipeline.storage.standing import ended_day
from sigmasight_pipeline.storage.verdicts import ClockVerdict, keep_by_the_clock

CHECK = "fresh"

NAMES: tuple[str, ...] = tuple(
    sorted(
        {str(table.name) for table in SESSION_TABLES if set(tables.PROVENANCE) <= set(table.columns.keys())}
        & set(graph.in_groups(("market_data", "valuation", "factors", "risk", "operations")))
    )
)
"""The assets of results."""

KEYS = [dg.AssetCheckKey(dg.AssetKey(name), CHECK) for name in NAMES]
"""Their checks; no run of an asset evaluates them."""

ALWAYS_FILLED = frozenset(
    str(table.name)
    for table in (
        tables.daily_returns,
        tables.symbol_factor_betas,
        tables.factor_correlations,
        tables.portfolio_exposures,
        tables.portfolio_snapshots,
        tables.portfolio_factor_exposures,
        tables.market_risk_scenarios,
        tables.stress_test_results,
        tables.correlation_calculations,
        tables.portfolio_risk_metrics,
        tables.calculation_audit,
    )
)
"""Tables with rows of every computed session. The others may have none of one (nothing held, no cluster, not the end
of a week): of those a session that was computed counts as stored."""


@dataclass(frozen=True)
class Freshness:
    """How far an asset is: its newest session, the one that should be there, and how many it is late by."""

    newest: date | None
    due: date | None
    late: int
    priced: date | None = None

    @property
    def sentence(self) -> str:
        """The same in words; an asset that is as far as prices go waits for them and for nothing else."""
        if self.due is None:
            return "nothing is due yet: no portfolio has begun"
        if not self.late:
            return f"{self.newest} is there, {self.due} was due"
        since = f"the newest session is {self.newest}" if self.newest else "nothing is stored"
        waits = self.newest is not None and self.priced is not None and self.newest >= self.priced
        why = "; it waits for prices, of which none are stored after that" if waits else ""
        return f"late by {self.late} session(s): {since}, {self.due} was due{why}"


def due_session(
    now: datetime,
    grace_hours: float,
    calendar: SessionCalendar,
    closed: Collection[date] = (),
    last_session: date | None = None,
) -> date:
    """The newest open session whose UTC day ended at least `grace_hours` before `now`; `closed` ones are not open.

    None after `last_session` is ever due.
    """
    ended = ended_day(now, grace_hours)
    day = calendar.on_or_before(ended if last_session is None else min(ended, last_session))
    while day in closed:
        day = calendar.offset(day, -1)
    return day


def judge(
    newest: date | None,
    due: date,
    begin: date | None,
    calendar: SessionCalendar,
    closed: Collection[date] = (),
) -> Freshness:
    """The freshness of an asset whose newest session is `newest` and whose first one should be `begin`."""
    if begin is None or due < begin:
        return Freshness(newest, None, 0)
    expected = calendar.between(begin, due)
    late = [day for day in expected if day not in closed and (newest is None or day > newest)]
    return Freshness(newest, due, len(late))


def freshness(
    found: Stored,
    computed: Mapping[str, date | None],
    now: datetime,
    *,
    calendar: SessionCalendar,
    grace_hours: float,
    closed: Collection[date],
    last_session: date | None = None,
) -> dict[str, Freshness]:
    """The freshness of every asset of results, by name.

    `computed`: the newest session Dagster knows to be computed, of assets that may have no row of one.
    """
    shut = {*closed, *found.closed}
    end = min(filter(None, (last_session, found.closing)), default=None)
    due = due_session(now, grace_hours, calendar, shut, end)
    answers = {}
    for name in NAMES:
        newest = found.newest[name]
        if name not in ALWAYS_FILLED:
            newest = max(filter(None, (newest, computed.get(name))), default=None)
        answers[name] = replace(judge(newest, due, found.inception, calendar, shut), priced=found.priced)
    return answers


def newest_computed(instance: dg.DagsterInstance, name: str, priced: date | None) -> date | None:
    """The newest session Dagster saw `name` materialised of, none after `priced`: those are left out, not computed."""
    days = map(date.fromisoformat, instance.get_materialized_partitions(dg.AssetKey(name)))
    return max((day for day in days if priced is not None and day <= priced), default=None)


@dg.multi_asset_check(
    name="fresh_results",
    description="Whether every asset of results has the newest session that should be there by now.",
    specs=[
        dg.AssetCheckSpec(
            name=CHECK,
            asset=name,
            description="The newest stored session is the newest one that should be there by now (WARN).",
        )
        for name in NAMES
    ],
    can_subset=True,
)
def checks(
    context: dg.AssetCheckExecutionContext, postgres: PostgresResource, settings: SettingsResource
) -> Iterator[dg.AssetCheckResult]:
    """Judge every asset the run asks for, as of now."""
    found = stored(postgres.database, NAMES)
    computed = {
        name: newest_computed(context.instance, name, found.priced) for name in NAMES if name not in ALWAYS_FILLED
    }
    values = settings.values
    now = datetime.now(UTC)
    answers = freshness(
        found,
        computed,
        now,
        calendar=sessions.calendar(now.date()),
        grace_hours=values.freshness_grace_hours,
        closed=values.closed_sessions,
        last_session=values.last_session,
    )
    chosen = sorted(context.selected_asset_check_keys, key=str)
    told = {key: answers[key.asset_key.to_user_string()] for key in chosen}
    keep_by_the_clock(
        postgres.database,
        [
            ClockVerdict(key.asset_key.to_user_string(), key.name, "WARN", not answer.late, answer.sentence)
            for key, answer in told.items()
        ],
        context.run.run_id,
    )
    for key, answer in told.items():
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=not answer.late,
            severity=dg.AssetCheckSeverity.WARN,
            description=answer.sentence,
            metadata={
                "newest_stored_session": str(answer.newest or "none"),
                "newest_expected_session": str(answer.due or "none"),
                "sessions_late": answer.late,
            },
        )


CHECKS = [checks]
