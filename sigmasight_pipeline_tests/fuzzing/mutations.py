"""Mutating an input: what typing errors, other programs, broken transfers and bad will make of a good file.

What belongs here: turning bytes into other bytes by a seeded generator. What does not: what the bytes mean.
"""

from __future__ import annotations

import random
from collections.abc import Callable

TOKENS = (
    b"",
    b",",
    b";",
    b'"',
    b'""',
    b"\n",
    b"\r",
    b"\r\n",
    b"\t",
    b"\0",
    b" ",
    b"#",
    b"-",
    b":",
    b"- ",
    b"{",
    b"[",
    b"&a ",
    b"*a",
    b"!!str ",
    b"'",
    b"|",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    "\u2028".encode(),
    "\u00a0".encode(),
    "\u0661".encode(),
    "\u202e".encode(),
    "\ufffd".encode(),
    b"NaN",
    b"inf",
    b"-0",
    b"1e400",
    b"1e5",
    b"9" * 40,
    b"0." + b"0" * 40 + b"1",
    b"1_000",
    b"1,000",
    b"(5)",
    b"$5",
    b"0001-01-01",
    b"9999-12-31",
    b"2024-02-30",
    b"2024-13-01",
    b"1/2/24",
    b"2024-01-02T00:00:00Z",
    b"true",
    b"null",
    b"=1+1",
    b"../../etc/passwd",
    b"%s%n",
    b"\x1b[31m",
    b"AAPL240119C00150000",
    b"AAPL1240119C00150000",
    b"AAPL240230C00000000",
)
"""What is put in or in the place of something."""

LONGEST_REPEAT = 200_000
"""Bytes of what is repeated, at most; longer than the longest value a reader takes."""

Mutation = Callable[[random.Random, bytes], bytes]


def _cut(generator: random.Random, content: bytes) -> tuple[int, int]:
    """Two places in order, mostly near each other."""
    first = generator.randint(0, len(content))
    return first, min(len(content), first + generator.choice((0, 1, 2, 5, 20, 200)))


def insert(generator: random.Random, content: bytes) -> bytes:
    place = generator.randint(0, len(content))
    return content[:place] + generator.choice(TOKENS) + content[place:]


def replace(generator: random.Random, content: bytes) -> bytes:
    first, last = _cut(generator, content)
    return content[:first] + generator.choice(TOKENS) + content[last:]


def flip(generator: random.Random, content: bytes) -> bytes:
    if not content:
        return content
    place = generator.randrange(len(content))
    return content[:place] + bytes([generator.randrange(256)]) + content[place + 1 :]


def repeat(generator: random.Random, content: bytes) -> bytes:
    first, last = _cut(generator, content)
    piece = content[first:last] or generator.choice(TOKENS)
    times = min(generator.choice((2, 3, 50, 3_000, 150_000)), LONGEST_REPEAT // max(1, len(piece)))
    return content[:last] + piece * times + content[last:]


def truncate(generator: random.Random, content: bytes) -> bytes:
    return content[: generator.randint(0, len(content))]


def exchange_cell(generator: random.Random, content: bytes) -> bytes:
    """Another cell's text, or a token, in the place of one cell."""
    lines = content.split(b"\n")
    number = generator.randrange(len(lines))
    cells = lines[number].split(b",")
    cells[generator.randrange(len(cells))] = generator.choice(
        (*TOKENS, *content.replace(b"\n", b",").split(b",")[:200])
    )
    lines[number] = b",".join(cells)
    return b"\n".join(lines)


def exchange_lines(generator: random.Random, content: bytes) -> bytes:
    """A line taken out, written twice, or brought elsewhere."""
    lines = content.split(b"\n")
    line = lines.pop(generator.randrange(len(lines)))
    for _ in range(generator.randrange(3)):
        lines.insert(generator.randint(0, len(lines)), line)
    return b"\n".join(lines)


def encode(generator: random.Random, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(generator.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7")), "replace")


MUTATIONS: tuple[tuple[Mutation, int], ...] = (
    (insert, 4),
    (replace, 4),
    (flip, 3),
    (repeat, 3),
    (exchange_cell, 6),
    (exchange_lines, 3),
    (truncate, 1),
    (encode, 1),
)
"""Each with how often it is chosen."""


def mutated(generator: random.Random, content: bytes) -> bytes:
    """`content` after one to six mutations; never more than a few hundred thousand bytes longer."""
    functions, weights = zip(*MUTATIONS, strict=True)
    for mutation in generator.choices(functions, weights, k=generator.choice((1, 1, 2, 3, 6))):
        if len(content) < 2 * LONGEST_REPEAT:
            content = mutation(generator, content)
    return content
