"""Stands before a real S3 server, counts what it passes on, and does what networks do."""

from __future__ import annotations

import http.client
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from attrs import define, field

Fault: TypeAlias = Literal["lose", "truncate", "refuse"] | tuple[int, str]
"""
What happens to a request: its reply is lost, cut in half, it never arrives, or
status and error code come back in its place.
"""
Rule: TypeAlias = Callable[[str, str], Fault | None]
"""Decides by method and path."""


def _fine(_method: str, _path: str) -> None:
    return None


@define
class Front:
    """A running front: ``rule`` may be changed at any time."""

    endpoint: str
    rule: Rule = _fine
    requests: Counter[str] = field(factory=Counter)
    """By method, what was passed on or answered."""
    lock: threading.Lock = field(factory=threading.Lock)

    def reset(self) -> Counter[str]:
        """Begin to count again; give what was counted."""
        with self.lock:
            counted, self.requests = self.requests, Counter()
            return counted


class Server(ThreadingHTTPServer):
    """Listens on loopback; a thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behind: SplitResult) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = behind
        self.front = Front(f"http://127.0.0.1:{self.server_address[1]}")


class Handler(BaseHTTPRequestHandler):
    """Passes a request on, or does what the rule says."""

    protocol_version = "HTTP/1.1"
    server: Server

    def handle_one_request(self) -> None:
        """Serve; a client that goes away in the midst of a reply is no error here."""
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def _serve(self) -> None:
        front = self.server.front
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with front.lock:
            front.requests[self.command] += 1
            fault = front.rule(self.command, self.path)
        if fault == "refuse":
            self._hang_up()
        elif isinstance(fault, tuple):
            status, code = fault
            text = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self._reply(status, {"Content-Type": "application/xml"}, text)
        else:
            self._pass_on(body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815  # their names

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        behind = self.server.behind
        connection = http.client.HTTPConnection(behind.hostname or "", behind.port, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            reply = connection.getresponse()
            data = reply.read()
        finally:
            connection.close()
        if fault == "lose":
            self._hang_up()
            return
        self._reply(reply.status, dict(reply.headers), data, cut=fault == "truncate")

    def _reply(
        self, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        # Of a HEAD the length of what is not sent counts.
        headers = {"content-length": str(len(data)), **{k.lower(): v for k, v in headers.items()}}
        for name, value in headers.items():
            if name not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def in_front_of(endpoint: str) -> Iterator[Front]:
    """Run a front of the plain HTTP server at *endpoint*."""
    with Server(urlsplit(endpoint)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.front
        finally:
            server.shutdown()
            thread.join()
