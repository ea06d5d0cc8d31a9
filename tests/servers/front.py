"""Stands in front of a real S3 server, passes requests on, counts them, and does what networks do."""

from __future__ import annotations

import http.client
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

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


@contextmanager
def in_front_of(endpoint: str) -> Iterator[Front]:
    """Run a front of the plain HTTP server at *endpoint*."""
    behind = urlsplit(endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            # A client that goes away in the midst of a reply is no error here.
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with front.lock:
                front.requests[self.command] += 1
                fault = front.rule(self.command, self.path)
            if fault == "refuse":
                self._hang_up()
            elif isinstance(fault, tuple):
                self._answer(*fault)
            else:
                self._pass_on(body, fault)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815  # their names

        def _pass_on(self, body: bytes, fault: Any) -> None:
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
            self.send_response_only(reply.status)
            length = reply.headers.get("Content-Length") or str(len(data))
            for name, value in reply.headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if fault == "truncate" else data)
            if fault == "truncate":
                self._hang_up()

        def _answer(self, status: int, code: str) -> None:
            text = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def _hang_up(self) -> None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        front = Front(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield front
        finally:
            server.shutdown()
            thread.join()
