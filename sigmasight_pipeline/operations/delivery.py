"""Sending one message to people: the webhook, mail, and what must never be read in either or in their errors.

What belongs here: one class per channel, the channels the settings name, and hiding secrets in text. What does not:
what a message says, when it is sent and what happens when it could not be (``operations.alerts``).
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import ClassVar, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from sigmasight_pipeline.market_data.deadline import cut_after
from sigmasight_pipeline.market_data.http import HttpClient, HttpError, Limits, Response
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage.errors import redact

TIMEOUT_SECONDS = 10.0
"""A receiver that says nothing for this long has failed."""

LONGEST_SECONDS = 20.0
"""A receiver that has not taken a message after this long has failed, whatever it says meanwhile."""

LONGEST_ANSWER = 200
"""Characters of a receiver's complaint that are kept."""

LONGEST_ERROR = 500
"""Characters of an error that are kept."""

SHORTEST_SECRET = 4
"""A shorter secret is hidden as a whole word only: it would be found in half of all words."""

SHORTEST_PART = 8
"""A part of the webhook's path or query this long is a secret by itself."""

SETTINGS_NEEDED = (
    "SIGMASIGHT_ALERT_WEBHOOK_URL, or SIGMASIGHT_ALERT_MAIL_TO with SIGMASIGHT_ALERT_MAIL_FROM and SIGMASIGHT_SMTP_HOST"
)
"""What to set where nothing is."""


class DeliveryError(Exception):
    """A message that could not be delivered; says by whom and why, without secrets."""


class Channel(Protocol):
    """A way to people."""

    name: ClassVar[str]

    def send(self, *, topic: str, subject: str, body: str) -> str | None:
        """Deliver now, or DeliveryError; returns what there is to say of a delivery not everybody got."""


@dataclass(frozen=True)
class Secrets:
    """Text that must never be read by anybody, and hiding it."""

    known: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Secrets({len(self.known)})"

    @classmethod
    def of(cls, settings: Settings, urls: Iterable[str] = ()) -> Secrets:
        """The secrets of `settings` and the passwords of further database `urls`."""
        found: set[str] = set()
        if settings.alert_webhook_url is not None:
            found |= _parts_of_address(settings.alert_webhook_url.get_secret_value())
        if settings.smtp_password is not None:
            found.add(settings.smtp_password.get_secret_value())
        stated = [] if settings.database_url is None else [settings.database_url.get_secret_value()]
        for url in (*stated, *urls):
            # the last @: a password may hold one itself
            if password := re.match(r"\w[\w+]*://[^:/@]*:(.*)@", url):
                found.add(password.group(1))
        found |= {unquote(secret) for secret in found}
        return cls(tuple(sorted(found - {""}, key=len, reverse=True)))

    def hide(self, text: str) -> str:
        """`text` with every secret replaced by `***`, and whatever looks like an address with a password redacted."""
        for secret in self.known:
            if len(secret) < SHORTEST_SECRET:
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
            else:
                text = text.replace(secret, "***")
        # begun at the start of a word only: from each of its letters anew, a long word would take for ever
        return re.sub(
            r"(?i)(?<![\w+])\w[\w+]*://\S+|(?<!\w)\w*(?:password|secret)\s*=\s*(?:'[^']*'|\S+)",
            lambda found: redact(found.group()),
            text,
        )


def _parts_of_address(url: str) -> set[str]:
    """The address, its path, and every long part of it: a receiver may quote any of them."""
    parts = urlsplit(url)
    pieces = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query)), parts.fragment]
    whole = {url, parts.path.strip("/"), parts.query, parts.password or ""}
    return {text for text in whole if len(text) >= SHORTEST_SECRET} | {p for p in pieces if len(p) >= SHORTEST_PART}


class _MailServer(smtplib.SMTP):
    """A conversation with a mail server that is in `begun` before its first word is waited for."""

    sock: socket.socket | None = None

    def __init__(self, host: str, port: int, begun: list[_MailServer]) -> None:
        begun.append(self)
        super().__init__(host, port, timeout=TIMEOUT_SECONDS)


