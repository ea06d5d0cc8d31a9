"""File systems of fsspec keep the contract of stores, as far as they can."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from tests.servers.processes import SSHD, SftpServer, rclone_sftp, sshd

from loopbackup.testing.suite import StoreSuite
from loopbackup.testing.suite.listing import ListingTests
from loopbackup.testing.suite.objects import ObjectTests
from loopbackup.vault.store.fsspec.driver import FsspecStore
from loopbackup.vault.store.probe import probe_exclusive_create
from loopbackup.vault.store.protocol import Store
from loopbackup.vault.store.seam import StoreSeam


class TestMemory(StoreSuite):
    between_processes = False

    def make_store(self) -> Store:
        fs = MemoryFileSystem(global_store=False, skip_instance_cache=True)
        return FsspecStore(f"memory://{secrets.token_hex(8)}", fs=fs)


class TestLocal(StoreSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_store(self) -> Store:
        return FsspecStore(f"local://{self.folder}/store")


class TestOpenLocal(TestLocal):
    between_processes = False

    def make_store(self) -> Store:
        return FsspecStore(f"file://{self.folder}/store", fs=LocalFileSystem())


class OverSsh:
    """Gives stores in folders of their own on an SFTP server, and closes them."""

    server: SftpServer
    stack: ExitStack

    def make_store(self) -> Store:
        url = f"{self.server.url}/{secrets.token_hex(8)}"
        store = FsspecStore(url, **self.server.options)
        self.stack.callback(store.close)
        return store

    @pytest.fixture(autouse=True)
    def _closed(self) -> Iterator[None]:
        with ExitStack() as self.stack:
            yield


class TestRcloneSftp(OverSsh, ObjectTests, ListingTests):
    """Exclusive create aside: its rename takes a name away from another file."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with rclone_sftp(tmp_path_factory.mktemp("rclone") / "sftp") as cls.server:
            yield

    def test_the_probe_finds_it_out(self) -> None:
        """Several creates of one name succeed, so the server is not to be trusted."""
        assert not probe_exclusive_create(StoreSeam(self.make_store()))


if SSHD is not None:

    class TestOpenSsh(OverSsh, StoreSuite):
        @pytest.fixture(scope="class", autouse=True)
        @classmethod
        def _server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
            with sshd(tmp_path_factory.mktemp("openssh") / "sftp") as cls.server:
                yield
