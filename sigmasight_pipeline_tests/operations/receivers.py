"""Who receives alerts in tests: a webhook and a mail server on 127.0.0.1 that remember, refuse and hang as told.

What belongs here: the two servers. What does not: assertions.
"""

from __future__ import annotations

import base64
import itertools
import json
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECRET_PATH = "services/T00000000/B11111111/webhooksecret42"


@dataclass
class Webhook:
    """A webhook: `status` it answers with (0: it hangs until the test ends), what it got."""

    port: int = 0
    status: int = 200
    answer: str = "ok"
    location: str = ""
    got: list[dict[str, Any]] = field(default_factory=list)
    on_receive: Callable[[], None] = lambda: None
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{SECRET_PATH}"


@contextmanager
def webhook() -> Iterator[Webhook]:
    told = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            told.on_receive()
            if told.status == 0:
                told.released.wait()
                return
            self.send_response(told.status)
            if told.location:
                self.send_header("Location", told.location)
            self.end_headers()
            self.wfile.write(told.answer.encode())

        def log_message(self, *_: object) -> None:
            """Tests read what they need from `got`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.port = server.server_port
    with _served(server):
        try:
            yield told
        finally:
            told.released.set()


@dataclass
class MailServer:
    """A mail server: who may log in, which addresses it refuses, what it got, and every line it was told."""

    port: int = 0
    user: str = ""
    password: str = ""
    refused: set[str] = field(default_factory=set)
    tls: ssl.SSLContext | None = None
    got: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


class _Conversation(socketserver.StreamRequestHandler):
    told: MailServer

    def handle(self) -> None:
        self.wanted: list[str] = []
        self.say("220 mail")
        while line := self.rfile.readline():
            text = line.decode().strip()
            self.told.lines.append(text)
            verb = text.split(" ")[0].upper()
            if verb == "QUIT":
                self.say("221 bye")
                return
            getattr(self, f"do_{verb.lower()}", lambda _text: self.say("250 ok"))(text)

    def say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())
        self.wfile.flush()

    def do_ehlo(self, _text: str) -> None:
        offers = ["STARTTLS"] if self.told.tls is not None and not isinstance(self.connection, ssl.SSLSocket) else []
        offers += ["AUTH PLAIN"] if self.told.user else []
        self.say("250-mail", *(f"250-{offer}" for offer in offers), "250 8BITMIME")

    def do_starttls(self, _text: str) -> None:
        assert self.told.tls is not None
        self.say("220 go ahead")
        self.connection = self.told.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")

    def do_auth(self, text: str) -> None:
        given = base64.b64decode(text.split(" ")[2]).decode().split("\0")[1:]
        known = [self.told.user, self.told.password]
        self.say("235 welcome" if given == known else f"535 no such user: {' '.join(given)}")

    def do_rcpt(self, text: str) -> None:
        address = text.partition("<")[2].partition(">")[0]
        if address in self.told.refused:
            self.say("550 no such mailbox")
        else:
            self.wanted.append(address)
            self.say("250 ok")

    def do_data(self, _text: str) -> None:
        self.say("354 go on")
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line)
        message = message_from_bytes(b"".join(lines), policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.told.got.append(message)
        self.told.recipients.append(self.wanted)
        self.say("250 taken")


class _MailListener(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that turns away (an untrusted certificate) is no error of the test."""


@contextmanager
def mail_server(tls: ssl.SSLContext | None = None) -> Iterator[MailServer]:
    told = MailServer(tls=tls)
    server = _MailListener(("127.0.0.1", 0), type("Conversation", (_Conversation,), {"told": told}))
    told.port = server.server_address[1]
    with _served(server):
        yield told


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A fresh certificate for 127.0.0.1: the context of a server that has it, and the file that trusts it."""
    made, key = folder / "certificate.pem", folder / "key.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    subprocess.run(
        ["openssl", "req", *options.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", made],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return context, made


@contextmanager
def dripping(*pieces: bytes, seconds: float = 0.02) -> Iterator[tuple[int, threading.Event]]:
    """A server on that port that says each of `pieces` and then the last one for ever, a byte at a time; and the event
    that says it was left."""
    left = threading.Event()

    class Drip(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                for byte in itertools.chain(b"".join(pieces), itertools.cycle(pieces[-1])):
                    self.request.sendall(bytes([byte]))
                    if left.wait(seconds):
                        return
            except OSError:
                left.set()

    server = _MailListener(("127.0.0.1", 0), Drip)
    with _served(server):
        try:
            yield server.server_address[1], left
        finally:
            left.set()
