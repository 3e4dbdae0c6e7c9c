"""One declaration per session asset: what it reads, the engine it calls, the table it writes, its rules.

What belongs here: the factory that turns such a declaration into a Dagster asset. What does not: engines, rules, and
assets that need more than read, compute, check, write (they use ``SessionRun`` themselves).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg
import polars as pl
from sqlalchemy import Table

from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.assets.resources import PostgresResource, SettingsResource
from sigmasight_pipeline.assets.session_run import PortfolioConfig, SessionRun
from sigmasight_pipeline.checks.rules import Rule
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage.windows import Read


@dataclass(frozen=True)
class SessionAsset:
    """A session asset as declared. `engine` is called with ``sessions`` (the run's open sessions), one frame per name
    in `reads`, and `parameters` taken from the settings; it returns the table's columns without provenance. `priced`:
    its sessions need stored prices (see ``SessionRun.leave_out_unpriced``).
    """

    table: Table
    reads: Mapping[str, Read]
    engine: Callable[..., pl.DataFrame]
    group: str
    code_version: str
    rules: Sequence[Rule] = ()
    parameters: Callable[[Settings], Mapping[str, object]] = field(default=lambda _settings: {})
    figures: Mapping[str, pl.Expr] = field(default_factory=dict)
    description: str = ""
    priced: bool = False

    @property
    def name(self) -> str:
        """Name of the asset: its table's."""
        return self.table.name

    def compute(
        self, sessions: Sequence[object], frames: Mapping[str, pl.DataFrame], settings: Settings
    ) -> pl.DataFrame:
        """Call the engine without Dagster or a database: the one place tests do it too."""
        return self.engine(sessions=list(sessions), **frames, **self.parameters(settings))


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
    )
    def compute(
        context: dg.AssetExecutionContext,
        config: PortfolioConfig,
        postgres: PostgresResource,
        settings: SettingsResource,
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
        run = SessionRun(
            context,
            postgres.database,
            settings.values,
            declared.table,
            code_version=declared.code_version,
            portfolios=config.portfolios if by_portfolio else (),
        )
        if declared.priced:
            run.leave_out_unpriced()
        frames = run.read_all(declared.reads)
        # a run of nothing but unscheduled closures has nothing to compute, and removes what was there
        computed = declared.compute(run.sessions, frames, run.settings) if run.sessions else run.nothing()
        frame = run.write(run.stamped(computed))
        verdicts = run.judge(declared.rules, frame, frames)
        run.annotate(frame, declared.figures)
        return run.result(frame, verdicts)

    return compute
