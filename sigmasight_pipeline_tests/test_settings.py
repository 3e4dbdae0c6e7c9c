"""Settings: their defaults, how they are read from the environment, and what is refused."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from sigmasight_pipeline import setting_rules
from sigmasight_pipeline.fixed_history import (
    RECORDED_END,
    RecordedEndError,
    record_last_session,
    recorded_last_session,
)
from sigmasight_pipeline.settings import SECRETS, InvalidSettingsError, Settings, get_settings

URL = "postgresql://someone:secret@db.example/books"

DEFAULTS: dict[str, object] = {
    "home": Path(".sigmasight"),
    "database_url": None,
    "first_session": date(2022, 12, 1),
    "last_session": None,
    "closed_sessions": (),
    "price_source": "simulated",
    "files_dir": None,
    "sectors_file": None,
    "factors_file": None,
    "scenarios_file": None,
    "simulated_seed": 20221201,
    "max_sessions_per_run": 252,
    "max_run_seconds": 3600,
    "sensors": "off",
    "inbox_dir": None,
    "inbox_file_seconds": 20,
    "max_file_mb": 2048,
    "gap_attempts": 3,
    "retention_sessions": None,
    "dagster_retention_days": 90,
    "freshness_grace_hours": 4,
    "dagster_pool_size": 2,
    "dagster_pool_overflow": 8,
    "webserver_pool_size": 8,
    "asset_owners": ("team:portfolio-analytics",),
    "alert_webhook_url": None,
    "alert_mail_to": (),
    "alert_mail_from": None,
    "alert_quiet_minutes": 60,
    "alert_max_length": 4000,
    "smtp_host": None,
    "smtp_port": 587,
    "smtp_user": None,
    "smtp_password": None,
    "smtp_starttls": True,
    "max_stale_sessions": 5,
    "max_mark_age": 100,
    "max_carried_volatility_age": 5,
    "historical_volatility_window": 30,
    "historical_volatility_min": 20,
    "max_yield_age": 5,
    "default_treasury_yield": 0.045,
    "regression_window": 252,
    "min_observations": 60,
    "winsorize_min_symbols": 200,
    "winsorize_percentile": 0.01,
    "beta_cap": None,
    "min_coverage": 0.80,
    "factor_half_life": 63,
    "stress_weighting": "equal",
    "correlation_window": 90,
    "min_common_observations": 20,
    "min_position_value": 10_000,
    "min_portfolio_weight": 0.01,
    "filter_mode": "both",
    "simulation_window": 252,
    "accuracy_window": 90,
    "accuracy_min_pairs": 20,
    "coverage_error": 0.80,
    "coverage_warning": 0.95,
    "large_move": 0.50,
    "split_tolerance": 0.05,
    "quarantine_rise": 4.00,
    "quarantine_fall": 0.80,
    "confirmation_band": 0.20,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No setting of the machine reaches a test, and none of a test stays."""
    for name in [name for name in os.environ if name.upper().startswith("SIGMASIGHT_")]:
        monkeypatch.delenv(name)
    get_settings.cache_clear()
    yield monkeypatch
    get_settings.cache_clear()


