"""What a file system of fsspec may be a store of, what is refused, and what its errors become."""

from __future__ import annotations

import errno
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from tests.servers.processes import SftpServer, rclone_sftp

import loopbackup as lb
from loopbackup.vault.store.fsspec.driver import FsspecStore
from loopbackup.vault.store.fsspec.errors import translate
from loopbackup.vault.store.registry import open_store
from loopbackup.vault.store.seam import StoreSeam

CANARY = "canary-of-a-password"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBGl45fLXBjlmH7G6i5H6Ccul7K8//PmBOEGE4iOQu7X"


class NetworkFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A file system as a package would bring it; what is known of it is its name."""

    protocol = "acmefs"

    def __init__(self, *, password: str = "", **options: Any) -> None:
        super().__init__(global_store=False, **options)

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Move as most file systems do."""
        self.cp_file(path1, path2)
        self.rm_file(path1)


@pytest.fixture
def acmefs() -> Iterator[None]:
    """Make fsspec know ``acmefs://``."""
    fsspec.register_implementation("acmefs", NetworkFileSystem, clobber=True)
    yield
    del sys.modules["fsspec.registry"]._registry["acmefs"]


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    """Give a server."""
    with rclone_sftp(tmp_path_factory.mktemp("rclone") / "sftp") as server:
        yield server


# ---- which store a URL means


def test_what_fsspec_knows_becomes_a_store(acmefs: None) -> None:
    """A protocol without a driver of its own is fsspec's, with its options."""
    store = open_store("acmefs://vault", {"password": CANARY})

    store.put("a", b"data", if_absent=True)

    assert isinstance(store, FsspecStore)
    assert store.get("a") == b"data"


def test_an_open_file_system_becomes_a_store(tmp_path: Path) -> None:
    """Given as ``fs`` it keeps the store, whatever the protocol."""
    store = open_store(f"file://{tmp_path}/store", {"fs": LocalFileSystem()})

    store.put("packs/a", b"data", if_absent=True)

    assert isinstance(store, FsspecStore)
    assert (tmp_path / "store/packs/a").read_bytes() == b"data"


def test_a_vault_lives_on_an_open_file_system() -> None:
    """Create, back up, open again and restore; nothing is asked of another instance."""
    fs = MemoryFileSystem(global_store=False, skip_instance_cache=True)
    key = lb.Passphrase(CANARY)
    url, options = "memory://acme/prod", {"fs": fs}
    with lb.Vault.create(url, key, storage_options=options, state_dir=None) as vault:
        vault.backup([lb.Item("hello", data=b"Dear Acme AB")], name="letters")

    with lb.Vault.open(url, key, storage_options=options, state_dir=None) as vault:
        found = vault.snapshot("latest").open("hello").read()
        assert vault.check(data=True).ok

    assert found == b"Dear Acme AB"
    assert all(name.startswith("/acme/prod/") for name in fs.store)


def test_an_unknown_file_system_wants_a_single_writer(acmefs: None) -> None:
    """Without an exclusive create a vault is refused, unless somebody answers for it."""
    arguments: dict[str, Any] = {"location": "eu-north-1", "state_dir": None}
    options = {"fs": NetworkFileSystem(skip_instance_cache=True, use_listings_cache=False)}
    key = lb.Passphrase(CANARY)

    with pytest.raises(lb.InputError, match="exclusive create"):
        lb.Vault.create("acmefs://vault", key, storage_options=options, **arguments)
    with lb.Vault.create(
        "acmefs://vault", key, storage_options=options, single_writer=True, **arguments
    ) as vault:
        info = vault.info()

    assert info.store.tls == "unknown"
    assert "unknown" in str(info)
    assert len(info.store.findings) == 3


def test_a_place_on_a_network_has_to_be_declared(acmefs: None) -> None:
    """Fsspec tells of no provider where he keeps things."""
    with pytest.raises(lb.InputError) as caught:
        lb.Vault.create("acmefs://vault", lb.Passphrase(CANARY), state_dir=None)

    assert caught.value.kind == "location"


