"""A TCP door to the embedded server for tools that cannot use its socket (JDBC): open while asked for,
never by default.

What belongs here: passing bytes between 127.0.0.1:port and the server's socket. What does not:
authentication (the server's own scram, which the bytes carry) and anything about SQL.

PostgreSQL itself would have to be restarted to listen on TCP, and its socket is named after its port: that
would cut off every process at work. So the door is a forwarder that leaves the server as it is.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import EmbeddedServerError, NotPermittedError

LOCALHOST = "127.0.0.1"
_CHUNK = 256 * 1024


class _Forwarder(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False  # clients still connected do not keep the command from ending

    def __init__(self, port: int, target: Path) -> None:
        self.target = target
        super().__init__((LOCALHOST, port), _Connection)


class _Connection(socketserver.BaseRequestHandler):
    server: _Forwarder
    request: socket.socket

    def handle(self) -> None:
        """Pass bytes both ways until both sides have ended; a server that is gone ends the client's
        connection."""
        with socket.socket(socket.AF_UNIX) as upstream, suppress(OSError):
            upstream.connect(str(self.server.target))
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=_pass_on, args=(upstream, self.request), daemon=True)
            back.start()
            _pass_on(self.request, upstream)
            back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):  # either side may hang up at any time: for a forwarder that is the end, not a fault
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def forwarded(port: int, target: Path) -> Iterator[int]:
    """Forward 127.0.0.1:`port` (0: any free one) to the socket `target` inside the block; gives the port.

    Raises EmbeddedServerError where the port is taken, NotPermittedError where it is reserved.
    """
    try:
        forwarder = _Forwarder(port, target)
    except PermissionError as error:
        raise NotPermittedError(f"Port {port} of {LOCALHOST} is reserved; choose one above 1023.") from error
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", error)
        raise EmbeddedServerError(f"Port {port} of {LOCALHOST} cannot be opened ({reason}); choose another.") from error
    with forwarder:
        thread = threading.Thread(target=forwarder.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield int(forwarder.server_address[1])
        finally:
            forwarder.shutdown()
            thread.join()
