"""The storage layer's errors: a closed list of reasons, one clear sentence each, and never a password.

What belongs here: the error classes, the translation of what psycopg, psycopg2, SQLAlchemy and ADBC raise
into them, and the redaction of URLs. What does not: connecting, retrying, and errors of importing, market
data or calculations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import ClassVar, Self
from urllib.parse import unquote

from psycopg import Error as PsycopgError
from psycopg.conninfo import conninfo_to_dict

MINIMUM_SERVER_MAJOR = 15
"""Oldest PostgreSQL major version the schema and the write path are made for."""


class StorageReason(StrEnum):
    """Why storage could not do what was asked: stable codes, one per class below."""

    SERVER_UNREACHABLE = "server_unreachable"
    SERVER_FULL = "server_full"
    SERVER_TOO_OLD = "server_too_old"
    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - a reason code, no password
    NOT_PERMITTED = "not_permitted"
    INVALID_URL = "invalid_url"
    DATABASE_MISSING = "database_missing"
    DATABASE_NOT_CREATED = "database_not_created"
    DATABASE_NOT_UTF8 = "database_not_utf8"
    SCHEMA_NOT_CREATED = "schema_not_created"
    SCHEMA_NEVER_RELEASED = "schema_never_released"
    SCHEMA_TOO_NEW = "schema_too_new"
    EMBEDDED_SERVER_FAILED = "embedded_server_failed"
    DATABASE_ERROR = "database_error"


class StorageError(Exception):
    """Base of the storage errors; `reason` is the stable code, the message one sentence for the operator."""

    reason: ClassVar[StorageReason]


class ServerUnreachableError(StorageError):
    """Nothing answers at the address, or the connection broke."""

    reason = StorageReason.SERVER_UNREACHABLE


class ServerFullError(StorageError):
    """The server has no free connection slot."""

    reason = StorageReason.SERVER_FULL


class ServerTooOldError(StorageError):
    """The server's major version is below `MINIMUM_SERVER_MAJOR`."""

    reason = StorageReason.SERVER_TOO_OLD

    @classmethod
    def of(cls, url: str, version: str) -> Self:
        """For a server that reports `version` (as `SHOW server_version` writes it)."""
        return cls(
            f"The server at {_place(url)} is PostgreSQL {version}; use one of version {MINIMUM_SERVER_MAJOR} or newer."
        )


class WrongPasswordError(StorageError):
    """The server refused the password, or the URL has none."""

    reason = StorageReason.WRONG_PASSWORD


class NotPermittedError(StorageError):
    """The role, or the operating system user, may not do this."""

    reason = StorageReason.NOT_PERMITTED


class InvalidUrlError(StorageError):
    """The connection URL cannot be read."""

    reason = StorageReason.INVALID_URL


class DatabaseMissingError(StorageError):
    """The database named by the URL does not exist."""

    reason = StorageReason.DATABASE_MISSING


class DatabaseNotCreatedError(StorageError):
    """The database could not be created."""

    reason = StorageReason.DATABASE_NOT_CREATED


class DatabaseNotUtf8Error(StorageError):
    """The database stores text in another encoding than UTF-8, or as bytes of none (SQL_ASCII)."""

    reason = StorageReason.DATABASE_NOT_UTF8

    @classmethod
    def of(cls, url: str, encoding: str) -> Self:
        """For a database whose `server_encoding` is `encoding`."""
        return cls(
            f"{_database(url)} on {_place(url)} is encoded in {encoding}, and text of users needs UTF8; name another "
            "one, made with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0."
        )


class SchemaNotCreatedError(StorageError):
    """The database has none, or an older state, of the tables this code reads and writes."""

    reason = StorageReason.SCHEMA_NOT_CREATED

    @classmethod
    def of(cls, url: str, detail: str = "") -> Self:
        """For a database without our tables; `detail`: PostgreSQL's words, where a statement found out."""
        said = f" ({detail})" if detail else ""
        return cls(f"{_database(url)} on {_place(url)} lacks SigmaSight's tables{said}; run `sigmasight db upgrade`.")


