"""The local driver: crashes, full disks, hostile folders, odd file systems."""

import errno
import fcntl
import os
import pickle
import random
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.rights import unprivileged

from loopbackup.errors import InputError
from loopbackup.vault.store.local import LocalStore

DAY_S = 86400


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Give a handle of a folder that does not exist yet."""
    return LocalStore(tmp_path / "store")


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file system without hard links, such as exFAT."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", refuse)


def keys_of(store: LocalStore, prefix: str = "") -> list[str]:
    """Return the keys that a listing shows."""
    return sorted(entry.key for entry in store.list(prefix))


def files_below(folder: Path) -> set[str]:
    """Return every file below a folder, unfinished ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


# ---- where


@pytest.mark.parametrize("name", ["a%20b", "a b", "a?b#c", "~", "ö", "a:b"])
def test_a_url_is_taken_literally(name: str, tmp_path: Path) -> None:
    """Nothing in a file URL or path is unquoted, expanded or cut off."""
    LocalStore(f"file://{tmp_path}/{name}").put("k", b"x", if_absent=True)

    assert (tmp_path / name / "k").read_bytes() == b"x"
    assert LocalStore(f"{tmp_path}/{name}").get("k") == b"x"
    assert LocalStore(tmp_path / name).get("k") == b"x"


