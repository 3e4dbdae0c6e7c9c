"""What is wrong with a value of a setting, in words that tell no secret.

What belongs here: the rules of addresses and paths, and how a wrong value is quoted. What does not: the settings
themselves (``settings``), and whether what a path names is there (who uses it).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

LONGEST_SHOWN = 80
"""Characters of a wrong value that are shown."""

GLOB_SIGNS = "*?["
"""Dagster looks for its configuration by a pattern: in a folder named with these it finds none, and goes on without."""

_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line breaks, and what Python makes of bytes that are no UTF-8."""


def absolute(path: Path) -> Path:
    """`path` without `~`, links and dots; a relative one is relative to the working directory."""
    return path.expanduser().resolve()


def path_fault(value: object) -> str | None:
    """What keeps a path from being written into messages and records; None where nothing does."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else ""
    if isinstance(text, str) and _UNWRITABLE.search(text):
        return (
            "its path holds a line break, a control character or bytes that are no UTF-8, and can stand in no message "
            "or record; rename it"
        )
    return None


def home_fault(home: Path) -> str | None:
    """Why no installation can live in `home`; None where one can, as far as the name goes."""
    try:
        path = str(absolute(home))
    except (RuntimeError, OSError):
        return f"SIGMASIGHT_HOME cannot be {shown(home)}: the path leads nowhere; choose a folder of your own"
    if fault := path_fault(path):
        return f"SIGMASIGHT_HOME cannot be {shown(path)}: {fault}"
    if signs := [sign for sign in GLOB_SIGNS if sign in path]:
        return (
            f"SIGMASIGHT_HOME cannot be {shown(path)}: Dagster finds no configuration in a folder with "
            f"{' or '.join(signs)} in its path; choose another folder"
        )
    return None


def webhook_fault(url: str) -> str | None:
    """What is wrong with a webhook's address, none of which is told; None where nothing is."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is no number is found out by asking for it
    except ValueError:
        return "must be an https:// address; its host or port cannot be read"
    if not url.isprintable() or " " in url or "\\" in url:
        return "must be an https:// address without blanks, backslashes and control characters"
    if parts.scheme not in ("https", "http") or not host:
        return "must be an https:// address"
    if "@" in parts.netloc:
        return "must be an https:// address without a user or password in it; receivers take their key in the path"
    if parts.scheme == "http" and not _is_this_machine(host):
        return "must be an https:// address; http:// is for a receiver on this machine (127.0.0.1, localhost)"
    return None


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shown(value: object) -> str:
    """A wrong value as an error quotes it, on one line and not endless."""
    text = str(value).encode(errors="backslashreplace").decode()
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…")


def may_be_secret(text: str) -> bool:
    """Whether a text looks like an address with a user, or names what people keep to themselves."""
    return re.search(r"://|@|(?i:pass|secret|token)", text) is not None


def owner_fault(owners: Iterable[str]) -> str | None:
    """What is wrong with owners of assets, as Dagster takes them; None where nothing is."""
    wrong = [owner for owner in owners if not re.fullmatch(r"team:[\w.-]+|[^@\s:]+@[^@\s]+\.[^@\s]+", owner)]
    return f"{', '.join(wrong)}: an owner is team:NAME or a mail address" if wrong else None
