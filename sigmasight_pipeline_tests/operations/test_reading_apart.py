"""Reading apart: what takes too long or breaks is ended and told, and nobody else waits for it."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from sigmasight_pipeline.importing.positions import parse_positions
from sigmasight_pipeline.operations.reading_apart import SMALL_BYTES, ReadingApart, SlowFileError
from sigmasight_pipeline_tests.importing.cases import CALENDAR, FIRST_STORED_SESSION, TODAY

LARGE = b"x" * (SMALL_BYTES + 1)


def length(content: bytes) -> int:
    return len(content)


def reader(_content: bytes) -> int:
    return os.getpid()


def without_end(content: bytes) -> bool:
    """One call into a library that holds the interpreter, as the expressions did that this is for."""
    return re.fullmatch(rb"(x+)+y", content[:60]) is not None


def breaks(_content: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raises(_content: bytes) -> None:
    raise KeyError("what is wrong")


@pytest.fixture(scope="module")
def reading() -> Iterator[ReadingApart]:
    """One for all tests: each leaves it as good as new."""
    with ReadingApart(seconds=60) as opened:
        yield opened


def test_a_large_file_is_read_in_another_process_that_is_used_again(reading: ReadingApart) -> None:
    first = reading(reader, LARGE)
    assert first != os.getpid()
    assert reading(reader, LARGE) == first
    assert reading(length, LARGE) == len(LARGE)
    assert reading(reader, LARGE[1:]) == os.getpid(), "a small one is not worth it"


def test_it_gives_what_reading_here_gives(reading: ReadingApart) -> None:
    content = b"ticker,quantity,entry_price,entry_date,tags,notes\n" + b"".join(
        b'F%d,%d,1.5,2024-01-%02d,"a,b",x\n' % (n, n % 7, n % 31 + 1) for n in range(1000)
    )
    details = {
        "file_name": "x.csv",
        "calendar": CALENDAR,
        "today": TODAY,
        "first_stored_session": FIRST_STORED_SESSION,
    }
    apart, here = reading(parse_positions, content, **details), parse_positions(content, **details)
    assert apart == here
    assert here.errors
    content = content.replace(b",0,1.5", b",9,1.5")
    apart, here = reading(parse_positions, content, **details), parse_positions(content, **details)
    assert apart.frame().equals(here.frame())
    assert here.frame().height == 1000


def test_what_never_ends_is_ended_and_holds_nobody_up(reading: ReadingApart) -> None:
    before = reading(reader, LARGE)
    beats: list[float] = []
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.05):
            beats.append(time.monotonic())

    heart = threading.Thread(target=beat)
    heart.start()
    reading._seconds = 1
    try:
        with pytest.raises(SlowFileError, match="was not read within 1 s and is set aside; split it, or raise SIGMA"):
            reading(without_end, LARGE)
    finally:
        reading._seconds = 60
        over.set()
        heart.join()
    assert len(beats) > 5, "this process went on meanwhile"
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)
    assert reading(reader, LARGE) != before


def test_what_breaks_its_process_is_told_and_the_next_is_read(reading: ReadingApart) -> None:
    with pytest.raises(SlowFileError, match="reading it ended the process that read it; it is set aside"):
        reading(breaks, LARGE)
    assert reading(length, LARGE) == len(LARGE)


def test_an_error_comes_back(reading: ReadingApart) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'what is wrong'"):
        reading(raises, LARGE)
    assert reading(length, LARGE) == len(LARGE)


def test_nothing_is_left_behind() -> None:
    with ReadingApart(seconds=60) as opened:
        process = opened(reader, LARGE)
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