class SchemaNeverReleasedError(StorageError):
    """The database was made by a version before the first release, whose tables are not carried on."""

    reason = StorageReason.SCHEMA_NEVER_RELEASED

    @classmethod
    def of(cls, url: str, found: str) -> Self:
        """`found`: the migration the database is at."""
        return cls(
            f"{_database(url)} on {_place(url)} is at migration {found} of a version that was never released; its "
            "results are made again, not carried on: take an empty database, or `sigmasight reset` this one, and "
            "import your books again."
        )


class SchemaTooNewError(StorageError):
    """The database was migrated by a newer version of this code."""

    reason = StorageReason.SCHEMA_TOO_NEW

    @classmethod
    def of(cls, url: str, found: str, known: str) -> Self:
        """`found`: the migration the database is at; `known`: the newest one this code has."""
        return cls(
            f"{_database(url)} on {_place(url)} is at migration {found}, newer than this code's {known}; "
            "install the newer SigmaSight version that migrated it."
        )


class EmbeddedServerError(StorageError):
    """The embedded server could not be set up, started or stopped; `log_tail` holds its last log lines."""

    reason = StorageReason.EMBEDDED_SERVER_FAILED

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message, log_tail)
        self.log_tail = log_tail

    def __str__(self) -> str:
        return f"{self.args[0]}\n{self.log_tail}" if self.log_tail else str(self.args[0])


class UnexpectedDatabaseError(StorageError):
    """PostgreSQL reported something this list has no name for; the message carries its words."""

    reason = StorageReason.DATABASE_ERROR


_RULES: tuple[tuple[type[StorageError], frozenset[str], re.Pattern[str]], ...] = tuple(
    (error, frozenset(states.split()), re.compile(texts))
    for error, states, texts in (
        (
            InvalidUrlError,
            "",
            r"in connection info string|invalid percent-encoded|invalid connection option"
            r"|invalid (?:integer value|port|dsn)|Could not parse SQLAlchemy URL"
            r"|Can't load plugin: sqlalchemy|invalid \w+ value|unexpected spaces found|invalid URI"
            r"|missing matching",
        ),
        (WrongPasswordError, "28P01", r"password authentication failed|no password supplied"),
        (DatabaseMissingError, "3D000", r'database "[^"]*" does not exist'),
        (ServerFullError, "53300", r"too many clients|remaining connection slots|too many connections"),
        (
            DatabaseNotCreatedError,
            "42P04",
            r"permission denied to create database|permission denied for tablespace",
        ),
        (
            NotPermittedError,
            "28000 42501 25006",
            r"no pg_hba\.conf entry|pg_hba\.conf rejects|[Pp]ermission denied|role \"[^\"]*\" does not exist"
            r"|is not permitted to log in|must be owner of|read-only transaction"
            r"|is not currently accepting connections",
        ),
        (SchemaNotCreatedError, "3F000 42P01", r'(?:schema|relation) "[^"]*" does not exist'),
        (
            ServerUnreachableError,
            "57P01 57P02 57P03 08000 08001 08003 08004 08006",
            r"Connection refused|No such file or directory|could not translate host name"
            r"|failed to resolve host|timeout expired|[Tt]imed out|server closed the connection unexpectedly"
            r"|Connection reset|Network is unreachable|No route to host|the database system is [\w ]+"
            r"|terminating connection due to [\w ]+|connection (?:is|was|already) (?:lost|closed)"
            r"|SSL SYSCALL error|[Bb]roken pipe|server does not support SSL|consuming input failed",
        ),
    )
)
"""Which class an error becomes: by its SQLSTATE, or where it has none (a failed connect) by libpq's words."""

_DRIVERS = frozenset({"psycopg", "psycopg2", "adbc_driver_manager", "sqlalchemy"})

