"""A proxy that leads every host to one server on loopback, as if that were all there is."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def tunnel_to(port: int) -> Iterator[str]:
    """Run a proxy for CONNECT; give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads: list[threading.Thread] = []
        ended = threading.Event()

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                thread = threading.Thread(target=_serve, args=(client, port, ended))
                threads.append(thread)
                thread.start()

        listener = threading.Thread(target=accept)
        listener.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            # Closing alone does not wake whoever accepts.
            server.shutdown(socket.SHUT_RDWR)
            for thread in (listener, *threads):
                thread.join()


def _serve(client: socket.socket, port: int, ended: threading.Event) -> None:
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
        asked = b""
        while b"\r\n\r\n" not in asked:
            part = client.recv(4096)
            if not part:
                return
            asked += part
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while not ended.is_set():
                for key, _ in selector.select(timeout=0.05):
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]  # both are sockets
                    if not data:
                        return
                    key.data.sendall(data)
