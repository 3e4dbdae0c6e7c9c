"""Every setting of the pipeline, typed, with its default and its meaning.

What belongs here: a parameter an operator or a risk manager may change, read once from the environment
(prefix ``SIGMASIGHT_``). What does not: constants of mathematics or of the market (they stand beside the code that
uses them) and anything a calculation decides by itself. Calculations never read settings: assets hand them over as
plain arguments.
"""

from __future__ import annotations

import os
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from sigmasight_pipeline import setting_rules, user_files
from sigmasight_pipeline.fixed_history import recorded_last_session

SHORTEST_PART = 4
"""A wrong value this long that stands in a secret is not shown."""


class InvalidSettingsError(ValueError):
    """The environment states a setting that cannot be; one sentence, in which no secret stands."""


class Settings(BaseSettings):
    """The settings of one installation; ``SIGMASIGHT_HOME=/data sigmasight status`` sets ``home``."""

    # an error's input may be every setting there is, passwords among them: it is never part of an error
    model_config = SettingsConfigDict(env_prefix="SIGMASIGHT_", extra="ignore", frozen=True, hide_input_in_errors=True)

    home: Path = Field(
        default=Path(".sigmasight"),
        description="The one folder all state lives in: embedded database, logs, run artifacts.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="postgresql:// URL of a real server (15 or newer); unset: the embedded server under `home`.",
    )
    first_session: date = Field(
        default=date(2022, 12, 1),
        ge=date(1990, 1, 2),
        description="First session partition. Moving it earlier keeps what is stored.",
    )
    last_session: date | None = Field(
        default=None,
        description="Last session partition: nothing after it is asked for, missing or late. Unset: there is no end, "
        "but for the simulated market of `sigmasight demo`, which records its own in the state folder.",
    )
    closed_sessions: Annotated[tuple[date, ...], NoDecode] = Field(
        default=(),
        description="Unscheduled closures the calendar library does not know yet, comma separated ISO dates.",
    )

    price_source: Literal["simulated", "files"] = Field(
        default="simulated", description="Where market data comes from."
    )
    files_dir: Path | None = Field(
        default=None, description="Folder of the `files` source: CSV or Parquet (prices is required)."
    )
    sectors_file: Path | None = Field(
        default=None, description="CSV of symbol, sector, industry that wins over the sectors of any source."
    )
    factors_file: Path | None = Field(
        default=None, description="CSV of factor definitions in place of the ones that ship with the pipeline."
    )
    scenarios_file: Path | None = Field(
        default=None, description="YAML of stress scenarios in place of the ones that ship with the pipeline."
    )
    simulated_seed: int = Field(default=20221201, description="Seed of the simulated market.")

    max_sessions_per_run: int = Field(
        default=252, ge=1, le=252, description="Longest range of one Dagster run; a longer one is a chain."
    )

    max_run_seconds: int = Field(
        default=3600, ge=60, description="A run that takes longer than this many seconds is ended as failed."
    )
    sensors: Literal["off", "on"] = Field(
        default="off",
        description="Whether sensors run as soon as the code location loads (`sigmasight dev` turns them on) or wait "
        "until somebody turns them on in the UI.",
    )
    inbox_dir: Path | None = Field(
        default=None, description="Folder portfolio CSVs are dropped into; unset: `inbox` under `home`."
    )
    inbox_file_seconds: float = Field(
        default=20, ge=0.01, le=25, description="A dropped file that takes longer to be read is set aside as rejected."
    )
    max_file_mb: float = Field(
        default=user_files.LARGEST_MB, gt=0, description="Largest file of market data, sectors or factors, megabytes."
    )
    gap_attempts: int = Field(default=3, ge=1, description="Failures after which a gap is reported and left alone.")
    freshness_grace_hours: float = Field(
        default=4, ge=0, description="Hours after the end of a session's UTC day by which its results should be there."
    )

    retention_sessions: int | None = Field(
        default=None,
        ge=1,
        description="`sigmasight db tidy` keeps results of this many sessions; unset: of all. Market data, returns, "
        "snapshots and what they are made from are kept for ever.",
    )
    dagster_retention_days: int = Field(
        default=90,
        ge=1,
        description="Days `sigmasight db tidy` keeps events of ended runs, verdicts and ticks in Dagster's tables; the "
        "newest state of every partition and check is kept for ever.",
    )

    dagster_pool_size: int = Field(
        default=2, ge=1, description="Connections each process keeps open to each of Dagster's three storages."
    )
    dagster_pool_overflow: int = Field(default=8, ge=0, description="How many more it opens for a while.")
    webserver_pool_size: int = Field(
        default=8, ge=1, description="The same in the webserver: pages ask a dozen questions at once."
    )
    asset_owners: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("team:portfolio-analytics",),
        description="Owners of the assets as the UI shows them, comma separated: `team:NAME` or a mail address.",
    )

    alert_webhook_url: SecretStr | None = Field(
        default=None, description="https:// address alerts are posted to as JSON; its path is a secret."
    )
    alert_mail_to: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Addresses alerts are mailed to, comma separated."
    )
    alert_mail_from: str | None = Field(default=None, description="Sender of mailed alerts.")
    alert_quiet_minutes: float = Field(
        default=60, ge=0, description="After an alert, further ones of its topic wait this long and are told together."
    )
    alert_max_length: int = Field(default=4000, ge=200, description="Longest alert, characters.")
    smtp_host: str | None = Field(default=None, description="Mail server alerts go through.")
    smtp_port: int = Field(default=587, ge=1, le=65535, description="Its port.")
    smtp_user: str | None = Field(default=None, description="User of the mail server, where it wants one.")
    smtp_password: SecretStr | None = Field(default=None, description="That user's password.")
    smtp_starttls: bool = Field(default=True, description="Whether mail is sent over TLS (STARTTLS).")

    max_stale_sessions: int = Field(
        default=5, ge=0, description="A valuation price older than this many sessions is flagged stale."
    )
    max_mark_age: int = Field(
        default=100, ge=0, description="A manual mark older than this many sessions is flagged stale."
    )
    max_carried_volatility_age: int = Field(
        default=5, ge=0, description="An implied volatility may be carried this many sessions."
    )
    historical_volatility_window: int = Field(
        default=30, ge=2, description="One-session log returns used for historical volatility."
    )
    historical_volatility_min: int = Field(
        default=20, ge=2, description="Fewest returns a historical volatility is computed from."
    )
    max_yield_age: int = Field(default=5, ge=0, description="A Treasury yield may be this many sessions old.")
    default_treasury_yield: float = Field(
        default=0.045, gt=-0.1, lt=1, description="Used, and flagged, where no Treasury yield is recent enough."
    )

    regression_window: int = Field(
        default=252, ge=20, le=2520, description="Sessions of the window betas and factor moments are estimated from."
    )
    min_observations: int = Field(
        default=60, ge=3, description="Fewest common returns in the window a beta or a factor is estimated from."
    )
    winsorize_min_symbols: int = Field(
        default=200, ge=2, description="Betas of stocks are winsorised where at least this many stocks have one."
    )
    winsorize_percentile: float = Field(
        default=0.01, ge=0, lt=0.5, description="Share of the stocks' betas on a factor pulled in at either end."
    )
    beta_cap: float | None = Field(
        default=None, gt=0, description="Hard cap on |beta|; unset: none, outliers are winsorised and reported."
    )
    min_coverage: float = Field(
        default=0.80,
        ge=0,
        le=1,
        description="A portfolio's factor or Greeks figure from a smaller share of its exposure is NULL.",
    )
    factor_half_life: float = Field(
        default=63, gt=0, description="Half-life, in sessions, of the exponentially weighted factor correlations."
    )

    stress_weighting: Literal["equal", "half_life"] = Field(
        default="equal", description="Which factor covariances the stress tests use."
    )
    correlation_window: int = Field(
        default=90, ge=2, le=2520, description="Sessions of the window correlations of positions are estimated from."
    )
    min_common_observations: int = Field(
        default=20, ge=3, description="Fewest common returns two positions are correlated from."
    )
    min_position_value: int = Field(
        default=10_000, ge=0, description="Smallest value, US dollars, of a symbol that is correlated."
    )
    min_portfolio_weight: float = Field(
        default=0.01, ge=0, le=1, description="Smallest weight in its portfolio of a symbol that is correlated."
    )
    filter_mode: Literal["both", "value_only", "weight_only", "either"] = Field(
        default="both", description="How the two filters of correlations combine."
    )
    simulation_window: int = Field(
        default=252, ge=20, le=2520, description="Sessions whose returns the positions of a session are put through."
    )
    accuracy_window: int = Field(
        default=90, ge=2, description="Pairs of sessions predicted and actual P&L are compared over."
    )
    accuracy_min_pairs: int = Field(default=20, ge=3, description="Fewest pairs of sessions they are compared over.")

    coverage_error: float = Field(
        default=0.80, ge=0, le=1, description="A session with a smaller share of needed symbols priced fails."
    )
    coverage_warning: float = Field(
        default=0.95, ge=0, le=1, description="A session with a smaller share of needed symbols priced is warned of."
    )
    large_move: float = Field(
        default=0.50, gt=0, description="A move of this size with no corporate action is stored and warned about."
    )
    split_tolerance: float = Field(
        default=0.05,
        gt=0,
        description="Value may change this much through a split; raise it where a symbol really moved more.",
    )
    quarantine_rise: float = Field(
        default=4.00, gt=0, description="A rise above this (4 = +400 %) is quarantined until confirmed."
    )
    quarantine_fall: float = Field(
        default=0.80, gt=0, lt=1, description="A fall beyond this (0.8 = -80 %) is quarantined until confirmed."
    )
    confirmation_band: float = Field(
        default=0.20, gt=0, description="The next close this near to a quarantined one confirms it."
    )

    @field_validator("closed_sessions", "alert_mail_to", "asset_owners", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("asset_owners")
    @classmethod
    def _owners_can_be_shown(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if fault := setting_rules.owner_fault(value):
            raise ValueError(fault)
        return value

    @field_validator(
        "database_url",
        "last_session",
        "files_dir",
        "sectors_file",
        "factors_file",
        "scenarios_file",
        "inbox_dir",
        "alert_webhook_url",
        "alert_mail_from",
        "smtp_host",
        "smtp_user",
        "smtp_password",
        "retention_sessions",
        "beta_cap",
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("home", "files_dir", "sectors_file", "factors_file", "scenarios_file", "inbox_dir", mode="before")
    @classmethod
    def _path_can_be_written_down(cls, value: object) -> object:
        if fault := setting_rules.path_fault(value):
            raise ValueError(fault)
        return value

    @model_validator(mode="after")
    def _home_can_be_used(self) -> Settings:
        if fault := setting_rules.home_fault(self.home):
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _files_need_a_folder(self) -> Settings:
        if self.price_source == "files" and self.files_dir is None:
            raise ValueError(
                "SIGMASIGHT_PRICE_SOURCE=files needs SIGMASIGHT_FILES_DIR, the folder with prices.csv or prices.parquet"
            )
        return self

    @model_validator(mode="after")
    def _history_has_a_session(self) -> Settings:
        if self.last_session is not None and self.last_session < self.first_session:
            raise ValueError(
                f"SIGMASIGHT_LAST_SESSION={self.last_session} is before SIGMASIGHT_FIRST_SESSION="
                f"{self.first_session}: set the one later or the other earlier"
            )
        return self

    @model_validator(mode="after")
    def _alerts_can_be_sent(self) -> Settings:
        if self.alert_webhook_url is not None and (
            fault := setting_rules.webhook_fault(self.alert_webhook_url.get_secret_value())
        ):
            raise ValueError(f"SIGMASIGHT_ALERT_WEBHOOK_URL {fault}")
        if self.alert_mail_to and not (self.smtp_host and self.alert_mail_from):
            raise ValueError("SIGMASIGHT_ALERT_MAIL_TO needs SIGMASIGHT_SMTP_HOST and SIGMASIGHT_ALERT_MAIL_FROM")
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        for least, most in (
            ("coverage_error", "coverage_warning"),
            ("historical_volatility_min", "historical_volatility_window"),
            ("min_observations", "regression_window"),
            ("min_observations", "simulation_window"),
            ("min_common_observations", "correlation_window"),
            ("accuracy_min_pairs", "accuracy_window"),
        ):
            if getattr(self, least) > getattr(self, most):
                raise ValueError(
                    f"SIGMASIGHT_{least.upper()}={getattr(self, least)} is more than "
                    f"SIGMASIGHT_{most.upper()}={getattr(self, most)}: lower the one or raise the other"
                )
        return self

    @property
    def home_path(self) -> Path:
        """`home` as an absolute path (a relative one is relative to the working directory)."""
        return setting_rules.absolute(self.home)

    @property
    def most_file_bytes(self) -> int:
        """`max_file_mb` in bytes."""
        return int(self.max_file_mb * user_files.MEGABYTE)

    @property
    def inbox_path(self) -> Path:
        """The inbox as an absolute path."""
        return setting_rules.absolute(self.inbox_dir or self.home / "inbox")


def _sentence(error: ValidationError) -> str:
    """The first fault as a sentence: the variable, its value where that can be no secret, what is expected."""
    problem = error.errors(include_url=False)[0]
    reason = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return reason
    name = str(problem["loc"][0])
    meaning = (Settings.model_fields[name].description or "").rstrip(".")
    return (
        f"SIGMASIGHT_{name.upper()} {_told(name, str(problem['input']))}: {reason[:1].lower()}{reason[1:]} "
        f"(it sets: {meaning})"
    )


def _told(name: str, value: str) -> str:
    """What is wrong with a value, which is shown unless it is a secret, holds one, or may be one in the wrong line."""
    secrets = [secret for field in SECRETS if (secret := os.environ.get(f"SIGMASIGHT_{field.upper()}"))]
    is_part = any(secret in value or (len(value) >= SHORTEST_PART and value in secret) for secret in secrets)
    if name in SECRETS or is_part or setting_rules.may_be_secret(value):
        return "cannot be what it is set to, which is not shown because it may be a secret"
    return f"cannot be {setting_rules.shown(value)}"


SECRETS = tuple(name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation))
"""The settings whose value nobody may read."""


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once: from the environment, and the end of the demo from the state folder.

    InvalidSettingsError where one cannot be; RecordedEndError where the state folder says no date.
    """
    try:
        stated = Settings()
    except ValidationError as error:
        # never `from` it: whoever prints the cause prints its input too
        raise InvalidSettingsError(_sentence(error)) from None
    except SettingsError:
        raise InvalidSettingsError(
            "a SIGMASIGHT_ variable cannot be read; compare them with sigmasight_pipeline/settings.py"
        ) from None
    if stated.last_session is not None or stated.price_source != "simulated":
        return stated
    end = recorded_last_session(stated.home_path)
    # an installation that begins after the demo's end is another history
    return stated if end is None or end < stated.first_session else stated.model_copy(update={"last_session": end})