_PREFIXES = re.compile(r"^(?:\(\S+\) |[A-Z_]+: +|\[libpq\] |Failed to [\w ]+: |connection (?:failed|is bad): )+")


def explain(exception: BaseException, url: str) -> StorageError:
    """The storage error that says what `exception`, raised while using `url`, means to an operator.

    The exception's causes are searched too (SQLAlchemy and Dagster wrap the driver's error). Raise the
    result with ``from None``: a driver may quote the whole URL. What no rule names becomes
    `UnexpectedDatabaseError` with the first line of the driver's words.
    """
    chain = list(_chain(exception))
    for error in chain:
        if isinstance(error, StorageError):
            return error
    found = [error for error in chain if type(error).__module__.partition(".")[0] in _DRIVERS] or chain
    for error in found:
        words = _own_words(error)
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        for kind, states, texts in _RULES:
            match = texts.search(words)
            # Not to be allowed to create a database has no SQLSTATE of its own.
            if state in states or (match and (not state or kind is DatabaseNotCreatedError)):
                brief = match and kind is ServerUnreachableError  # the rest repeats the address
                return _sentence(kind, match.group() if match and brief else words, url)
    return _sentence(UnexpectedDatabaseError, _own_words(found[-1]), url)


def redact(url: str) -> str:
    """`url` (or a `key=value` connection string) with every password and secret replaced by `***`.

    Works on malformed text too, and then rather hides too much than too little: what cannot be told from a password
    is hidden with everything behind it.
    """
    scheme, separator, rest = url.partition("://")
    if not separator and (broken := re.match(r"\w[\w+]*:?/{1,2}", url)):
        scheme, separator, rest = broken.group(), "", url[broken.end() :]
    elif not separator:
        if "=" in url and ("@" not in url or _is_readable(url)):
            return _redacted_pairs(url)
        scheme, rest = "", url
    # The last @ of all: a password may hold a raw @, slash or question mark, where a parser would stop.
    credentials, at, place = rest.rpartition("@")
    if not scheme and not at:
        return "***" if url else ""
    if not at and ":" in (authority := re.split(r"[/?#]", place, maxsplit=1)[0]) and not _ends_in_ports(authority):
        return f"{scheme}{separator}***"  # what stands for a port may be a password whose @host was forgotten
    if ":" in credentials:
        credentials = f"{credentials.partition(':')[0]}:***"
    where, question, query = place.partition("?")
    pairs = query.split("&")
    if question and all("=" in pair for pair in pairs):
        query = "&".join(_SECRET_PAIR.sub(r"\1***", pair) for pair in pairs)
    elif question:
        query = "***"
    return f"{scheme}{separator}{credentials}{at}{where}{question}{query}"


_SECRET_PAIR = re.compile(r"(?is)^(\w*(?:pass|secret)\w*\s*=\s*).*$")


def _redacted_pairs(text: str) -> str:
    if _is_readable(text):
        return re.sub(r"(?i)(\w*(?:password|secret)\s*=\s*)('(?:\\.|[^'])*'|(?:\\.|[^\s\\])*)", r"\1***", text)
    return re.sub(r"(?is)(pass\w*|secret\w*)\b.*|('|\\).*", lambda found: f"{found[1] or ''}***", text)


def _ends_in_ports(authority: str) -> bool:
    """Whether every colon of hosts without credentials begins a port, or stands in an address in brackets."""
    return all(re.fullmatch(r"(?:\[[0-9a-fA-F:.%]+\]|[^:]*)(?::[0-9]*)?", host) for host in authority.split(","))


def _is_readable(text: str) -> bool:
    try:
        conninfo_to_dict(text)
    except PsycopgError:
        return False
    return True