def test_defaults() -> None:
    assert Settings().model_dump() == DEFAULTS


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_says_what_it_means(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description, name
    assert description.endswith("."), name


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("HOME", "/data/books", Path("/data/books")),
        ("FIRST_SESSION", "2024-01-02", date(2024, 1, 2)),
        ("LAST_SESSION", "2025-06-30", date(2025, 6, 30)),
        ("LAST_SESSION", "", None),
        ("SIMULATED_SEED", "7", 7),
        ("MAX_SESSIONS_PER_RUN", "20", 20),
        ("COVERAGE_ERROR", "0", 0.0),
        ("DEFAULT_TREASURY_YIELD", "-0.01", -0.01),
        ("CLOSED_SESSIONS", "", ()),
        ("CLOSED_SESSIONS", "2025-01-09", (date(2025, 1, 9),)),
        (
            "CLOSED_SESSIONS",
            " 2025-01-09, 2012-10-29,,2012-10-30 ,",
            tuple(map(date.fromisoformat, ("2025-01-09", "2012-10-29", "2012-10-30"))),
        ),
        ("DATABASE_URL", "", None),
        ("FILES_DIR", "", None),
        ("SECTORS_FILE", "", None),
        ("BETA_CAP", "3", 3.0),
        ("ALERT_MAIL_TO", "", ()),
        ("INBOX_DIR", "", None),
        ("ALERT_WEBHOOK_URL", "", None),
        ("SMTP_STARTTLS", "false", False),
    ],
)
def test_read_from_the_environment(environment: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    environment.setenv(f"SIGMASIGHT_{name}", text)
    assert getattr(Settings(), name.lower()) == value


def test_other_variables_are_not_ours(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HOME_", "x")
    environment.setenv("FIRST_SESSION", "2024-01-02")
    environment.setenv("SIGMASIGHT_NO_SUCH_SETTING", "x")
    assert Settings().model_dump() == DEFAULTS


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FIRST_SESSION", "01/02/2024"),
        ("FIRST_SESSION", "1989-12-29"),
        ("BETA_CAP", "0"),
        ("MIN_COVERAGE", "80"),
        ("WINSORIZE_PERCENTILE", "0.5"),
        ("CLOSED_SESSIONS", "2025-01-09;2025-01-10"),
        ("CLOSED_SESSIONS", "2025-02-30"),
        ("PRICE_SOURCE", "bloomberg"),
        ("MAX_SESSIONS_PER_RUN", "0"),
        ("MAX_SESSIONS_PER_RUN", "253"),
        ("MAX_STALE_SESSIONS", "-1"),
        ("HISTORICAL_VOLATILITY_MIN", "1"),
        ("COVERAGE_ERROR", "80"),
        ("COVERAGE_WARNING", "-0.1"),
        ("DEFAULT_TREASURY_YIELD", "4.5"),
        ("LARGE_MOVE", "0"),
        ("SPLIT_TOLERANCE", "0"),
        ("QUARANTINE_FALL", "1"),
        ("QUARANTINE_RISE", "much"),
        ("CONFIRMATION_BAND", "nan"),
    ],
)
def test_refused_naming_the_setting(environment: pytest.MonkeyPatch, name: str, text: str) -> None:
    environment.setenv(f"SIGMASIGHT_{name}", text)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


@pytest.mark.parametrize(
    ("least", "more", "most", "less"),
    [
        ("COVERAGE_ERROR", "0.9", "COVERAGE_WARNING", "0.8"),
        ("HISTORICAL_VOLATILITY_MIN", "31", "HISTORICAL_VOLATILITY_WINDOW", "30"),
        ("MIN_OBSERVATIONS", "151", "REGRESSION_WINDOW", "150"),
        ("MIN_COMMON_OBSERVATIONS", "30", "CORRELATION_WINDOW", "29"),
        ("ACCURACY_MIN_PAIRS", "30", "ACCURACY_WINDOW", "29"),
    ],
)
def test_two_that_do_not_fit_are_refused_together(
    environment: pytest.MonkeyPatch, least: str, more: str, most: str, less: str
) -> None:
    environment.setenv(f"SIGMASIGHT_{least}", more)
    environment.setenv(f"SIGMASIGHT_{most}", less)
    with pytest.raises(ValidationError, match=f"SIGMASIGHT_{least}=.* is more than SIGMASIGHT_{most}="):
        Settings()