# ---- refusals


@pytest.mark.parametrize(
    "url",
    [
        "http://host/vault",
        "ftp://host/vault",
        "webhdfs://host/vault",
        "sftp://host/vault",
        "ssh://user@host/vault",
    ],
)
def test_what_others_could_read_is_refused(url: str) -> None:
    """Before any library of it is loaded, and before the first byte."""
    with pytest.raises(lb.InsecureTransport):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    [
        f"acmefs://user:{CANARY}@host/vault",
        f"acmefs://host/vault?password={CANARY}",
        f"simplecache::acmefs://{CANARY}/vault",
        "acmefs://host/../vault",
        "acmefs://host/vault*",
        "zip://vault",
        "filecache://vault",
        "https://host/vault",
    ],
)
def test_a_url_of_something_else_is_refused(acmefs: None, url: str) -> None:
    """Passwords, queries, patterns, archives and caches; the error repeats none of it."""
    with pytest.raises(lb.InputError) as caught:
        FsspecStore(url)

    assert CANARY not in str(caught.value)


def test_an_open_file_system_that_keeps_listings_is_refused() -> None:
    """It would show the state of yesterday."""
    fs = NetworkFileSystem(skip_instance_cache=True)
    store = FsspecStore("acmefs://vault", fs=fs)

    with pytest.raises(lb.InputError, match="use_listings_cache"):
        store.put("a", b"x", if_absent=True)


@pytest.mark.parametrize(
    "fs", [5, "memory", fsspec.filesystem("s3", anon=True)], ids=["number", "text", "s3"]
)
def test_what_is_no_file_system_for_a_store_is_refused(fs: Any) -> None:
    """No object of another kind, and none that has a safer driver here."""
    with pytest.raises(lb.InputError):
        FsspecStore("acmefs://vault", fs=fs).describe()


def test_a_file_system_around_another_is_not_trusted(tmp_path: Path) -> None:
    """What it is made of is not known, so it says no more than that."""
    fs = DirFileSystem(str(tmp_path), LocalFileSystem(), use_listings_cache=False)

    info = FsspecStore("dir://vault", fs=fs).describe()

    assert (info.exclusive_create, info.durable_put, info.tls) == (False, False, "unknown")


def test_options_that_a_file_system_does_not_take_are_refused() -> None:
    """The error holds no value."""
    store = FsspecStore("local:///srv/vault", nonsense=CANARY, auto_mkdir=True)
    assert CANARY not in repr(store)

    with pytest.raises(lb.InputError) as caught:
        FsspecStore("gist://vault", user=CANARY).describe()

    assert CANARY not in str(caught.value)


# ---- SFTP


def test_the_key_of_the_server_is_held_against_the_named_one(sftp: SftpServer) -> None:
    """Another server, or one in its place, is refused before it is told who asks."""
    wrong = {**sftp.options, "host_key": OTHER_KEY}

    with pytest.raises(lb.InsecureTransport, match="another key"):
        FsspecStore(f"{sftp.url}/a", **wrong).describe()

    store = FsspecStore(f"{sftp.url}/a", **sftp.options)
    assert store.describe().tls is True
    store.close()


def test_a_key_of_another_kind_is_refused(sftp: SftpServer) -> None:
    """A server that has no key of the named kind is another one."""
    import paramiko

    rsa = paramiko.RSAKey.generate(2048)
    wrong = {**sftp.options, "host_key": f"{rsa.get_name()} {rsa.get_base64()}"}

    with pytest.raises((lb.InsecureTransport, ConnectionError)):
        FsspecStore(f"{sftp.url}/a", **wrong).describe()


@pytest.mark.parametrize("key", ["", "ssh-ed25519", "ssh-ed25519 nonsense", "AAAA", "x AAAA"])
def test_what_is_no_key_is_refused(key: str) -> None:
    """Before anything is connected; an empty one counts as none."""
    with pytest.raises((lb.InputError, lb.InsecureTransport)):
        FsspecStore("sftp://host/vault", host_key=key).describe()


