"""Real servers on loopback: started with a certificate, waited for, and ended."""

from __future__ import annotations

import getpass
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
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
"""Of the system, where it has one."""


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


@frozen
class SftpServer:
    """A server that speaks SFTP, where a store may be made below *url*."""

    url: str
    options: dict[str, Any]


def _make_key(path: Path) -> str:
    """Make a key pair; give the public one."""
    import paramiko
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    raw = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(raw)
    key = paramiko.Ed25519Key.from_private_key_file(str(path))
    return f"{key.get_name()} {key.get_base64()}"


@contextmanager
def rclone_sftp(folder: Path) -> Iterator[SftpServer]:
    """Run ``rclone serve sftp``, whose rename takes a name away from another file."""
    port = free_port()
    folder.mkdir()
    host_key = _make_key(folder / "host.key")
    (folder / "data").mkdir()
    command = ["rclone", "serve", "sftp", "--addr", f"127.0.0.1:{port}", "--user", KEY]
    command += ["--pass", SECRET, "--key", str(folder / "host.key")]
    command += ["--config", str(folder / "none.conf"), str(folder / "data")]
    with running(command, port, log=folder / "rclone.log"):
        options = {"host_key": host_key, "password": SECRET}
        yield SftpServer(
            f"sftp://{KEY}@127.0.0.1:{port}",
            {**options, "allow_agent": False, "look_for_keys": False},
        )


@contextmanager
def sshd(folder: Path) -> Iterator[SftpServer]:
    """Run OpenSSH as this user; where that is root, as the package of the system set it up."""
    port = free_port()
    folder.mkdir()
    host_key, user_key = _make_key(folder / "host.key"), _make_key(folder / "user.key")
    (folder / "authorized").write_text(f"{user_key}\n")
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/host.key",
        f"AuthorizedKeysFile {folder}/authorized",
        "StrictModes no",
        "UsePAM no",
        "PermitRootLogin yes",
        f"PidFile {folder}/pid",
        "Subsystem sftp internal-sftp",
    ]
    (folder / "sshd.conf").write_text("\n".join(lines) + "\n")
    assert SSHD is not None
    with running([SSHD, "-D", "-e", "-f", folder / "sshd.conf"], port, log=folder / "sshd.log"):
        options = {"host_key": host_key, "key_filename": str(folder / "user.key")}
        yield SftpServer(
            f"sftp://{getpass.getuser()}@127.0.0.1:{port}{folder}",
            {**options, "allow_agent": False, "look_for_keys": False},
        )


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