def _sentence(kind: type[StorageError], words: str, url: str) -> StorageError:
    """The error of class `kind` with the sentence of that class; `words`: what the driver said."""
    shown, place, role = redact(url), _place(url), _role(url)
    words = _without_passwords(words, url)
    if _splits_password(url):
        kind = InvalidUrlError
    if kind is SchemaNotCreatedError:
        return SchemaNotCreatedError.of(url, words)
    if kind is WrongPasswordError and "no password supplied" in words:
        return WrongPasswordError(f"The server at {place} wants a password for {role} and {shown} has none; add it.")
    sentences: dict[type[StorageError], str] = {
        InvalidUrlError: f"The connection URL {shown} cannot be read; write it as "
        "postgresql://user:password@host:5432/database, special characters percent-encoded.",
        WrongPasswordError: f"The server at {place} refused the password of {role}; correct it in {shown}.",
        DatabaseMissingError: f"{_database(url)} does not exist on {place}; create it, or correct its name in {shown}.",
        ServerFullError: f"The server at {place} has no free connection; close other clients or raise its "
        "max_connections.",
        DatabaseNotCreatedError: f"{_database(url)} could not be created on {place} ({words}); have an "
        f"administrator create it, or let {role} create databases.",
        NotPermittedError: f"{place} does not permit this to {role} ({words}); have an administrator grant "
        "it, or use another role.",
        ServerUnreachableError: f"No PostgreSQL server answers at {place} ({words}); check that it runs and "
        f"that {shown} names the right host and port.",
        UnexpectedDatabaseError: f"PostgreSQL at {place} failed: {words}",
    }
    return kind(sentences[kind])


def _chain(exception: BaseException) -> Iterator[BaseException]:
    """The exception, what it wraps and what caused it, outermost first, each once."""
    waiting: list[object] = [exception]
    seen: set[int] = set()
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            yield error
            waiting += [getattr(error, "orig", None), error.__cause__, error.__context__]


def _own_words(error: BaseException) -> str:
    """First line of an error's text, without the drivers' prefixes and SQLAlchemy's appendix."""
    first = str(error).strip().partition("\n")[0]
    return _PREFIXES.sub("", first).strip() or type(error).__name__


def _without_passwords(words: str, url: str) -> str:
    raw = _raw_password(url)
    passwords = {raw, unquote(raw), str(_connection_options(url).get("password") or "")}
    for password in sorted(passwords - {""}, key=len, reverse=True):
        words = words.replace(password, "***")
    return words


def _splits_password(url: str) -> bool:
    """Whether libpq takes a part of a password that is not percent-encoded for host, port or database."""
    options = _connection_options(url)
    port, others = str(options.get("port", "")), f"{options.get('host', '')}{options.get('dbname', '')}"
    return not re.fullmatch(r"[\d,]*", port) or ("@" in others and re.search(r"[@/?]", _raw_password(url)) is not None)


def _raw_password(url: str) -> str:
    """What stands between the first colon and the last @ of a URL."""
    found = re.search(r"(?s)://[^:]*?:(.*)@", url)
    return found.group(1) if found else ""


def _parts(url: str) -> dict[str, object]:
    """What may be told of the URL's options: as libpq reads it without its password."""
    return _connection_options(redact(url))


def _connection_options(url: str) -> dict[str, object]:
    """The URL as libpq reads it (SQLAlchemy's `+driver` dropped); empty where libpq cannot."""
    try:
        return dict(conninfo_to_dict(re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", url)))
    except PsycopgError:
        return {}


def _place(url: str) -> str:
    parts = _parts(url)
    host, port = (
        str(parts.get("host") or parts.get("hostaddr") or "the default host"),
        parts.get("port") or 5432,
    )
    return f"socket {host}/.s.PGSQL.{port}" if host.startswith(("/", "@")) else f"{host}:{port}"


def _database(url: str) -> str:
    parts = _parts(url)
    return f'Database "{parts.get("dbname") or parts.get("user") or "postgres"}"'


def _role(url: str) -> str:
    user = _parts(url).get("user")
    return f'role "{user}"' if user else "the default role"