@pytest.mark.parametrize("url", ["", "file://", "file://host/srv", "file:srv", "file:/srv", "a\0b"])
def test_what_is_no_path_is_refused(url: str) -> None:
    """A host, a relative URL, nothing at all and NUL are InputErrors."""
    with pytest.raises(InputError):
        LocalStore(url)


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later change of the working directory does not move the store."""
    monkeypatch.chdir(tmp_path)
    store = LocalStore("store")

    monkeypatch.chdir("/")
    store.put("a", b"x", if_absent=True)

    assert (tmp_path / "store/a").read_bytes() == b"x"


def test_reading_makes_no_folder(store: LocalStore) -> None:
    """A mistyped path is found empty and is not created."""
    with pytest.raises(FileNotFoundError):
        store.get("vault")
    store.delete("vault")
    store.describe()

    assert keys_of(store) == []
    assert not os.path.exists(store.root)


def test_only_the_owner_may_read(store: LocalStore) -> None:
    """Folders have mode 0700 and files 0600."""
    store.put("packs/ab/1", b"x", if_absent=True)

    root = Path(store.root)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
    assert modes == {"store": 0o700, ".tmp": 0o700, "packs": 0o700, "ab": 0o700, "1": 0o600}


def test_a_store_travels_as_its_path(store: LocalStore) -> None:
    """A pickled handle opens the same folder with the same options."""
    store.put("a", b"x", if_absent=True)

    copy = pickle.loads(pickle.dumps(store))

    assert copy.get("a") == b"x"
    assert copy.describe() == store.describe()


def test_a_handle_works_on_both_sides_of_a_fork(store: LocalStore) -> None:
    """Parent and child put through the handle that they share."""
    store.put("a/parent", b"x", if_absent=True)
    with warnings.catch_warnings():
        # Later Pythons warn of any fork beside threads; this is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            store.put("a/child", store.get("a/parent"), if_absent=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)

    store.put("a/parent-2", b"x", if_absent=True)

    assert keys_of(store) == ["a/child", "a/parent", "a/parent-2"]


# ---- durable


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record, in order, what reaches the disk and what gets a name."""
    seen: list[str] = []

    def recorded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name != "fsync":
                seen.append(name)
            elif stat.S_ISDIR(os.fstat(args[0]).st_mode):
                seen.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{args[0]}'))}")
            else:
                seen.append("sync file")
            return real(*args, **kwargs)

        return call

    for name in ("fsync", "link", "replace"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    return seen


@pytest.mark.parametrize(("if_absent", "named"), [(True, "link"), (False, "replace")])
def test_a_put_costs_two_syncs(
    store: LocalStore, steps: list[str], if_absent: bool, named: str
) -> None:
    """The file reaches the disk before it gets its name, and the name before put returns."""
    store.put("packs/1", b"x", if_absent=True)
    steps.clear()

    store.put("packs/2", b"x", if_absent=if_absent)

    assert steps == ["sync file", named, "sync packs"]


def test_new_folders_reach_the_disk_first(store: LocalStore, steps: list[str]) -> None:
    """Each folder on the way is entered in its parent for good before the object is named."""
    store.put("packs/ab/1", b"x", if_absent=True)

    parent = os.path.basename(os.path.dirname(store.root))
    # The unfinished file that finds out about hard links stands between.
    assert steps[:2] == [f"sync {parent}", "sync store"]
    assert steps[-5:] == ["sync store", "sync packs", "sync file", "link", "sync ab"]


def test_a_taken_name_is_durable_too(store: LocalStore, steps: list[str]) -> None:
    """Whoever is told that an object exists may rely on it."""
    store.put("a/1", b"x", if_absent=True)
    steps.clear()

    with pytest.raises(FileExistsError):
        store.put("a/1", b"x", if_absent=True)

    assert steps[-1] == "sync a"


@pytest.mark.parametrize("exists", [True, False])
def test_a_delete_is_durable(store: LocalStore, steps: list[str], exists: bool) -> None:
    """Also a repeated delete syncs: the first may not have come so far."""
    store.put("a/1", b"x", if_absent=True)
    if not exists:
        store.delete("a/1")
    steps.clear()

    store.delete("a/1")

    assert steps == ["sync a"]


def test_without_fsync_nothing_is_waited_for(tmp_path: Path, steps: list[str]) -> None:
    """fsync=False syncs nothing, and describe() says so."""
    store = LocalStore(tmp_path / "store", fsync=False)

    store.put("a/1", b"x", if_absent=True)
    store.delete("a/1")

    assert [step for step in steps if "sync" in step] == []
    assert not store.describe().durable_put


# ---- crashes

WRITER = """
import itertools, os, sys
from loopbackup.vault.store.local import LocalStore
store = LocalStore(sys.argv[1])
for number in itertools.count():
    key = f"{sys.argv[2]}/{number}"
    store.put(key, key.encode() * 20_000, if_absent=True)
    os.write(1, f"{key}\\n".encode())
    store.put("state", str(number % 10).encode() * 100_000, if_absent=False)
"""


def run_writer(root: str, name: str) -> subprocess.Popen[bytes]:
    """Start a process that puts objects and prints the name of each that it was told is stored."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, root, name],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_killed_writer_leaves_nothing_partial(store: LocalStore) -> None:
    """After SIGKILL at any moment: acknowledged objects stand, and every object is whole."""
    chance = random.Random(20261123)
    acknowledged: set[str] = set()
    for run in range(8):
        with run_writer(store.root, f"run-{run}") as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            time.sleep(chance.uniform(0, 0.05))
            writer.kill()
            rest = writer.stdout.read()
        acknowledged |= set((first + rest).decode().split())

    found = {entry.key: entry.size_bytes for entry in store.list("run-")}
    assert len(acknowledged) >= 8
    assert acknowledged <= found.keys()
    for key, size_bytes in found.items():
        assert store.get(key) == key.encode() * 20_000
        assert size_bytes == len(key) * 20_000
    state = store.get("state")
    assert len(state) == 100_000
    assert len(set(state)) == 1


def test_leftovers_of_the_dead_are_removed_after_a_day(store: LocalStore) -> None:
    """The first write of a handle removes old unfinished files, and no young one."""
    store.put("a", b"x", if_absent=True)
    tmp = Path(store.root, ".tmp")
    (tmp / "old").write_bytes(b"torn")
    (tmp / "young").write_bytes(b"being written")
    long_ago = time.time() - DAY_S - 60
    os.utime(tmp / "old", (long_ago, long_ago))

    LocalStore(store.root).put("b", b"x", if_absent=True)

    assert os.listdir(tmp) == ["young"]
    assert keys_of(store) == ["a", "b"]


@pytest.mark.parametrize("folder", ["packs", ".tmp", ""], ids=["folder", "tmp", "root"])
def test_a_folder_removed_meanwhile_is_made_again(store: LocalStore, folder: str) -> None:
    """Somebody who tidies up empty folders does not stop a running backup."""
    store.put("packs/1", b"x", if_absent=True)
    shutil.rmtree(os.path.join(store.root, folder))

    store.put("packs/2", b"y", if_absent=True)

    assert store.get("packs/2") == b"y"


# ---- failing disks


@pytest.mark.parametrize(
    ("call", "key"),
    [
        ("open", "packs/2"),
        ("write", "packs/2"),
        ("fsync", "packs/2"),
        ("link", "packs/2"),
        ("replace", "packs/1"),
    ],
)
@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES],
    ids=lambda number: errno.errorcode[number],
)
def test_a_failing_disk_leaves_nothing_behind(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, call: str, key: str, number: int
) -> None:
    """The error keeps its number, no file is left, and the old object stands."""
    store.put("packs/1", b"old", if_absent=True)
    before = files_below(Path(store.root))

    def fail(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            store.put(key, b"new", if_absent=call != "replace")

    assert caught.value.errno == number
    assert files_below(Path(store.root)) == before
    assert store.get("packs/1") == b"old"


def test_a_limit_met_half_way_leaves_nothing_behind(store: LocalStore) -> None:
    """A file that outgrows the process's limit is neither stored nor left unfinished."""
    store.put("small", b"x", if_absent=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            store.put("large", bytes(2**21), if_absent=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert caught.value.errno == errno.EFBIG
    assert files_below(Path(store.root)) == {"small"}
    store.put("large", bytes(2**21), if_absent=True)


def test_an_interrupted_put_leaves_nothing_behind(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between writing and naming removes the unfinished file."""
    store.put("a", b"x", if_absent=True)

    def interrupt(*args: object, **kwargs: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.put("b", b"y", if_absent=True)

    assert files_below(Path(store.root)) == {"a"}


def test_a_read_only_folder_can_be_read() -> None:
    """Without the right to write, put and delete are PermissionErrors and the rest works."""
    # Nobody may enter pytest's own folders.
    folder = Path(tempfile.mkdtemp())
    try:
        LocalStore(folder).put("a", b"x", if_absent=True)
        for path in (folder / ".tmp", folder):
            path.chmod(0o555)
        (folder / "a").chmod(0o444)

        with unprivileged():
            store = LocalStore(folder)
            with pytest.raises(PermissionError):
                store.put("b", b"y", if_absent=True)
            with pytest.raises(PermissionError):
                store.delete("a")
            read = store.get("a")
            keys = keys_of(store)
    finally:
        folder.chmod(0o700)
        (folder / ".tmp").chmod(0o700)
        shutil.rmtree(folder)

    assert (read, keys) == (b"x", ["a"])


def test_an_unreadable_folder_is_no_empty_one() -> None:
    """A listing without the right to look raises instead of showing too little."""
    folder = Path(tempfile.mkdtemp())
    try:
        LocalStore(folder).put("packs/1", b"x", if_absent=True)
        folder.chmod(0o755)
        (folder / "packs").chmod(0)

        with unprivileged(), pytest.raises(PermissionError):
            keys_of(LocalStore(folder))
    finally:
        (folder / "packs").chmod(0o700)
        shutil.rmtree(folder)


# ---- hostile folders


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Give a folder beside the store, with one file of somebody else."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "1").write_bytes(b"theirs")
    return folder


def test_a_linked_folder_is_not_entered(store: LocalStore, outside: Path) -> None:
    """Through a symbolic link in a folder's place nothing is read, listed, written or deleted."""
    store.put("a", b"x", if_absent=True)
    Path(store.root, "packs").symlink_to(outside)

    with pytest.raises(FileNotFoundError):
        store.get("packs/1")
    with pytest.raises(NotADirectoryError):
        store.put("packs/2", b"ours", if_absent=True)
    with pytest.raises(NotADirectoryError):
        store.put("packs/1", b"ours", if_absent=False)
    store.delete("packs/1")

    assert keys_of(store) == ["a"]
    assert keys_of(store, "packs/") == []
    assert (outside / "1").read_bytes() == b"theirs"
    assert files_below(outside) == {"1"}


def test_a_linked_object_is_not_followed(store: LocalStore, outside: Path) -> None:
    """A symbolic link in an object's place is no object, and its target is never touched."""
    store.put("a", b"x", if_absent=True)
    link = Path(store.root, "b")
    link.symlink_to(outside / "1")

    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        store.get("b")
    with pytest.raises(FileExistsError):
        store.put("b", b"ours", if_absent=True)
    assert keys_of(store) == ["a"]
    store.put("b", b"ours", if_absent=False)
    assert not link.is_symlink()
    link.unlink()
    link.symlink_to(outside / "1")
    store.delete("b")

    assert not link.is_symlink()
    assert (outside / "1").read_bytes() == b"theirs"


def test_a_linked_place_for_unfinished_files_is_refused(store: LocalStore, outside: Path) -> None:
    """Nothing is written through, or tidied up behind, a link in the place of .tmp."""
    Path(store.root).mkdir()
    Path(store.root, ".tmp").symlink_to(outside)
    long_ago = time.time() - 2 * DAY_S
    os.utime(outside / "1", (long_ago, long_ago))

    with pytest.raises(NotADirectoryError):
        store.put("a", b"ours", if_absent=True)

    assert files_below(outside) == {"1"}


def test_the_store_itself_may_be_a_link(tmp_path: Path) -> None:
    """Where the folder is, is its owner's choice."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")

    LocalStore(tmp_path / "link").put("a", b"x", if_absent=True)

    assert (tmp_path / "disk/a").read_bytes() == b"x"


def test_a_fifo_does_not_hold_the_reader(store: LocalStore) -> None:
    """What is no regular file is an error at once, and is not listed."""
    store.put("a", b"x", if_absent=True)
    os.mkfifo(os.path.join(store.root, "b"))

    with pytest.raises(OSError, match="not a regular file"):
        store.get("b")

    assert keys_of(store) == ["a"]


def test_foreign_names_are_passed_over(store: LocalStore) -> None:
    """Names that are no keys, in bytes that are no text too, hide no object and are not shown."""
    store.put("packs/1", b"x", if_absent=True)
    for name in (b"\xff\xfe", b"README", b"a.b", b".hidden", b"a b", b"line\nbreak", b"\xc3\xb6"):
        for folder in (b".", b"packs"):
            path = os.path.join(os.fsencode(store.root), folder, name)
            Path(os.fsdecode(path)).write_bytes(b"foreign")
    Path(store.root, "Upper").mkdir()
    Path(store.root, "Upper/1").write_bytes(b"foreign")

    assert keys_of(store) == ["packs/1"]
    assert keys_of(store, "packs/") == ["packs/1"]


def test_odd_times_do_not_break_a_listing(store: LocalStore) -> None:
    """A file from long before or after our time is listed like any other."""
    for key, seconds in (("old", -(2**40)), ("new", 2**45)):
        store.put(key, b"x", if_absent=True)
        os.utime(os.path.join(store.root, key), (seconds, seconds))

    entries = {entry.key: entry for entry in store.list("")}

    assert entries.keys() == {"old", "new"}
    assert all(entry.size_bytes == 1 for entry in entries.values())


# ---- file systems without hard links


def test_without_hard_links_creates_stay_whole_and_exclusive(
    store: LocalStore, no_links: None
) -> None:
    """The lock takes the place of the link, and describe() does not promise other machines."""
    assert store.describe().exclusive_create

    store.put("a", b"first", if_absent=True)
    with pytest.raises(FileExistsError):
        store.put("a", b"second", if_absent=True)

    assert store.get("a") == b"first"
    assert not store.describe().exclusive_create
    assert files_below(Path(store.root)) == {"a"}


def test_without_hard_links_the_lock_is_given_back(store: LocalStore, no_links: None) -> None:
    """After a put, won or lost, the next process need not wait."""
    store.put("a", b"first", if_absent=True)
    with pytest.raises(FileExistsError):
        store.put("a", b"second", if_absent=True)

    fd = os.open(os.path.join(store.root, ".tmp"), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)

    store.put("a", b"third", if_absent=False)
    assert store.get("a") == b"third"


CONTENDER = """
import os, sys, time
from loopbackup.vault.store.local import LocalStore
if sys.argv[3] == "without":
    def refuse(*args, **kwargs): raise PermissionError(1, "no links here")
    def slow(name, *, look=os.stat, **kwargs):
        try:
            return look(name, **kwargs)
        except FileNotFoundError:
            time.sleep(0.001)  # others may come between the look and what follows from it
            raise
    os.link, os.stat = refuse, slow
store = LocalStore(sys.argv[1], fsync=False)
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    try:
        store.put(f"ledger/{number}", sys.argv[2].encode() * 1000, if_absent=True)
    except FileExistsError:
        continue
    print(number)
"""


@pytest.mark.parametrize("links", ["with", "without"])
def test_processes_share_out_names(store: LocalStore, links: str) -> None:
    """Of four processes that create the same hundred names each name has one owner, who told so."""
    contenders = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, store.root, name, links],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for name in "abcd"
    ]
    for contender in contenders:
        assert contender.stdout is not None
        assert contender.stdout.readline() == "ready\n"
    for contender in contenders:
        assert contender.stdin is not None
        contender.stdin.write("go\n")
        contender.stdin.flush()
    told = [
        (int(number), name.encode() * 1000)
        for name, contender in zip("abcd", contenders, strict=True)
        for number in contender.communicate(timeout=60)[0].split()
    ]

    assert [contender.returncode for contender in contenders] == [0] * 4
    assert sorted(told) == [(number, store.get(f"ledger/{number}")) for number in range(100)]


def test_an_abandoned_listing_closes_its_folders(store: LocalStore) -> None:
    """A caller who looks at the first object only leaves no folder open."""
    for number in range(5):
        store.put(f"packs/ab/{number}", b"x", if_absent=True)
    before = os.listdir("/dev/fd")

    first = next(store.list(""))

    assert first.key.startswith("packs/ab/")
    assert os.listdir("/dev/fd") == before