def test_files_need_a_folder(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SIGMASIGHT_PRICE_SOURCE", "files")
    with pytest.raises(ValidationError, match="SIGMASIGHT_PRICE_SOURCE=files needs SIGMASIGHT_FILES_DIR"):
        Settings()
    environment.setenv("SIGMASIGHT_FILES_DIR", "/prices")
    assert Settings().files_dir == Path("/prices")


def test_alerts_that_could_not_be_sent_are_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SIGMASIGHT_ALERT_WEBHOOK_URL", "http://hooks.example.com/services/T0/hidden")
    with pytest.raises(ValidationError, match="SIGMASIGHT_ALERT_WEBHOOK_URL must be an https:// address") as refused:
        Settings()
    assert "hidden" not in refused.value.errors()[0]["msg"]
    environment.setenv("SIGMASIGHT_ALERT_WEBHOOK_URL", "https://hooks.example.com/services/T0/hidden")
    environment.setenv("SIGMASIGHT_ALERT_MAIL_TO", "risk@example.com, desk@example.com")
    with pytest.raises(ValidationError, match="needs SIGMASIGHT_SMTP_HOST and SIGMASIGHT_ALERT_MAIL_FROM"):
        Settings()
    environment.setenv("SIGMASIGHT_SMTP_HOST", "mail.example.com")
    environment.setenv("SIGMASIGHT_ALERT_MAIL_FROM", "pipeline@example.com")
    settings = Settings()
    assert settings.alert_mail_to == ("risk@example.com", "desk@example.com")
    assert "hidden" not in f"{settings!r} {settings.model_dump_json()}"


def test_the_inbox_lies_under_home_unless_it_is_stated(environment: pytest.MonkeyPatch) -> None:
    assert Settings(home=Path("/data")).inbox_path == Path("/data/inbox")
    environment.setenv("SIGMASIGHT_INBOX_DIR", "/drop")
    assert Settings(home=Path("/data")).inbox_path == Path("/drop")


def test_a_password_is_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SIGMASIGHT_DATABASE_URL", URL)
    settings = Settings()
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == URL
    assert "secret" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_read_once_and_never_changed(environment: pytest.MonkeyPatch) -> None:
    first = get_settings()
    environment.setenv("SIGMASIGHT_SIMULATED_SEED", "7")
    assert get_settings() is first
    with pytest.raises(ValidationError, match="frozen"):
        first.simulated_seed = 7


@pytest.mark.parametrize(
    ("home", "path"),
    [(".sigmasight", "{here}/.sigmasight"), ("/data/x/../y", "/data/y"), ("~/books", "{user}/books")],
)
def test_home_is_absolute(environment: pytest.MonkeyPatch, tmp_path: Path, home: str, path: str) -> None:
    environment.chdir(tmp_path)
    environment.setenv("HOME", str(tmp_path / "user"))
    expected = Path(path.format(here=tmp_path.resolve(), user=(tmp_path / "user").resolve()))
    assert Settings(home=Path(home)).home_path == expected


# --- what a wrong setting tells

SECRET_VALUES = {
    "DATABASE_URL": ("postgresql://u:Hidden-db-word@h/d", "Hidden-db-word"),
    "ALERT_WEBHOOK_URL": ("https://hooks.example.com/services/Hidden-hook-word", "Hidden-hook-word"),
    "SMTP_PASSWORD": ("Hidden-mail-word", "Hidden-mail-word"),
}

WRONG_VALUES = {
    "HOME": "/books/[1]",
    "FILES_DIR": "/books/\n1",
    "FIRST_SESSION": "01/02/2024",
    "CLOSED_SESSIONS": "never",
    "PRICE_SOURCE": "bloomberg",
    "MAX_SESSIONS_PER_RUN": "253",
    "COVERAGE_ERROR": "80",
    "SENSORS": "maybe",
    "SMTP_PORT": "587a",
    "SMTP_STARTTLS": "perhaps",
    "ALERT_MAIL_TO": "risk@example.com",  # without a mail server
    "MIN_OBSERVATIONS": "253",  # more than the window
    "ALERT_WEBHOOK_URL": "ftp://Hidden-hook-word.example.com/Hidden-hook-word",
}


def test_every_secret_is_tried() -> None:
    assert {name.lower() for name in SECRET_VALUES} == set(SECRETS)


@pytest.mark.parametrize("wrong", WRONG_VALUES)
def test_no_wrong_setting_tells_a_secret(environment: pytest.MonkeyPatch, wrong: str) -> None:
    """Every wrong setting beside all secrets, in what the command line, Dagster and a log may print of it."""
    for name, (value, _) in SECRET_VALUES.items():
        environment.setenv(f"SIGMASIGHT_{name}", value)
    environment.setenv(f"SIGMASIGHT_{wrong}", WRONG_VALUES[wrong])
    with pytest.raises(InvalidSettingsError) as sentence:
        get_settings()
    with pytest.raises(ValidationError) as refused:
        Settings()
    printed = [*traceback.format_exception(sentence.value), *traceback.format_exception(refused.value)]
    told = "".join([*printed, str(sentence.value), repr(sentence.value), str(refused.value), repr(refused.value)])
    assert f"SIGMASIGHT_{wrong}" in str(sentence.value)
    assert "\n" not in str(sentence.value)
    for _, part in SECRET_VALUES.values():
        assert part not in told


@pytest.mark.parametrize("name", [name for name in WRONG_VALUES if name not in ("ALERT_MAIL_TO", "HOME", "FILES_DIR")])
@pytest.mark.parametrize("secret", SECRET_VALUES)
def test_a_secret_in_the_wrong_line_is_not_told(environment: pytest.MonkeyPatch, name: str, secret: str) -> None:
    """Paths apart, which every message about a file shows."""
    value, part = SECRET_VALUES[secret]
    environment.setenv(f"SIGMASIGHT_{secret}", value)
    environment.setenv(f"SIGMASIGHT_{name}", f"[{value}")
    with pytest.raises(InvalidSettingsError) as sentence:
        get_settings()
    assert part not in "".join(traceback.format_exception(sentence.value))


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://hooks.example.com/services/T0/B0/x", None),
        ("https://10.1.2.3:8065/hooks/x", None),
        ("http://127.0.0.1:9000/x", None),
        ("http://127.8.8.8/x", None),
        ("http://[::1]:9000/x", None),
        ("http://localhost/x", None),
        ("http://127.0.0.1.example.com/x", "http:// is for a receiver on this machine"),
        ("http://127.0.0.1@example.com/x", "without a user or password"),
        ("http://localhost:80@example.com/x", "without a user or password"),
        ("http://localhost.example.com/x", "http:// is for a receiver on this machine"),
        ("http://localhostexample.com/x", "http:// is for a receiver on this machine"),
        ("http://[::ffff:8.8.8.8]/x", "http:// is for a receiver on this machine"),
        ("http://0.0.0.0/x", "http:// is for a receiver on this machine"),
        ("https://user:hidden@hooks.example.com/x", "without a user or password"),
        ("https://hidden@hooks.example.com/x", "without a user or password"),
        ("http://127.0.0.1\\.example.com/x", "backslashes"),
        ("https://hooks.example.com/x y", "without blanks"),
        ("https://hooks.example.com/x\ny", "without blanks"),
        ("https://hooks.example.com:port/x", "cannot be read"),
        ("https://[::1/x", "cannot be read"),
        ("https:///services/x", "must be an https:// address"),
        ("hooks.example.com/services/x", "must be an https:// address"),
        ("file:///etc/passwd", "must be an https:// address"),
    ],
)
def test_where_a_webhook_may_lead(environment: pytest.MonkeyPatch, url: str, fault: str | None) -> None:
    environment.setenv("SIGMASIGHT_ALERT_WEBHOOK_URL", url)
    if fault is None:
        assert get_settings().alert_webhook_url is not None
        return
    with pytest.raises(InvalidSettingsError) as refused:
        get_settings()
    assert str(refused.value).startswith("SIGMASIGHT_ALERT_WEBHOOK_URL must be an https:// address")
    assert fault in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("sign", list(setting_rules.GLOB_SIGNS))