def test_wrong_credentials_are_no_reason_to_try_again(sftp: SftpServer) -> None:
    """The seam says what they are, and holds nothing of them."""
    options = {**sftp.options, "password": CANARY}
    seam = StoreSeam(FsspecStore(f"{sftp.url}/a", **options))

    with pytest.raises(lb.StoreError) as caught:
        seam.get("a")

    assert (caught.value.transient, caught.value.ambiguous) == (False, False)
    assert caught.value.kind == "wrong_credentials"
    assert CANARY not in repr((caught.value, caught.value.__cause__, seam.store))


def test_a_broken_connection_is_made_anew(sftp: SftpServer) -> None:
    """The call that met it may be tried again, and succeeds."""
    store = FsspecStore(f"{sftp.url}/broken", **sftp.options)
    store.put("a", b"data", if_absent=True)
    assert store._connection is not None
    store._connection.opened.fs.client.close()

    found = StoreSeam(store).get("a", length=4)

    assert found == b"data"
    store.close()


def test_a_server_that_is_not_there_is_transient() -> None:
    """It may be back later."""
    from tests.servers.processes import free_port

    store = FsspecStore(f"sftp://127.0.0.1:{free_port()}/a", host_key=OTHER_KEY)

    with pytest.raises(ConnectionError):
        store.get("a")


# ---- errors, pickles


class _HttpError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(CANARY)
        self.code = code

    def __repr__(self) -> str:
        return f"http-{self.code}"


@pytest.mark.parametrize(
    ("error", "becomes", "number"),
    [
        (_HttpError(404), FileNotFoundError, errno.ENOENT),
        (_HttpError(412), FileExistsError, errno.EEXIST),
        (_HttpError(403), PermissionError, errno.EACCES),
        (_HttpError(416), OSError, errno.ERANGE),
        (_HttpError(429), ConnectionError, None),
        (_HttpError(503), ConnectionError, None),
        (_HttpError(400), OSError, errno.EPROTO),
        (OSError(errno.EBUSY, CANARY), ConnectionError, None),
        (OSError(errno.EREMOTEIO, CANARY), ConnectionError, None),
        (OSError(errno.ENOSPC, CANARY), OSError, errno.ENOSPC),
        (OSError(errno.EIO, CANARY), OSError, errno.EIO),
        (OSError(CANARY), OSError, errno.EPROTO),
        (PermissionError(CANARY), PermissionError, None),
        (TimeoutError(CANARY), ConnectionError, None),
        (EOFError(CANARY), ConnectionError, None),
        (ValueError(CANARY), OSError, errno.EPROTO),
        (RuntimeError(CANARY), OSError, errno.EPROTO),
        (NotImplementedError(CANARY), OSError, errno.EOPNOTSUPP),
        (ImportError(CANARY), lb.InputError, None),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value).replace(CANARY, "")),
)
def test_each_error_becomes_one_of_the_contract(
    error: Exception, becomes: type[Exception], number: int | None
) -> None:
    """By class, number and HTTP status; its text stays behind."""
    made = translate(error, alive=True)

    assert type(made) is becomes or (becomes is OSError and isinstance(made, OSError))
    assert getattr(made, "errno", None) == number
    assert CANARY not in repr(made)


def test_a_mistake_in_code_stays_one() -> None:
    """It is nobody's busy service."""
    assert type(translate(TypeError("x"), alive=True)) is TypeError


def test_a_dead_connection_makes_any_failure_transient() -> None:
    """What it was about is not known."""
    assert type(translate(OSError("Socket is closed"), alive=False)) is ConnectionError


