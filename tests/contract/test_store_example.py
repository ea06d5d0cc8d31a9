"""The back end of the how-to page keeps the contract of stores."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopbackup.testing.suite import StoreSuite
from loopbackup.vault.store.protocol import Store

PAGE = Path(__file__).parents[2] / "docs/how-to/write-a-backend.md"
MODULE = "acme_sqlite"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[Store]]:
    """Install the page's class as its reader would: in a module that every process can import."""
    match = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert match is not None
    folder = tmp_path_factory.mktemp("site")
    (folder / f"{MODULE}.py").write_text(match[1], "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        store: type[Store] = importlib.import_module(MODULE).SqliteStore
        yield store
    del sys.modules[MODULE]


class TestSqliteStore(StoreSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, example: type[Store]) -> None:
        self.folder, self.example = tmp_path, example

    def make_store(self) -> Store:
        store: Store = self.example(f"sqlite://{self.folder}/objects.db")  # type: ignore[call-arg]
        return store