def test_a_home_dagster_would_not_look_into(environment: pytest.MonkeyPatch, tmp_path: Path, sign: str) -> None:
    """By its own name or by that of the working directory, wherever it stands in the path."""
    (tmp_path / f"a{sign}b").mkdir()
    environment.chdir(tmp_path / f"a{sign}b")
    for home in (f"/data/{sign}/books", ".sigmasight"):
        get_settings.cache_clear()
        environment.setenv("SIGMASIGHT_HOME", home)
        with pytest.raises(InvalidSettingsError, match="Dagster finds no configuration in a folder with") as refused:
            get_settings()
        assert sign in str(refused.value)


@pytest.mark.parametrize("path", ["/data/a\nb", "/data/a\x1bb", "/data/\udcff\udcfe", "/data/a\u2028b"])
@pytest.mark.parametrize("name", ["HOME", "FILES_DIR", "SECTORS_FILE", "FACTORS_FILE", "SCENARIOS_FILE", "INBOX_DIR"])
def test_a_path_no_message_can_hold(environment: pytest.MonkeyPatch, name: str, path: str) -> None:
    environment.setenv(f"SIGMASIGHT_{name}", path)
    with pytest.raises(InvalidSettingsError, match=f"SIGMASIGHT_{name} cannot be") as refused:
        get_settings()
    str(refused.value).encode()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["a b", "Bücher", "本", "a'b", 'a"b', "a,b", "a%b", "a$b", "a\\b", "a#b", "a]b", "a{b}"]
)
def test_other_names_of_homes_are_taken(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv("SIGMASIGHT_HOME", f"/data/{name}")
    assert get_settings().home_path == Path("/data", name)


def test_a_history_ends_after_it_begins(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SIGMASIGHT_LAST_SESSION", "2022-11-30")
    with pytest.raises(ValidationError, match="SIGMASIGHT_LAST_SESSION=2022-11-30 is before SIGMASIGHT_FIRST_SESSION"):
        Settings()


def test_the_end_the_demo_recorded_counts_for_its_market_until_another_is_set(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def read(**changes: str) -> date | None:
        with environment.context() as changed:
            for name, value in {"home": str(tmp_path), **changes}.items():
                changed.setenv(f"SIGMASIGHT_{name.upper()}", value)
            get_settings.cache_clear()
            found = get_settings().last_session
        get_settings.cache_clear()
        return found

    assert read() is None
    record_last_session(tmp_path, date(2024, 1, 31))
    assert read() == recorded_last_session(tmp_path) == date(2024, 1, 31)
    assert read(last_session="2024-03-28") == date(2024, 3, 28)
    assert read(price_source="files", files_dir=str(tmp_path)) is None
    assert read(first_session="2025-01-02") is None, "another history, which begins later"
    assert list(tmp_path.iterdir()) == [tmp_path / RECORDED_END]
    (tmp_path / RECORDED_END).write_text("soon")
    with pytest.raises(RecordedEndError, match="should hold the last session as YYYY-MM-DD and holds 'soon'"):
        read()
