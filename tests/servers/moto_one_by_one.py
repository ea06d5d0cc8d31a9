"""
Run moto so that it serves one request after the other: ``PORT [CERTIFICATE KEY]``.

By itself it looks whether a name is taken and then writes, in threads: two
exclusive creates can win, which no service that it stands for allows.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple


class Handler(MotoRequestHandler):
    """Keeps connections: a handshake for each request takes longer than the request."""

    protocol_version = "HTTP/1.1"


def main(port: str, certificate: str = "", key: str = "") -> None:
    """Serve until the process is ended."""
    application = DomainDispatcherApplication(create_backend_app)
    lock = threading.Lock()

    def one_by_one(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        # The body is read before, so that a slow client holds up nobody.
        with lock:
            return [b"".join(application(environ, start))]

    run_simple(
        "127.0.0.1",
        int(port),
        one_by_one,
        threaded=True,
        request_handler=Handler,
        ssl_context=(certificate, key) if certificate else None,
    )


main(*sys.argv[1:])
