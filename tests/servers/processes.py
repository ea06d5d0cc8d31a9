"""Real servers on loopback: started with a certificate, waited for, and ended."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

PATIENCE_S = 60.0
REGION = "eu-north-1"
KEY, SECRET = "acme-key", "acme-secret-of-the-tests"
MOTO = str(Path(__file__).with_name("moto_one_by_one.py"))
MINIO = Path(sys.executable).parent / "minio"
"""Built by ``make servers`` where there is Go."""


@frozen
class Certificates:
    """Files of an authority and of a server on loopback that it vouches for."""

    authority: Path
    chain: Path
    key: Path


@frozen
class S3Server:
    """A server that speaks S3 over TLS."""

    name: str
    endpoint: str
    authority: Path

    def options(self, **more: Any) -> dict[str, Any]:
        """Give the storage options that reach it."""
        return {
            "key": KEY,
            "secret": SECRET,
            "endpoint_url": self.endpoint,
            "client_kwargs": {"region_name": REGION, "verify": str(self.authority)},
            **more,
        }


def make_certificates(folder: Path, *hosts: str, **issue: Any) -> Certificates:
    """Make an authority and a certificate for *hosts*, by default loopback."""
    import trustme

    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    leaf = authority.issue_cert(*(hosts or ("127.0.0.1",)), **issue)
    made = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    authority.cert_pem.write_to_path(str(made.authority))
    leaf.private_key_pem.write_to_path(str(made.key))
    for number, part in enumerate(leaf.cert_chain_pems):
        part.write_to_path(str(made.chain), append=number > 0)
    return made


def free_port() -> int:
    """Give a port of loopback that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str | Path], port: int, *, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server that listens on *port* until the block ends."""
    program, *arguments = map(str, command)
    found = shutil.which(program, path=f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/bin")
    assert found is not None, f"{program} is not installed: make test installs it"
    with log.open("wb") as output:
        process = subprocess.Popen([found, *arguments], stdout=output, stderr=output, env=env)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _listens(port):
            assert process.poll() is None, f"{program} ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"{program} does not listen"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def moto(folder: Path, certificates: Certificates) -> Iterator[S3Server]:
    """Run moto: conditional writes, versions, locks."""
    port = free_port()
    command = [sys.executable, MOTO, str(port), *map(str, (certificates.chain, certificates.key))]
    with running(command, port, log=folder / "moto.log"):
        yield S3Server("moto", f"https://127.0.0.1:{port}", certificates.authority)


@contextmanager
def plain_moto(folder: Path, certificates: Certificates) -> Iterator[S3Server]:
    """Run moto without TLS, for a front that has to read what passes."""
    port = free_port()
    command = [sys.executable, MOTO, str(port)]
    with running(command, port, log=folder / "plain-moto.log"):
        yield S3Server("plain-moto", f"http://127.0.0.1:{port}", certificates.authority)


@contextmanager
def rclone(folder: Path, certificates: Certificates) -> Iterator[S3Server]:
    """Run ``rclone serve s3``: fast, independent, and deaf to conditions."""
    port = free_port()
    data = folder / "rclone"
    data.mkdir()
    command = ["rclone", "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", f"{KEY},{SECRET}", "--config", str(folder / "none.conf")]
    command += ["--cert", str(certificates.chain), "--key", str(certificates.key), str(data)]
    with running(command, port, log=folder / "rclone.log"):
        yield S3Server("rclone", f"https://127.0.0.1:{port}", certificates.authority)


@contextmanager
def minio(folder: Path, certificates: Certificates) -> Iterator[S3Server]:
    """Run MinIO: a whole S3 in one program."""
    port, console = free_port(), free_port()
    keys, data = folder / "minio-certs", folder / "minio"
    keys.mkdir()
    data.mkdir()
    shutil.copy(certificates.chain, keys / "public.crt")
    shutil.copy(certificates.key, keys / "private.key")
    command = [str(MINIO), "server", "--address", f"127.0.0.1:{port}", "--certs-dir", str(keys)]
    command += ["--console-address", f"127.0.0.1:{console}", "--quiet", str(data)]
    env = {
        "HOME": str(folder),
        "MINIO_ROOT_USER": KEY,
        "MINIO_ROOT_PASSWORD": SECRET,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_REGION": REGION,
    }
    with running(command, port, log=folder / "minio.log", env=env):
        server = S3Server("minio", f"https://127.0.0.1:{port}", certificates.authority)
        _wait_until_ready(server)
        yield server


def _wait_until_ready(server: S3Server) -> None:
    """Wait for a server that listens before it is of use."""
    import urllib.request

    context = ssl.create_default_context(cafile=str(server.authority))
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(
                f"{server.endpoint}/minio/health/ready", context=context, timeout=5
            ):
                return
        except OSError:
            assert time.monotonic() < deadline, "minio does not get ready"
            time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


SERVERS = ["moto", "rclone", *(["minio"] if MINIO.exists() else [])]
START = {"moto": moto, "plain-moto": plain_moto, "rclone": rclone, "minio": minio}
HONEST = [name for name in SERVERS if name != "rclone"]
"""Those that keep to the condition of an exclusive create."""
