"""Sending one message: what receivers get, what happens when they refuse or hang, and that no secret is ever told."""

from __future__ import annotations

import logging
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from sigmasight_pipeline.operations import delivery
from sigmasight_pipeline.operations.delivery import Channel, DeliveryError, Secrets, channels
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline_tests.operations.receivers import (
    SECRET_PATH,
    MailServer,
    Webhook,
    certificate,
    dripping,
    mail_server,
    webhook,
)

PASSWORD = "mailpäss word42"

MESSAGE = {"topic": "run daily", "subject": "SigmaSight: daily failed – naïve", "body": "What failed.\n\nNext: …"}


def only_channel(**settings: Any) -> Channel:
    made = Settings(**settings)
    (channel,) = channels(made, Secrets.of(made))
    return channel


def hook(receiver: Webhook) -> Channel:
    return only_channel(alert_webhook_url=receiver.url)


def mailer(mail: MailServer, **changes: Any) -> Channel:
    settings: dict[str, Any] = {
        "alert_mail_to": "risk@example.com, ops@example.com",
        "alert_mail_from": "sigmasight@example.com",
        "smtp_host": "127.0.0.1",
        "smtp_port": mail.port,
        "smtp_starttls": False,
    }
    return only_channel(**settings | changes)


def failure(channel: Channel) -> str:
    """Why a delivery failed: in words, without secrets in them, in the error's causes or in the channel itself."""
    with pytest.raises(DeliveryError) as caught:
        channel.send(**MESSAGE)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    for text in (str(caught.value), repr(channel)):
        assert_no_secret(text)
    return str(caught.value)


def assert_no_secret(text: str) -> None:
    for secret in (SECRET_PATH, "webhooksecret42", "T00000000", PASSWORD):
        assert secret not in text


def test_a_webhook_gets_one_post_that_chats_and_programs_understand(receiver: Webhook) -> None:
    assert hook(receiver).send(**MESSAGE) is None
    assert receiver.got == [{**MESSAGE, "text": f"{MESSAGE['subject']}\n\n{MESSAGE['body']}"}]


def test_a_webhook_that_refuses_quotes_its_words_but_not_the_address(receiver: Webhook) -> None:
    receiver.status, receiver.answer = 404, f"Cannot POST /{SECRET_PATH}\n{'x' * 5000}"
    said = failure(hook(receiver))
    assert said.startswith(f"the webhook of 127.0.0.1:{receiver.port} answered 404 Not Found: Cannot POST /***")
    assert len(said) < 300


def test_a_redirect_is_not_followed(receiver: Webhook) -> None:
    with webhook() as other:
        receiver.status, receiver.location = 302, other.url
        assert "answered 302, a redirect, which is not followed: set SIGMASIGHT_ALERT_WEBHOOK_URL" in failure(
            hook(receiver)
        )
        assert other.got == []


