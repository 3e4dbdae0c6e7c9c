"""Every failure to work with a server is one clear sentence with the right reason and no password."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from urllib.parse import quote, urlsplit

import adbc_driver_postgresql.dbapi
import psycopg
import psycopg2
import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.storage import errors
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.errors import StorageError, StorageReason, explain, redact

PASSWORD = "hunter2-pw"


def _sqlalchemy(url: str, statement: str) -> None:
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg2:", 1))
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(statement))


def _psycopg(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def _psycopg2(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()


def _adbc(url: str, statement: str) -> None:
    with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        cursor.fetchall()


DRIVERS: dict[str, Callable[[str, str], None]] = {
    "psycopg": _psycopg,
    "psycopg2": _psycopg2,
    "sqlalchemy": _sqlalchemy,
    "adbc": _adbc,
}


def failure(driver: str, url: str, statement: str = "SELECT 1") -> StorageError:
    """What `explain` makes of what the driver raises; checked for what holds for every sentence."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each driver has its own classes; that is the point
        DRIVERS[driver](url, statement)
    explained = explain(raised.value, url)
    assert PASSWORD not in str(explained), explained
    assert "\n" not in str(explained), explained
    assert str(explained).endswith((".", ";")) or explained.reason is StorageReason.DATABASE_ERROR, explained
    return explained


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("url", "reason", "says"),
    [
        (
            f"postgresql://u:{PASSWORD}@127.0.0.1:1/db",
            "server_unreachable",
            "127.0.0.1:1 (Connection refused)",
        ),
        (f"postgresql://u:{PASSWORD}@nohost.invalid/db", "server_unreachable", "nohost.invalid:5432"),
        (f"postgresql://u:{PASSWORD}@/db?host=/no/such", "server_unreachable", "/no/such/.s.PGSQL.5432"),
        (f"postgresql//u:{PASSWORD}@h/db", "invalid_url", "postgresql//u:***@h/db cannot be read"),
    ],
)
def test_connection_failures(driver: str, url: str, reason: str, says: str) -> None:
    explained = failure(driver, url)
    assert explained.reason == reason, explained
    assert says in str(explained)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "adbc"])
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:%zz{PASSWORD}@h/db",
        f"mysql://u:{PASSWORD}@h/db",
        f"postgresql://u:{PASSWORD}@h:port/db",
        f"postgresql://u:{PASSWORD}@h/db?nonsense=1",
    ],
)
def test_unreadable_urls(driver: str, url: str) -> None:
    explained = failure(driver, url)
    assert explained.reason is StorageReason.INVALID_URL, explained


@pytest.mark.parametrize("driver", DRIVERS)
class TestServerRefuses:
    """What a live server answers, for every driver."""

    def test_wrong_password(self, driver: str, server: EmbeddedServer) -> None:
        right = server.address().password
        explained = failure(driver, server.url().replace(right, PASSWORD))
        assert explained.reason is StorageReason.WRONG_PASSWORD
        assert 'refused the password of role "sigmasight"' in str(explained)

    def test_no_password(self, driver: str, server: EmbeddedServer) -> None:
        explained = failure(driver, server.address().url(with_password=False))
        assert explained.reason is StorageReason.WRONG_PASSWORD
        assert "has none" in str(explained)

    def test_missing_database(self, driver: str, server: EmbeddedServer) -> None:
        explained = failure(driver, server.url("absent"))
        assert explained.reason is StorageReason.DATABASE_MISSING
        assert 'Database "absent" does not exist' in str(explained)
        assert server.address().password not in str(explained)

    def test_missing_tables(self, driver: str, database_url: str) -> None:
        explained = failure(driver, database_url, "SELECT * FROM sigmasight.positions")
        assert explained.reason is StorageReason.SCHEMA_NOT_CREATED
        assert "`sigmasight db upgrade`" in str(explained)

    def test_not_permitted(self, driver: str, database_url: str) -> None:
        explained = failure(driver, database_url, "SELECT * FROM pg_authid")
        assert explained.reason is StorageReason.NOT_PERMITTED
        assert "permission denied for table pg_authid" in str(explained)

    def test_anything_else_keeps_its_words(self, driver: str, database_url: str) -> None:
        """A value error mentions "invalid ... value" as libpq does of URLs: the SQLSTATE tells them apart."""
        explained = failure(driver, database_url, "SELECT 'x'::bool")
        assert explained.reason is StorageReason.DATABASE_ERROR
        assert "invalid input syntax for type boolean" in str(explained)


def test_database_creation_refused(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE poor LOGIN PASSWORD '{PASSWORD}'")
        try:
            poor = f"postgresql://poor:{PASSWORD}@{database_url.rpartition('@')[2]}"
            with psycopg.connect(poor, autocommit=True) as connection, pytest.raises(psycopg.Error) as raised:
                connection.execute("CREATE DATABASE nope")
        finally:
            owner.execute("DROP ROLE poor")
    explained = explain(raised.value, poor)
    assert explained.reason is StorageReason.DATABASE_NOT_CREATED
    assert "permission denied to create database" in str(explained)


def test_connection_cut_by_the_server(database_url: str) -> None:
    with psycopg.connect(database_url) as victim:
        with psycopg.connect(database_url) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [victim.info.backend_pid])
        with pytest.raises(psycopg.Error) as raised:
            victim.execute("SELECT 1")
    assert explain(raised.value, database_url).reason is StorageReason.SERVER_UNREACHABLE


