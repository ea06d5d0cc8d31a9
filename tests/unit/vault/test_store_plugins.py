"""Drivers that installed packages bring: found by their metadata, imported when asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopbackup.errors import InputError
from loopbackup.vault.store.registry import open_store
from loopbackup.vault.store.seam import StoreSeam

ENTRY_POINTS = """
[loopbackup.stores]
acme = acme_stores:AcmeStore
broken = acme_broken:AcmeStore
missing = acme_stores:NotThere
number = acme_stores:NUMBER
"""

METADATA = "Metadata-Version: 2.1\nName: acme-stores\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

MODULE = """
from loopbackup.vault.store.memory import MemoryStore

NUMBER = 5


class AcmeStore(MemoryStore):
    def __init__(self, url, *, token=""):
        super().__init__()
        self.url, self.token = url, token
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a package with pip, as its users would, into a folder of its own."""
    folder = tmp_path_factory.mktemp("plugin")
    wheel, site = folder / "acme_stores-1.0-py3-none-any.whl", folder / "site"
    files = {
        "acme_stores.py": MODULE,
        "acme_broken.py": "import a_library_that_nobody_has\n",
        "acme_stores-1.0.dist-info/METADATA": METADATA,
        "acme_stores-1.0.dist-info/WHEEL": WHEEL,
        "acme_stores-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
    }
    record = "acme_stores-1.0.dist-info/RECORD"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(record, "".join(f"{name},,\n" for name in [*files, record]))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--disable-pip-version-check", "--no-compile", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return site


@pytest.fixture
def _installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    yield
    for name in ("acme_stores", "acme_broken"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("_installed")
def test_an_installed_driver_opens_its_protocol() -> None:
    """It is built from URL and options, and keeps objects."""
    store = open_store("acme://bucket/prod", {"token": "t"})

    StoreSeam(store).put("a", b"data")

    assert type(store).__name__ == "AcmeStore"
    assert (store.url, store.token) == ("acme://bucket/prod", "t")  # type: ignore[attr-defined]
    assert store.get("a") == b"data"


@pytest.mark.usefixtures("_installed")
def test_an_installed_driver_is_not_imported_for_another_url(tmp_path: Path) -> None:
    """Neither for a folder, nor for another package's protocol, nor to say what is known."""
    open_store(tmp_path)
    open_store("memory://plugins")
    with pytest.raises(InputError) as caught:
        open_store("s4://bucket")

    assert "acme, broken, file, memory, missing, number, s3" in str(caught.value)
    assert "acme_stores" not in sys.modules


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("scheme", "tells"),
    [
        ("broken", "acme_broken:AcmeStore of acme-stores, cannot be imported: ModuleNotFoundError"),
        ("missing", "acme_stores:NotThere of acme-stores, cannot be imported: AttributeError"),
        ("number", "acme_stores:NUMBER, is no class of a store"),
    ],
)
def test_a_broken_driver_is_named_with_its_package(scheme: str, tells: str) -> None:
    """Who is to mend it is told, and nothing of the URL beyond its protocol."""
    with pytest.raises(InputError) as caught:
        open_store(f"{scheme}://user:secret@bucket")

    assert caught.value.kind == "plugin"
    assert tells in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("_installed")
def test_a_broken_driver_is_in_nobodys_way() -> None:
    """Other protocols work beside it."""
    assert open_store("acme://bucket").get is not None
