"""What a command's exit status says, the same for all of them.

What belongs here: the rule. What does not: which errors mean what (``cli.main``) and what a command finds.

0: fine, or done. 1: it was looked at, and something was found: a failed check, a gap, a file that is wrong, a run of
sessions that failed. 2: it could not be looked at or begun: the command line, a setting or a file is not to be used, no
server answers. A list (`runs`, `inbox`, `prices rejected`) is an answer and no finding. Whoever watches reads 1 as "see
what it says" and anything above as "nobody knows".
"""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """The exit statuses; a command that hands over to another program (`db psql`) passes on that program's own."""

    FINE = 0
    FOUND = 1
    COULD_NOT = 2
    UNEXPECTED = 70
    """An error nobody expected (sysexits' EX_SOFTWARE)."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C or by the answer to a question, as shells have it."""


RULE = "Exit status 0: fine; 1: something was found; 2: it could not be looked at, or the command line is wrong."
"""The rule in one line, as `sigmasight --help` says it."""
