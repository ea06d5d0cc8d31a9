"""Servers and buckets for the tests; each server is started once a test process."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import define, field
from tests.servers.aws import HOSTS, Aws
from tests.servers.processes import (
    REGION,
    START,
    Certificates,
    S3Server,
    make_certificates,
    moto,
)
from tests.servers.tunnel import tunnel_to

from loopbackup.vault.store.s3.driver import S3Store


@define
class Servers:
    """Starts servers when they are first asked for."""

    folder: Path
    certificates: Certificates
    stack: ExitStack = field(factory=ExitStack)
    started: dict[str, S3Server] = field(factory=dict)

    def __call__(self, name: str) -> S3Server:
        """Give the server *name*, running."""
        if name not in self.started:
            server = START[name](self.folder, self.certificates)
            self.started[name] = self.stack.enter_context(server)
        return self.started[name]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Give a function that starts servers; all end with the session."""
    folder = tmp_path_factory.mktemp("servers")
    found = Servers(folder, make_certificates(folder / "certificates"))
    with found.stack:
        yield found


@define
class Bucket:
    """A bucket of its own on a server, and handles to it that are closed at the end."""

    server: S3Server
    name: str
    stores: list[S3Store] = field(factory=list)

    @property
    def url(self) -> str:
        """Where a vault may lie in it."""
        return f"s3://{self.name}/prod"

    def store(self, prefix: str = "prod", **more: Any) -> S3Store:
        """Give a handle."""
        store = S3Store(f"s3://{self.name}/{prefix}", **self.server.options(**more))
        self.stores.append(store)
        return store

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call the API about this bucket."""
        return (self.stores or [self.store()])[0]._client.call(
            method, Bucket=self.name, **parameters
        )

    def remove(self) -> None:
        """Delete it with all that is in it; it need not be there."""
        try:
            found = self.call("list_objects_v2").get("Contents", ())
        except OSError as exc:
            if exc.errno != errno.ENODEV:
                raise
            return
        for entry in found:
            self.call("delete_object", Key=entry["Key"])
        self.call("delete_bucket")


MakeBucket = Callable[..., Bucket]


@pytest.fixture
def make_bucket(servers: Servers) -> Iterator[MakeBucket]:
    """
    Give a function that makes a bucket on a server, or goes on with one of that *name*.

    With *anew* one of that name is emptied and made again.
    """
    made: list[Bucket] = []

    def make(server: str, *, name: str = "", anew: bool = False, **parameters: Any) -> Bucket:
        bucket = Bucket(servers(server), name or f"acme-{secrets.token_hex(6)}")
        made.append(bucket)
        if anew:
            bucket.remove()
        if anew or not name:
            where = {"LocationConstraint": REGION}
            bucket.call("create_bucket", CreateBucketConfiguration=where, **parameters)
        return bucket

    yield make
    for bucket in made:
        for store in bucket.stores:
            store.close()


@pytest.fixture(scope="session")
def aws_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[int, Certificates, Path]]:
    """Run a server with a certificate for a host of AWS."""
    folder = tmp_path_factory.mktemp("aws")
    certificates = make_certificates(folder / "certificates", *HOSTS)
    with moto(folder, certificates) as server:
        yield urlsplit(server.endpoint).port or 0, certificates, folder / "moto.log"


@pytest.fixture
def aws(aws_server: tuple[int, Certificates, Path]) -> Iterator[Aws]:
    """Give what stands for AWS."""
    port, certificates, log = aws_server
    with tunnel_to(port) as proxy:
        yield Aws(proxy, certificates, log)