def test_a_webhook_that_hangs_is_given_up(receiver: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    assert delivery.TIMEOUT_SECONDS == 10
    monkeypatch.setattr(delivery, "TIMEOUT_SECONDS", 0.2)
    receiver.status = 0
    began = time.monotonic()
    assert "did not answer within" in failure(hook(receiver))
    assert time.monotonic() - began < 5


HEAD = b"HTTP/1.1 500 Broken\r\nX-Drip: "
ENDLESS = {
    "in its status line": (b"HTTP/1.1 ", b"x"),
    "in a header": (HEAD, b"x"),
    "in ever more headers": (b"HTTP/1.1 500 Broken\r\n", b"X-Drip: x\r\n"),
    "in its words": (b"HTTP/1.1 500 Broken\r\nContent-Length: 1000000\r\n\r\n", b" "),
}


@pytest.mark.parametrize("where", ENDLESS)
def test_a_webhook_that_answers_for_ever_is_given_up(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert delivery.LONGEST_SECONDS == 20
    monkeypatch.setattr(delivery, "LONGEST_SECONDS", 0.5)
    with dripping(*ENDLESS[where]) as (port, left):
        began = time.monotonic()
        said = failure(only_channel(alert_webhook_url=f"http://127.0.0.1:{port}/{SECRET_PATH}"))
        assert time.monotonic() - began < 8
        assert left.wait(5), "the connection is ended, not only left alone"
    assert "was still answering after" in said


@pytest.mark.parametrize("pieces", [(b"220 mail ", b"x"), (b"", b"220-mail\r\n"), (b"220 mail\r\n250-", b"x")])
def test_a_mail_server_that_answers_for_ever_is_given_up(
    pieces: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LONGEST_SECONDS", 0.5)
    with dripping(*pieces, seconds=0.005) as (port, left):
        began = time.monotonic()
        assert "it was still answering after" in failure(mailer(MailServer(port=port)))
        assert time.monotonic() - began < 8
        assert left.wait(5)


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = taken.getsockname()[1]
        said = failure(only_channel(alert_webhook_url=f"http://127.0.0.1:{port}/{SECRET_PATH}"))
        assert said == f"the webhook of 127.0.0.1:{port} cannot be reached: [Errno 111] Connection refused"
        said = failure(mailer(MailServer(port=port)))
        assert said == f"the mail server 127.0.0.1:{port} did not take it: [Errno 111] Connection refused"


def test_libraries_log_no_address(receiver: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hook(receiver).send(**MESSAGE)
    receiver.status = 500
    failure(hook(receiver))
    assert_no_secret(caplog.text)
    assert not [record for record in caplog.records if record.name.startswith(("httpx", "httpcore"))]


def test_mail_arrives_whole_at_all_addresses(mail: MailServer) -> None:
    assert mailer(mail).send(**MESSAGE) is None
    (message,) = mail.got
    assert message["Subject"] == MESSAGE["subject"]
    assert message["From"] == "sigmasight@example.com"
    assert message["To"] == "risk@example.com, ops@example.com"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"]
    assert message["Message-ID"].endswith("@example.com>")
    assert message.get_content().strip().splitlines() == MESSAGE["body"].splitlines()
    assert mail.recipients == [["risk@example.com", "ops@example.com"]]


def test_an_address_the_server_refuses_keeps_nobody_else_from_the_mail(mail: MailServer) -> None:
    mail.refused = {"ops@example.com"}
    assert mailer(mail).send(**MESSAGE) == "ops@example.com was refused: 550 no such mailbox"
    assert mail.recipients == [["risk@example.com"]]
    mail.refused |= {"risk@example.com"}
    assert "risk@example.com: 550 no such mailbox; ops@example.com: 550 no such mailbox" in failure(mailer(mail))


def test_a_mail_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in failure(mailer(MailServer(port=silent.getsockname()[1])))


def test_login(mail: MailServer) -> None:
    mail.user, mail.password = "sigma", "plain secret"
    mailer(mail, smtp_user="sigma", smtp_password="plain secret").send(**MESSAGE)
    assert len(mail.got) == 1
    # the server answers with what it was given
    said = failure(mailer(mail, smtp_user="sigma", smtp_password="wrong secret"))
    assert said.endswith("did not take it: 535 no such user: sigma ***")
    assert len(mail.got) == 1
    assert_no_secret(failure(mailer(mail, smtp_user="sigma", smtp_password=PASSWORD)))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_mail_goes_over_tls_to_a_trusted_server_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls, trusted = certificate(tmp_path)
    with mail_server(tls) as mail:
        mail.user, mail.password = "sigma", "tls secret"
        channel = mailer(mail, smtp_starttls=True, smtp_user="sigma", smtp_password="tls secret")
        assert "certificate verify failed" in failure(channel)
        assert not [line for line in mail.lines if line.startswith("AUTH")]
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        channel.send(**MESSAGE)
        assert len(mail.got) == 1


def test_no_password_goes_to_a_server_without_tls(mail: MailServer) -> None:
    mail.user, mail.password = "sigma", "tls secret"
    said = failure(mailer(mail, smtp_starttls=True, smtp_user="sigma", smtp_password="tls secret"))
    assert "STARTTLS extension not supported" in said
    assert not [line for line in mail.lines if line.startswith(("AUTH", "MAIL", "DATA"))]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"POST https://hooks.example.com/{SECRET_PATH} failed", "POST *** failed"),
        ("no such token webhooksecret42", "no such token ***"),
        ("password is s3cr%40t or s3cr@t", "password is *** or ***"),
        ("server postgresql://u:other@h:5/x is gone", "server postgresql://u:***@h:5/x is gone"),
        ("dsn host=h password=other user=u", "dsn host=h password=*** user=u"),
        ("one pin 12 of 123", "one pin *** of 123"),
        ("https://example.com/a?b=c stays", "https://example.com/a?b=c stays"),
    ],
)
def test_secrets_are_hidden(text: str, hidden: str) -> None:
    settings = Settings(
        alert_webhook_url=f"https://hooks.example.com/{SECRET_PATH}",
        smtp_password="12",
        database_url="postgresql://sigma:s3cr%40t@db.example.com/sigmasight",
    )
    secrets = Secrets.of(settings)
    assert secrets.hide(text) == hidden
    assert "s3cr" not in repr(secrets)


def test_passwords_of_other_addresses_are_hidden() -> None:
    assert Secrets.of(Settings(), ["postgresql+psycopg2://u:an@other@h/x"]).hide("it is an@other") == "it is ***"


def test_no_setting_no_channel() -> None:
    assert channels(Settings(), Secrets(())) == []
