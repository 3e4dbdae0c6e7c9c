"""One declaration per session asset: what it reads, the engine it calls, the table it writes, its rules.

What belongs here: the factory that turns such a declaration into a Dagster asset. What does not: engines, rules, and
assets that need more than read, compute, check, write (they use ``SessionRun`` themselves).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import dagster as dg
import polars as pl
from sqlalchemy import Table

from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.assets.resources import PostgresResource, SettingsResource
from sigmasight_pipeline.assets.row_hash import RowHash
from sigmasight_pipeline.assets.session_run import PortfolioConfig, SessionRun
from sigmasight_pipeline.checks.rules import Rule, Verdict
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.windows import Read

ROWS_AT_A_TIME = 2_000_000
"""Rows computed, checked and written together: a few hundred megabytes with everything they are made from."""


@dataclass(frozen=True)
class SessionAsset:
    """A session asset as declared. `engine` is called with ``sessions`` (the run's open sessions), one frame per name
    in `reads`, and `parameters` taken from the settings; it returns the table's columns without provenance. `priced`:
    its sessions need stored prices (see ``SessionRun.leave_out_unpriced``); `follows_prices`: sessions without any are
    left out and never refused. `grain`: tables whose sizes multiplied
    bound the rows of a session; a run whose rows might not fit memory is computed and written in parts. `also`: further
    tables the engine fills, in the same transaction; it then returns a tuple of frames, the asset's own first, and the
    rules see the others among their inputs by table name. `beside`: names of further frames it returns after these, for
    the rules alone. `early`: see ``catalog.step_tags``.
    """

    table: Table
    reads: Mapping[str, Read]
    engine: Callable[..., pl.DataFrame | tuple[pl.DataFrame, ...]]
    group: str
    code_version: str
    rules: Sequence[Rule] = ()
    parameters: Callable[[Settings], Mapping[str, object]] = field(default=lambda _settings: {})
    figures: Mapping[str, pl.Expr] = field(default_factory=dict)
    description: str = ""
    priced: bool = False
    follows_prices: bool = False
    grain: Sequence[Table] = ()
    also: Sequence[Table] = ()
    beside: Sequence[str] = ()
    early: bool = False

    def sessions_at_a_time(self, database: Database) -> int:
        """How many sessions are computed and written together."""
        rows = 1
        for table in self.grain:
            rows *= max(1, database.count(table))
        return max(1, ROWS_AT_A_TIME // rows)

    @property
    def name(self) -> str:
        """Name of the asset: its table's."""
        return self.table.name

    def compute(
        self, sessions: Sequence[object], frames: Mapping[str, pl.DataFrame], settings: Settings
    ) -> tuple[pl.DataFrame, ...]:
        """Call the engine without Dagster or a database: the one place tests do it too."""
        found = self.engine(sessions=list(sessions), **frames, **self.parameters(settings))
        return found if isinstance(found, tuple) else (found,)


def session_asset(declared: SessionAsset) -> dg.AssetsDefinition:
    """The Dagster asset of a declaration."""
    reads = list(declared.reads.values())
    by_portfolio = "portfolio_id" in declared.table.columns

    @catalog.partitioned_asset(
        declared.table,
        declared.group,
        more=declared.description,
        engine=declared.engine,
        rules=declared.rules,
        deps=catalog.dependencies(reads, self_name=declared.name),
        code_version=declared.code_version,
        filtered=by_portfolio,
        early=declared.early,
    )
    def compute(
        context: dg.AssetExecutionContext,
        config: PortfolioConfig,
        postgres: PostgresResource,
        settings: SettingsResource,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # type: ignore[type-arg]  # Dagster inspects the bare class
        run = SessionRun(
            context,
            postgres.database,
            settings.values,
            declared.table,
            code_version=declared.code_version,
            portfolios=config.portfolios if by_portfolio else (),
        )
        if declared.priced or declared.follows_prices:
            run.leave_out_unpriced(refused=declared.priced)
        parts = run.parts(declared.sessions_at_a_time(run.database))
        done: list[tuple[SessionRun, RowHash, list[Verdict]]] = []
        try:
            for part in parts:
                done.append((part, *_materialize(declared, part)))
        except Exception:
            # what was judged before a later part failed is told all the same
            yield from (verdict.dagster_result(declared.name) for verdict in _added_up(done)) if done else ()
            raise
        yield run.result(sum((written for _, written, _ in done), RowHash()), _added_up(done))

    return compute


def _added_up(done: Sequence[tuple[SessionRun, RowHash, list[Verdict]]]) -> list[Verdict]:
    """The verdicts of parts as those of a run."""
    # a part of nothing but closures has judged nothing; a whole run of them repeats the newest verdicts
    verdicts = [found for part, _, found in done if part.sessions] or [done[0][2]]
    return [reduce(add, of_rule) for of_rule in zip(*verdicts, strict=True)]


def _materialize(declared: SessionAsset, run: SessionRun) -> tuple[RowHash, list[Verdict]]:
    """Read, compute, check, write and report the sessions of `run`."""
    frames = run.read_all(declared.reads)
    written = [run.for_table(table) for table in (declared.table, *declared.also)]
    # a run of nothing but unscheduled closures has nothing to compute, and removes what was there
    computed = (
        declared.compute(run.sessions, frames, run.settings)
        if run.sessions
        else tuple(own.nothing() for own in written)
    )
    stamped = [(own.table, run.stamped(frame)) for own, frame in zip(written, computed, strict=False)]
    frame, *others = run.write_all(stamped, sessions=run.requested)
    beside = {str(table.name): other for table, other in zip(declared.also, others, strict=True)}
    beside |= dict(zip(declared.beside, computed[len(written) :], strict=run.sessions != []))
    verdicts = run.judge(declared.rules, frame, {**frames, **beside})
    run.annotate(frame, declared.figures)
    return sum((RowHash.of(other) for other in others), RowHash.of(frame)), verdicts
