"""HTTP as everything here speaks it: bounded in time and size, no redirects, and errors that quote no secret.

What belongs here: the one client, which alone knows the library behind it, so that its successor is a change of this
file. What does not: what is asked of whom, retrying, and limits of rate (the callers).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from sigmasight_pipeline.market_data.deadline import cut_after

for _name in ("httpx", "httpcore"):  # they log whole addresses
    logging.getLogger(_name).setLevel(logging.WARNING)


class HttpError(Exception):
    """A request without an answer; says of whom and why, without secrets."""


class HttpTimeoutError(HttpError):
    """Who was asked said nothing for too long, or was still talking after too long."""


class BodyTooLargeError(HttpError):
    """The answer is larger than it may be."""


@dataclass(frozen=True)
class Limits:
    """What an answer may take: seconds of silence, seconds in all, bytes of body (decompressed)."""

    silence_seconds: float = 10.0
    total_seconds: float = 60.0
    body_bytes: int = 50_000_000


@dataclass(frozen=True)
class Response:
    """An answer, whatever its status; `headers` by their names in lower case."""

    status: int
    reason: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def is_redirect(self) -> bool:
        """Whether it leads elsewhere; that is not followed."""
        return 300 <= self.status < 400 and "location" in self.headers


@dataclass
class _Connection:
    """The socket a request goes over, as the library tells of it while it works."""

    socket: socket.socket | None = None

    def follow(self, event: str, details: Mapping[str, Any]) -> None:
        """Remember the socket of the newest connection, or of the TLS that was begun on it."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self.socket = details["return_value"].get_extra_info("socket")


@dataclass
class HttpClient:
    """A client for requests to one receiver, called `name` in errors; connections are kept while it is open.

    `hide` takes secrets out of whatever an error quotes; addresses are never quoted, only their host.
    """

    name: str
    hide: Callable[[str], str]
    limits: Limits = field(default_factory=Limits)
    _connection: _Connection = field(default_factory=_Connection, init=False, repr=False)

    def __post_init__(self) -> None:
        self._client = httpx.Client(timeout=self.limits.silence_seconds, follow_redirects=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object | None = None,
        status_only: bool = False,
    ) -> Response:
        """One request and its answer, redirects included.

        With `status_only` the body of a success is left unread, and of any other answer its beginning is read. Raises
        HttpTimeoutError, BodyTooLargeError (without `status_only`) and HttpError.
        """
        sent = {"params": params, "headers": headers, "json": json}
        error: HttpError | None = None
        try:
            with cut_after(self.limits.total_seconds, lambda: self._connection.socket) as is_cut:
                answer = self._answer(method, url, status_only, sent)
        except HttpError as problem:
            error = problem
        except httpx.TimeoutException:
            error = HttpTimeoutError(f"did not answer within {self.limits.silence_seconds:.0f} s")
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as problem:
            error = HttpError(f"cannot be reached: {str(problem) or type(problem).__name__}")
        # a body without a length ends like a whole one where it was cut
        if is_cut.is_set() and not (error is None and status_only and answer.is_success):
            error = HttpTimeoutError(f"was still answering after {self.limits.total_seconds:.0f} s")
        if error is None:
            return answer
        # never the library's error: it holds the request, and with it the address
        raise type(error)(self.hide(f"{self.place(url)} {error}")) from None

    def place(self, url: str) -> str:
        """The receiver without what is secret of its address."""
        return f"the {self.name} of {urlsplit(url).netloc.rpartition('@')[2]}"

    def _answer(self, method: str, url: str, status_only: bool, sent: Mapping[str, Any]) -> Response:
        body, longest = bytearray(), self.limits.body_bytes
        with self._client.stream(method, url, extensions={"trace": self._connection.follow}, **sent) as response:
            for piece in () if status_only and response.is_success else response.iter_bytes():
                body += piece
                if len(body) > longest and not status_only:
                    raise BodyTooLargeError(f"answered more than {longest:,} bytes")
                if len(body) >= longest and status_only:
                    break
        return Response(
            status=response.status_code,
            reason=response.reason_phrase,
            body=bytes(body[:longest]),
            headers={name.lower(): value for name, value in response.headers.items()},
        )
