"""The back end of the how-to page keeps the contract of stores."""

import re
from pathlib import Path
from typing import Any

import pytest

from loopbackup.testing.suite import StoreSuite
from loopbackup.vault.store.protocol import Store

PAGE = Path(__file__).parents[2] / "docs/how-to/write-a-backend.md"


def _first_example() -> dict[str, Any]:
    match = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert match is not None
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(match[1], str(PAGE), "exec"), namespace)
    return namespace


EXAMPLE = _first_example()


class TestSqliteStore(StoreSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make_store(self) -> Store:
        store: Store = EXAMPLE["SqliteStore"](f"sqlite://{self.folder}/objects.db")
        return store
