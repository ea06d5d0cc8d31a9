"""The local driver keeps the contract of stores, with hard links and without."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from loopbackup.testing.suite import StoreSuite
from loopbackup.vault.store.local import LocalStore
from loopbackup.vault.store.protocol import Store
from loopbackup.vault.store.wrappers import CountingStore


class TestLocalStore(StoreSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_store(self) -> Store:
        # fsync has its own tests; here it would only make thousands of puts slow.
        return LocalStore(self.folder / "store", fsync=False)


class TestLocalStoreWithoutHardLinks(TestLocalStore):
    @pytest.fixture(autouse=True)
    def _no_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: object, **kwargs: object) -> NoReturn:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)


class TestWrapperStore(TestLocalStore):
    # It counts what one process does.
    between_processes = False

    def make_store(self) -> Store:
        return CountingStore(super().make_store())