@dataclass(frozen=True)
class Webhook:
    """Posts JSON: `text` is what Slack, Teams and their like show; `subject`, `body` and `topic` are for programs."""

    name: ClassVar[str] = "webhook"

    url: SecretStr
    secrets: Secrets

    def send(self, *, topic: str, subject: str, body: str) -> None:
        """Deliver by one POST that must be answered with 2xx."""
        message = {"text": f"{subject}\n\n{body}", "subject": subject, "body": body, "topic": topic}
        limits = Limits(TIMEOUT_SECONDS, LONGEST_SECONDS, LONGEST_ANSWER)
        try:
            with HttpClient("webhook", self.secrets.hide, limits) as client:
                url = self.url.get_secret_value()
                response = client.request("POST", url, json=message, status_only=True)
                error = None if response.is_success else _complaint(client.place(url), response)
        except HttpError as problem:
            error = str(problem)
        if error is not None:
            raise DeliveryError(_cut(self.secrets.hide(error))) from None


def _complaint(place: str, response: Response) -> str:
    if response.is_redirect:
        return (
            f"{place} answered {response.status}, a redirect, which is not followed: "
            "set SIGMASIGHT_ALERT_WEBHOOK_URL to the address it leads to"
        )
    said = response.body.decode(errors="replace")
    return f"{place} answered {response.status} {response.reason}: {' '.join(said.split())}"


@dataclass(frozen=True)
class Mail:
    """Mails plain text through an SMTP server."""

    name: ClassVar[str] = "mail"

    host: str
    port: int
    starttls: bool
    user: str | None
    password: SecretStr | None
    sender: str
    to: tuple[str, ...]
    secrets: Secrets

    def send(self, *, topic: str, subject: str, body: str) -> str | None:
        """Deliver one mail to all addresses; returns which of them the server refused, where it took others."""
        try:
            message = self._message(topic, subject, body)
            refused = self._told(message)
        except (smtplib.SMTPException, OSError, ValueError) as problem:
            error = f"the mail server {self.host}:{self.port} did not take it: {_words(problem)}"
            raise DeliveryError(_cut(self.secrets.hide(error))) from None
        if not refused:
            return None
        remark = "; ".join(f"{address} was refused: {_answer(*answer)}" for address, answer in refused.items())
        return _cut(self.secrets.hide(remark))

    def _told(self, message: EmailMessage) -> dict[str, tuple[int, bytes]]:
        """Hand `message` over; returns the addresses the server refused. TimeoutError where that takes too long."""
        begun: list[_MailServer] = []
        with cut_after(LONGEST_SECONDS, lambda: begun[0].sock if begun else None) as is_cut:
            try:
                with _MailServer(self.host, self.port, begun) as server:
                    if self.starttls:
                        server.starttls(context=ssl.create_default_context())
                    if self.user is not None:
                        server.login(self.user, self.password.get_secret_value() if self.password else "")
                    return server.send_message(message)
            except (smtplib.SMTPException, OSError):
                if is_cut.is_set():
                    raise TimeoutError(f"it was still answering after {LONGEST_SECONDS:.0f} s") from None
                raise

    def _message(self, topic: str, subject: str, body: str) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = subject
        message["From"] = self.sender
        message["To"] = ", ".join(self.to)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self.sender.rpartition("@")[2].strip("> ") or None)
        message["Auto-Submitted"] = "auto-generated"  # nobody's absence is reported back
        message["X-SigmaSight-Topic"] = topic
        message.set_content(body)
        return message


def channels(settings: Settings, secrets: Secrets) -> list[Channel]:
    """The channels the settings name; none where they name none."""
    found: list[Channel] = []
    if settings.alert_webhook_url is not None:
        found.append(Webhook(settings.alert_webhook_url, secrets))
    if settings.alert_mail_to and settings.smtp_host and settings.alert_mail_from:
        found.append(
            Mail(
                host=settings.smtp_host,
                port=settings.smtp_port,
                starttls=settings.smtp_starttls,
                user=settings.smtp_user,
                password=settings.smtp_password,
                sender=settings.alert_mail_from,
                to=settings.alert_mail_to,
                secrets=secrets,
            )
        )
    return found


def _words(problem: Exception) -> str:
    """What a library's error says, with an SMTP server's answer as a sentence."""
    if isinstance(problem, smtplib.SMTPRecipientsRefused):
        return "; ".join(f"{address}: {_answer(*answer)}" for address, answer in problem.recipients.items())
    if isinstance(problem, smtplib.SMTPResponseException):
        return _answer(problem.smtp_code, problem.smtp_error)
    return str(problem) or type(problem).__name__


def _answer(code: int, text: bytes | str) -> str:
    said = text.decode(errors="replace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(said.split())}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_ERROR else f"{text[: LONGEST_ERROR - 4]} ..."