def test_full_server() -> None:
    words = 'connection to server at "h" (10.0.0.1), port 5432 failed: FATAL:  sorry, too many clients already'
    explained = explain(psycopg.OperationalError(words), "postgresql://u@h/db")
    assert explained.reason is StorageReason.SERVER_FULL


def test_wrapped_errors_are_found() -> None:
    url = "postgresql://u:x@127.0.0.1:1/db"
    with pytest.raises(psycopg.Error) as raised:
        psycopg.connect(url)
    wrapped = RuntimeError("too many retries for DB connection")
    wrapped.__cause__ = raised.value
    assert explain(wrapped, url).reason is StorageReason.SERVER_UNREACHABLE


def test_our_own_errors_pass_through() -> None:
    ours = errors.SchemaTooNewError.of("postgresql://u@h/db", "0009", "0004")
    wrapped = RuntimeError()
    wrapped.__cause__ = ours
    assert explain(wrapped, "postgresql://u@h/db") is ours


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            errors.ServerTooOldError.of("postgresql://u:p@h/d", "14.4"),
            "14.4; use one of version 15 or newer",
        ),
        (errors.SchemaTooNewError.of("postgresql://u:p@h/d", "0009", "0004"), "at migration 0009"),
        (errors.SchemaNotCreatedError.of("postgresql://u:p@h/d"), "run `sigmasight db upgrade`"),
        (errors.EmbeddedServerError("It did not start:", "FATAL: no"), "It did not start:\nFATAL: no"),
    ],
)
def test_errors_survive_pickling(error: StorageError, says: str) -> None:
    """Dagster carries errors between processes."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert says in str(copy)


def test_every_reason_has_exactly_one_class() -> None:
    assert sorted(kind.reason for kind in StorageError.__subclasses__()) == sorted(StorageReason)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+psycopg2://u:***@h/d"),
        ("postgresql://u:p@/d?host=/run/x&port=5432", "postgresql://u:***@/d?host=/run/x&port=5432"),
        ("postgresql://u:p@h1:1,h2:2/d", "postgresql://u:***@h1:1,h2:2/d"),
        ("postgresql://u:p@[::1]:5432/d", "postgresql://u:***@[::1]:5432/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
        ("postgresql:///d", "postgresql:///d"),
        ("postgresql://u:p@ss/w?rd@h/d", "postgresql://u:***@h/d"),
        (
            "postgresql://h/d?user=u&password=p&sslpassword=q",
            "postgresql://h/d?user=u&password=***&sslpassword=***",
        ),
        ("host=h user=u password=p dbname=d", "host=h user=u password=*** dbname=d"),
        ("host=::1 password='p @x' dbname=d", "host=::1 password=*** dbname=d"),
        ("u:p@h/d", "u:***@h/d"),
        ("postgres:/u:p@h/d", "postgres:/u:***@h/d"),
        ("", ""),
        # what may be a password is hidden with all that cannot be told from it
        ("postgresql://u:hidden", "postgresql://***"),
        ("postgresql://u:hidden/d", "postgresql://***"),
        ("postgresql://u:hid#den@h/d", "postgresql://u:***@h/d"),
        ("postgresql://h/d?password=hid&den", "postgresql://h/d?***"),
        ("postgresql://h/d?passwd=hidden", "postgresql://h/d?passwd=***"),
        ("hidden", "***"),
        ("u:hid=den@h/d", "u:***@h/d"),
        ("host=h password=hid den dbname=d", "host=h password***"),
        ("host=h password='hid den dbname=d", "host=h password***"),
        ("host=h password=hid\\ den dbname=d", "host=h password=*** dbname=d"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "adbc"])
@pytest.mark.parametrize(
    "raw", ["QA@QB-x", "QA/QB-x", "12/QB-x", "QA?QB-x", "QA:QB@QC-x", "QA#QB-x", "QA:QB", "QA@QB/QC-x@QD-x"]
)
def test_no_part_of_a_password_that_is_not_encoded_is_told(driver: str, raw: str) -> None:
    url = f"postgresql://someone:{raw}@127.0.0.1:1/books"
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each driver has its own classes
        DRIVERS[driver](url, "SELECT 1")
    said = str(explain(raised.value, url))
    for part in ("QA", "QB", "QC", "QD", "-x"):
        assert part not in said, said
    assert ("percent-encoded" in said) is any(mark in raw for mark in "@/"), said  # libpq ends a password at these


@settings(max_examples=200, deadline=None)
@given(password=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), raw=st.booleans())
def test_redaction_hides_every_password(password: str, raw: bool) -> None:
    """Percent-encoded as it should be, or pasted as it is: what is left does not depend on the password."""
    written = password if raw else quote(password, safe="")
    assert redact(f"postgresql://user:{written}@host:5432/db") == "postgresql://user:***@host:5432/db"


@settings(max_examples=100, deadline=None)
@given(user=st.from_regex(r"[a-z]{1,8}", fullmatch=True), host=st.from_regex(r"[a-z]{1,8}", fullmatch=True))
def test_redaction_keeps_the_rest(user: str, host: str) -> None:
    shown = urlsplit(redact(f"postgresql://{user}:secret@{host}:5432/db?application_name=x"))
    assert (shown.username, shown.hostname, shown.port, shown.path) == (user, host, 5432, "/db")
