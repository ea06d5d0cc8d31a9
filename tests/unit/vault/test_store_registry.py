"""Which driver a URL means, and what of a URL may be shown."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from loopbackup.errors import InputError
from loopbackup.vault.store import registry
from loopbackup.vault.store.local import LocalStore
from loopbackup.vault.store.memory import MemoryStore
from loopbackup.vault.store.registry import open_store, redact_url

Install = Callable[..., None]


class PluginStore(MemoryStore):
    """A driver as a package would bring it."""

    def __init__(self, url: str, *, token: str = "") -> None:
        super().__init__()
        self.url, self.token = url, token


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Register entry points as installed packages would."""

    def installed(*schemes: str) -> None:
        points = metadata.EntryPoints(
            metadata.EntryPoint(scheme, f"{__name__}:PluginStore", registry.ENTRY_POINT_GROUP)
            for scheme in schemes
        )
        monkeypatch.setattr(
            "importlib.metadata.entry_points", lambda group: points.select(group=group)
        )
        monkeypatch.setitem(sys.modules, __name__, sys.modules[PluginStore.__module__])

    return installed


@pytest.mark.parametrize(
    "form",
    [str, Path, "file://{}".format, "FILE://{}".format],
    ids=["text", "path", "url", "upper-case url"],
)
def test_a_path_is_a_folder(form: Callable[[Path], str], tmp_path: Path) -> None:
    """Plain paths, path objects and file URLs open the local driver on the same folder."""
    store = open_store(form(tmp_path), {"fsync": False})

    assert isinstance(store, LocalStore)
    assert store.root == str(tmp_path)
    assert not store.describe().durable_put


def test_a_path_object_is_never_a_url() -> None:
    """A path that looks like a URL stays a path."""
    store = open_store(Path("memory://acme"))

    assert isinstance(store, LocalStore)


def test_memory_is_shared_by_name() -> None:
    """memory://name opens one store, however often."""
    assert open_store("memory://registry-test") is open_store("memory://registry-test")


def test_a_plugin_is_built_from_url_and_options(install: Install) -> None:
    """A scheme of an entry point is built as cls(url, **storage_options)."""
    install("acme")

    store = open_store("acme://bucket/path", {"token": "t"})

    assert isinstance(store, PluginStore)
    assert (store.url, store.token) == ("acme://bucket/path", "t")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("{}", {"nonsense": 1}),
        ("memory://options-test", {"fsync": True}),
        ("acme://bucket", {"tokens": "secret"}),
        ("acme://bucket", {5: "secret"}),
        ("acme://bucket", "token"),
        ("acme://bucket", [("token", "secret")]),
    ],
    ids=str,
)
def test_options_that_a_driver_does_not_take_are_refused(
    install: Install, tmp_path: Path, url: str, options: Any
) -> None:
    """The error names them, but no value, for that may be a secret."""
    install("acme")

    with pytest.raises(InputError) as caught:
        open_store(url.format(tmp_path), options)

    assert "storage_options" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_mistake_inside_a_driver_is_not_taken_for_its_callers(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TypeError of its own shows as what it is."""

    def mistaken(self: PluginStore, url: str) -> None:
        len(5)  # type: ignore[arg-type]

    install("acme")
    monkeypatch.setattr(PluginStore, "__init__", mistaken)

    with pytest.raises(TypeError, match="len"):
        open_store("acme://bucket")


@pytest.mark.parametrize("url", [None, 5, b"/srv/vault"], ids=ascii)
def test_what_is_no_url_is_refused(url: Any) -> None:
    """Also where it is only to be shown."""
    for call in (open_store, redact_url):
        with pytest.raises(InputError, match="path or a URL"):
            call(url)


def test_an_unknown_scheme_lists_the_known(install: Install) -> None:
    """The error names built-in schemes and plugins, and shows nothing of the URL but its scheme."""
    install("acme")

    with pytest.raises(InputError) as caught:
        open_store("s4://user:secret@bucket")

    assert "acme, file, memory" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_two_drivers_for_a_scheme_are_refused(install: Install) -> None:
    """No plugin silently takes the place of another."""
    install("acme", "acme")

    with pytest.raises(InputError, match="more than one driver"):
        open_store("acme://bucket")


def test_a_plugin_cannot_take_a_built_in_scheme(install: Install, tmp_path: Path) -> None:
    """file:// stays ours whatever is installed."""
    install("file", "memory")

    assert isinstance(open_store(f"file://{tmp_path}"), LocalStore)
    assert type(open_store("memory://built-in")) is MemoryStore


def test_opening_a_folder_loads_no_network_library(tmp_path: Path) -> None:
    """Neither fsspec nor the retry library is imported for a local store."""
    script = (
        "import sys; from loopbackup.vault.store.registry import open_store; "
        "from loopbackup.vault.store.seam import StoreSeam; "
        f"StoreSeam(open_store({str(tmp_path)!r})).put('a', b'x'); "
        "print(*{'fsspec', 'stamina', 'structlog', 'asyncio'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/path", "s3://bucket/path"),
        ("s3://key:secret@bucket/path", "s3://bucket/path"),
        ("https://host/path?sig=secret", "https://host/path"),
        ("https://host/path#secret", "https://host/path"),
        ("s3://key:se/cr/et@bucket", "s3://bucket"),
        ("s3://key:se@cret@bucket", "s3://bucket"),
        ("s3://key:secr?et@bucket", "s3://..."),
        ("s3://key@x:secr#et@bucket", "s3://..."),
        ("https://host/path?sig=secr@et", "https://..."),
        ("/srv/a@b?c", "/srv/a@b?c"),
        ("file:///srv/a@b#c", "file:///srv/a@b#c"),
    ],
)
def test_a_shown_url_holds_no_secret(url: str, shown: str) -> None:
    """User, password and query are gone; paths stay."""
    assert redact_url(url) == shown


def test_a_shown_path_object_is_its_path() -> None:
    """A path object is shown as it is."""
    assert redact_url(Path("s3://a@b")) == "s3:/a@b"
