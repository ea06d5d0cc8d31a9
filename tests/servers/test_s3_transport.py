"""What is not protected is refused before its first byte, on real TLS servers."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from tests.servers.conftest import MakeBucket
from tests.servers.processes import KEY, REGION, SECRET, Certificates, make_certificates

import loopbackup as lb
from loopbackup.errors import InsecureTransport, StoreError
from loopbackup.vault.store.s3.driver import S3Store
from loopbackup.vault.store.seam import StoreSeam

PASSPHRASE = lb.Passphrase("correct horse battery staple")


@define
class Listener:
    """Counts what reaches it: connections, and the bytes of requests."""

    port: int
    connections: int = 0
    requests: bytearray = field(factory=bytearray)


@contextmanager
def listening(context: ssl.SSLContext | None) -> Iterator[Listener]:
    """Accept connections on loopback, with TLS or without, and read what they say."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = Listener(server.getsockname()[1])

        def serve() -> None:
            while True:
                try:
                    plain, _ = server.accept()
                except OSError:
                    return
                listener.connections += 1
                with plain, suppress(OSError):
                    plain.settimeout(5)
                    if context is None:
                        listener.requests += plain.recv(65536)
                    else:
                        with context.wrap_socket(plain, server_side=True) as secure:
                            listener.requests += secure.recv(65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            # Closing alone does not wake whoever accepts.
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def options(port: int, **client: Any) -> dict[str, Any]:
    """Give storage options of a server on loopback."""
    return {
        "key": KEY,
        "secret": SECRET,
        "endpoint_url": f"https://127.0.0.1:{port}",
        "client_kwargs": {"region_name": REGION, **client},
    }


def server_context(certificates: Certificates) -> ssl.SSLContext:
    """Make the context of a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.chain, certificates.key)
    return context


def ask(given: dict[str, Any], **more: Any) -> None:
    """Send one request."""
    store = S3Store("s3://acme/prod", **given, **more)
    try:
        StoreSeam(store, attempts=1).get("vault")
    finally:
        store.close()


@pytest.mark.parametrize(
    "given",
    [
        {"endpoint_url": "http://s3.acme.example"},
        {"use_ssl": False},
        {"client_kwargs": {"verify": False}},
        {"client_kwargs": {"use_ssl": False}},
        {"client_kwargs": {"endpoint_url": "http://s3.acme.example"}},
        {"endpoint_url": "https://s3.acme.example", "client_kwargs": {"verify": False}},
    ],
    ids=str,
)
@pytest.mark.parametrize("allowed", [False, True])
def test_options_that_open_the_connection_are_refused(given: dict[str, Any], allowed: bool) -> None:
    """At once, and what is allowed for this machine is allowed for no other."""
    with pytest.raises(InsecureTransport, match="Nothing was sent"):
        lb.Vault.open(
            "s3://acme/prod",
            PASSPHRASE,
            storage_options=given,
            state_dir=None,
            allow_insecure_loopback=allowed,
        )


def test_endpoint_of_the_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the client as it is set up, whatever set it up."""
    with listening(None) as listener:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.port}")
        with pytest.raises(InsecureTransport):
            ask({"key": KEY, "secret": SECRET, "client_kwargs": {"region_name": REGION}})

    assert listener.connections == 0


def test_unencrypted_server_on_this_machine_needs_to_be_allowed() -> None:
    """Refused before a connection; allowed, the request goes out."""
    with listening(None) as listener:
        given = options(listener.port) | {"endpoint_url": f"http://127.0.0.1:{listener.port}"}
        with pytest.raises(InsecureTransport):
            ask(given)
        assert listener.connections == 0
        with pytest.raises(StoreError):
            ask(given, allow_insecure_loopback=True)

    assert listener.requests.startswith(b"GET /acme/prod/vault")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """A server that speaks nothing newer gets no request."""
    certificates = make_certificates(tmp_path)
    context = server_context(certificates)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with (
        listening(context) as listener,
        pytest.raises(InsecureTransport, match="was refused") as caught,
    ):
        ask(options(listener.port, verify=str(certificates.authority)))

    assert listener.requests == b""
    assert listener.connections > 0
    assert "Nothing was sent" in str(caught.value)


def test_wrong_certificates_are_refused(tmp_path: Path) -> None:
    """Of another authority, of another host, or expired: no request is sent."""
    good = make_certificates(tmp_path / "good")
    for name, issued in {
        "authority": make_certificates(tmp_path / "authority"),
        "host": make_certificates(tmp_path / "host", "s3.acme.example"),
        "expired": make_certificates(
            tmp_path / "expired", not_after=datetime.now(UTC) - timedelta(days=1)
        ),
    }.items():
        trusted = good if name == "authority" else issued
        with (
            listening(server_context(issued)) as listener,
            pytest.raises(InsecureTransport, match="certificate"),
        ):
            ask(options(listener.port, verify=str(trusted.authority)))
        assert listener.requests == b"", name
        assert listener.connections > 0, name


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_unchecked_certificate_on_this_machine_needs_to_be_allowed(tmp_path: Path) -> None:
    """``verify=False`` is for loopback, and for nobody who has not said so."""
    context = server_context(make_certificates(tmp_path))
    with listening(context) as listener:
        given = options(listener.port, verify=False)
        with pytest.raises(InsecureTransport):
            ask(given)
        assert listener.connections == 0
        with pytest.raises(StoreError):
            ask(given, allow_insecure_loopback=True)

    assert listener.requests.startswith(b"GET /acme/prod/vault")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_right_certificate_is_taken(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """TLS 1.2 and 1.3 with a certificate that verifies: the request goes out."""
    certificates = make_certificates(tmp_path)
    context = server_context(certificates)
    context.minimum_version = context.maximum_version = version
    with listening(context) as listener, pytest.raises(StoreError) as caught:
        ask(options(listener.port, verify=str(certificates.authority)))

    assert listener.requests.startswith(b"GET /acme/prod/vault")
    assert caught.value.transient


def test_vault_says_how_its_connection_is_protected(make_bucket: MakeBucket) -> None:
    """From the connected client: endpoint, oldest version, and whether it checks certificates."""
    bucket = make_bucket("moto")
    given: dict[str, Any] = {"storage_options": bucket.server.options(), "location": REGION}
    with lb.Vault.create(bucket.url, PASSPHRASE, state_dir=None, **given) as vault:
        info = vault.info()

    assert info.store.tls is True
    assert info.store.transport == lb.Transport(bucket.server.endpoint, "TLSv1.2", verified=True)
    assert f"{bucket.server.endpoint}, TLSv1.2 or newer, certificate checked" in str(info)