def test_a_file_system_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is missing, as a mistake of the setting up."""
    monkeypatch.setitem(sys.modules, "smbprotocol", None)
    monkeypatch.setitem(sys.modules, "smbclient", None)

    with pytest.raises(lb.InputError) as caught:
        FsspecStore("smb://host/share/vault").describe()

    assert caught.value.kind == "missing_extra"


@pytest.mark.parametrize(
    "make",
    [
        lambda: FsspecStore("memory://vault"),
        lambda: FsspecStore("memory://vault", fs=MemoryFileSystem()),
        lambda: FsspecStore("file:///srv/vault", fs=LocalFileSystem()),
    ],
    ids=["memory", "open-memory", "open-local"],
)
def test_what_is_of_one_process_cannot_be_pickled(make: Callable[[], FsspecStore]) -> None:
    """A copy would be another store, or share what is the caller's."""
    with pytest.raises(TypeError, match="stays in its process"):
        pickle.dumps(make())


def test_what_a_killed_writer_left_is_removed_after_a_day(tmp_path: Path) -> None:
    """By the first write of a handle, and nothing younger with it."""
    import os
    import time

    folder = tmp_path / "store/.tmp"
    folder.mkdir(parents=True)
    for name, age_s in (("old", 90_000), ("young", 60)):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age_s,) * 2)

    FsspecStore(f"local://{tmp_path}/store").put("a", b"x", if_absent=True)

    assert {path.name for path in folder.iterdir()} == {"young"}


def test_a_vault_lives_on_an_sftp_server(sftp: SftpServer) -> None:
    """Refused where a rename takes names away, unless a single writer answers for it."""
    key = lb.Passphrase(CANARY)
    given: dict[str, Any] = {"storage_options": sftp.options, "state_dir": None}
    url = f"{sftp.url}/acme/prod"
    letters = [lb.Item(f"mail/{n}", data=b"Dear Acme AB" * n, subject="user-42") for n in range(9)]

    with pytest.raises(lb.InputError, match="exclusive create"):
        lb.Vault.create(url, key, location="eu-north-1", **given)
    with lb.Vault.create(url, key, location="eu-north-1", single_writer=True, **given) as vault:
        vault.backup(letters, name="letters")
    with lb.Vault.open(url, key, **given) as vault:
        found = vault.snapshot("latest").open("mail/2").read()
        vault.erase_subjects(["user-42"], reason="request 118")
        assert vault.check(data=True).ok
        info = vault.info()

    assert found == b"Dear Acme AB" * 2
    assert (info.store.tls, str(info.location)) == (True, "eu-north-1, as declared")
    assert info.url == url.replace(f"{url.partition('@')[0][7:]}@", "")


def test_what_a_provider_may_keep_counts_as_kept(acmefs: None) -> None:
    """An erasure says so, and is finished once its host has said that nothing is kept."""
    who, url = ("acme", "user-42"), "acmefs://place/kept"
    given: dict[str, Any] = {"location": "cellar of Acme AB", "single_writer": True}
    key = lb.Passphrase("correct horse battery staple")
    fs = NetworkFileSystem(skip_instance_cache=True, use_listings_cache=False)
    options: dict[str, Any] = {"fs": fs}
    with lb.Vault.create(url, key, storage_options=options, state_dir=None, **given) as vault:
        vault.backup([lb.Item("cv", data=b"x" * 999, subject=who)], name="n")
        with pytest.raises(lb.ErasureIncomplete) as caught:
            vault.erase_subjects([who], reason="request 118")
    options["keeps_deleted"] = False
    with lb.Vault.open(url, key, storage_options=options, state_dir=None) as vault:
        receipt = vault.erase_subjects([who], reason="request 118")

    def deadline(of: lb.Receipt) -> object:
        return of.facts["physical"]["destinations"][0]["deadline"]

    first = caught.value.receipt
    assert (first.level, deadline(first)) == ("E0", None)
    assert receipt.level == "E1"
    assert deadline(receipt) is not None


def test_what_was_deleted_before_may_still_be_kept(acmefs: None) -> None:
    """A second delete of an object knows no more than the first one."""
    fs = NetworkFileSystem(skip_instance_cache=True, use_listings_cache=False)
    store = FsspecStore("acmefs://place/twice", fs=fs)
    store.put("a", b"a", if_absent=False)

    assert store.delete("a").versions == 1
    assert store.delete("a").versions == 1
