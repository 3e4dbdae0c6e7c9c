"""The one HTTP client: what it bounds, what it does not follow, and that its errors quote no secret."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sigmasight_pipeline.market_data.http import (
    BodyTooLargeError,
    HttpClient,
    HttpError,
    HttpTimeoutError,
    Limits,
    Response,
)

SECRET = "token-of-a-vendor-42"
LARGE = b"0123456789" * 1000
OVER = threading.Event()
UNBOUNDED = Limits()


class Vendor(BaseHTTPRequestHandler):
    """Answers by path; `drip` never ends and has no length."""

    def do_GET(self) -> None:
        what = self.path.partition("?")[0].strip("/")
        self.send_response({"moved": 302, "refused": 403}.get(what, 200), "As Told")
        if what == "moved":
            self.send_header("Location", "/large")
        body = {"large": LARGE, "packed": gzip.compress(LARGE)}.get(what, json.dumps({"path": self.path}).encode())
        if what == "packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        try:
            while what == "drip" and not OVER.is_set():
                self.wfile.write(b".")
                time.sleep(0.05)
            if what == "silent":
                OVER.wait()
            self.wfile.write(body)
        except OSError:
            return  # the client has gone

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Vendor) as vendor:
        threading.Thread(target=vendor.serve_forever, daemon=True).start()
        try:
            yield f"http://user:{SECRET}@127.0.0.1:{vendor.server_port}"
        finally:
            OVER.set()
            vendor.shutdown()


def asked(address: str, what: str, limits: Limits = UNBOUNDED, *, status_only: bool = False) -> Response:
    with HttpClient("vendor", lambda text: text.replace(SECRET, "***"), limits) as client:
        return client.request("GET", f"{address}/{what}", params={"key": SECRET}, status_only=status_only)


def test_an_answer_comes_whole_whatever_its_status(address: str) -> None:
    for what, status in (("anything", 200), ("refused", 403)):
        answer = asked(address, what)
        assert (answer.status, answer.reason, answer.is_success) == (status, "As Told", status == 200)
        assert json.loads(answer.body) == {"path": f"/{what}?key={SECRET}"}


def test_a_redirect_is_told_and_not_followed(address: str) -> None:
    answer = asked(address, "moved")
    assert (answer.status, answer.is_redirect, answer.headers["location"]) == (302, True, "/large")


@pytest.mark.parametrize("what", ["large", "packed"])
def test_a_body_is_bounded_as_it_is_unpacked(address: str, what: str) -> None:
    assert asked(address, what, Limits(body_bytes=len(LARGE))).body == LARGE
    with pytest.raises(BodyTooLargeError, match=r"the vendor of 127.0.0.1:\d+ answered more than 9,999 bytes"):
        asked(address, what, Limits(body_bytes=len(LARGE) - 1))


def test_with_the_status_alone_a_success_is_not_read_and_a_refusal_is_begun(address: str) -> None:
    assert asked(address, "drip", status_only=True).body == b""
    assert asked(address, "refused", Limits(body_bytes=5), status_only=True).body == b'{"pat'


@pytest.mark.parametrize(
    ("what", "limits", "said"),
    [
        ("drip", Limits(total_seconds=0.5), "was still answering after 0 s"),
        ("silent", Limits(silence_seconds=0.2), "did not answer within 0 s"),
    ],
)
def test_who_never_ends_is_given_up(address: str, what: str, limits: Limits, said: str) -> None:
    with pytest.raises(HttpTimeoutError, match=said) as raised:
        asked(address, what, limits)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://127.0.0.1:x", f"gopher://{SECRET}/", "http://a\x00b/"])
def test_an_address_nobody_answers_at_is_a_sentence_without_a_secret(url: str) -> None:
    with (
        HttpClient("vendor", lambda text: text.replace(SECRET, "***")) as client,
        pytest.raises(HttpError, match=r"the vendor of .* cannot be reached") as raised,
    ):
        client.request("GET", url, params={"key": SECRET})
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
