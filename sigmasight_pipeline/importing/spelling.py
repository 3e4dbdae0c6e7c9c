"""How numbers and dates must be spelt in a file, and what a differently spelt one most likely means.

What belongs here: the accepted form of a number and of a date, and the guesses an error message offers for
thousands separators, currency signs, brackets and foreign date orders. What does not: which values a column
takes (``cells``). A guess is only ever shown, never used.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")

LONGEST_GUESSED = 64
"""Characters of a number or date whose meaning is guessed; a longer text is nobody's spelling of one."""

_DOLLARS = ("US$", "USD", "$")
_GROUPED = re.compile(r"[0-9]{1,3}(?:([ '_,])[0-9]{3})(?:\1[0-9]{3})*(?:\.[0-9]*)?")
_DECIMAL_COMMA = re.compile(r"(?:[0-9]+|[0-9]{1,3}(?:([.' ])[0-9]{3})(?:\1[0-9]{3})*),[0-9]+")
_DOTS_ONLY = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3}){2,}")
_SCIENTIFIC = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,20})?[eE][+-]?[0-9]{1,2}")
_AMBIGUOUS_COMMA = re.compile(r"[0-9]{1,3},[0-9]{3}")

_NUMERIC_DATE = re.compile(r"([0-9]{1,4})([/.\- ])([0-9]{1,2})\2([0-9]{1,4})")
_COMPACT_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_ISO_INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ][0-9:.]+(?:Z|[+-][0-9:]+)?")
_DAY_MONTH_NAME = re.compile(r"([0-9]{1,2})[ \-/.]+([A-Za-z]{3,9})[ \-/.,]+([0-9]{4})")
_MONTH_NAME_DAY = re.compile(r"([A-Za-z]{3,9})[ \-/.]+([0-9]{1,2})[ \-/.,]+([0-9]{4})")
_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)


def number(text: str) -> Decimal | None:
    """The exact number `text` is, or None: digits with at most one point, an optional sign, nothing else."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def number_guesses(text: str) -> list[str]:
    """Plain spellings of what `text` may mean, most likely first; empty where it is no number at all.

    `$1,234.50`, `1.234,50` and `1 234.50` mean 1234.50; `(100)` and `100-` mean -100; `1e5` means 100000;
    `1,234` may mean 1234 or 1.234. Currencies other than US dollars are not guessed: amounts are US dollars.
    """
    if len(text) > LONGEST_GUESSED:
        return []
    body = text.replace("\u2212", "-").replace("\u2013", "-").replace("\u2019", "'")
    body = re.sub(r"\s", " ", body)
    negative = False
    if body.startswith("(") and body.endswith(")"):
        body, negative = body[1:-1].strip(), True
    sign = re.match(r"[+-]", body)
    body = _without_dollars(body.lstrip("+-").strip())
    trailing = body.endswith("-")
    inner_sign = re.match(r"[+-]", body)
    negative ^= any(mark and mark[0] == "-" for mark in (sign, inner_sign)) or trailing
    body = body.lstrip("+-").rstrip("-").strip()
    minus = "-" if negative else ""
    return [minus + guess for guess in _unsigned_guesses(body)]


def _without_dollars(text: str) -> str:
    """`text` without a dollar sign before it, and without one behind it."""
    for sign in _DOLLARS:
        if text.upper().startswith(sign):
            text = text[len(sign) :].lstrip()
            break
    for sign in _DOLLARS:
        if text.upper().endswith(sign):
            text = text[: -len(sign)].rstrip()
            break
    return text


def _unsigned_guesses(body: str) -> list[str]:
    if _NUMBER.fullmatch(body):
        return [body]
    if _SCIENTIFIC.fullmatch(body):
        return [f"{Decimal(body):f}"]
    guesses = []
    if _GROUPED.fullmatch(body):
        guesses.append(re.sub(r"[ '_,]", "", body))
    if _DOTS_ONLY.fullmatch(body):
        guesses.append(body.replace(".", ""))
    if _DECIMAL_COMMA.fullmatch(body) and (not guesses or _AMBIGUOUS_COMMA.fullmatch(body)):
        guesses.append(re.sub(r"[.' ]", "", body).replace(",", "."))
    return guesses


def iso_date(text: str) -> date | None:
    """The day `text` is in the form YYYY-MM-DD, or None (another form, or no such day)."""
    match = _ISO_DATE.fullmatch(text)
    return _day(*match.groups()) if match else None


def date_hint(text: str) -> str:
    """The end of the sentence about a wrong date: what to write, where that can be told."""
    if len(text) > LONGEST_GUESSED:
        return ""
    if _ISO_DATE.fullmatch(text):
        return ": there is no such day"
    guesses = sorted(set(_date_guesses(text)))
    return f"; write {' or '.join(day.isoformat() for day in guesses)}" if guesses else ""


def _date_guesses(text: str) -> list[date]:
    candidates: list[tuple[str, str, str]] = []
    if match := _ISO_INSTANT.fullmatch(text):
        return [day] if (day := iso_date(match[1])) else []
    if match := _COMPACT_DATE.fullmatch(text):
        candidates = [(match[1], match[2], match[3])]
    elif match := _NUMERIC_DATE.fullmatch(text):
        first, separator, middle, last = match.groups()
        if len(first) == 4:
            candidates = [(first, middle, last)]
        elif len(last) == 4:
            # A point between numbers is the continental order, day first; elsewhere both orders are in use.
            candidates = [(last, middle, first)] + ([] if separator == "." else [(last, first, middle)])
    elif match := _DAY_MONTH_NAME.fullmatch(text):
        candidates = [(match[3], _month(match[2]), match[1])]
    elif match := _MONTH_NAME_DAY.fullmatch(text):
        candidates = [(match[3], _month(match[1]), match[2])]
    return [day for candidate in candidates if (day := _day(*candidate))]


def _month(name: str) -> str:
    numbers = [str(position) for position, month in enumerate(_MONTHS, 1) if month.startswith(name.lower())]
    return numbers[0] if numbers else "0"


def _day(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None
