"""Hard links, holes, attributes, owners and devices come back as they were."""

from __future__ import annotations

import errno
import os
import stat
import struct
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.unit.vault.target_support import (
    everything_below,
    file,
    folder,
    link,
    restore,
    unprivileged,
)

from loopbackup.errors import DamagedData
from loopbackup.vault.format.entries import BLOCK, CHAR, FIFO, FILE, SOCKET, SYMLINK, Extra, Node
from loopbackup.vault.target import LocalTarget, NotRestored

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may set this")
ACCESS, DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
ANYBODY = 0xFFFFFFFF


def acl(*, owner: int, user_1000: int, group: int, mask: int, others: int) -> bytes:
    """Encode a POSIX access list as Linux does in its attribute."""
    entries = [(1, owner, ANYBODY), (2, user_1000, 1000), (4, group, ANYBODY)]
    entries += [(0x10, mask, ANYBODY), (0x20, others, ANYBODY)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def linked(path: bytes, number: int = 1, content: bytes = b"shared", **more: Any) -> Any:
    """Describe a file that is one of several names."""
    return file(path, content, extra=Extra(link=number), **more)


def inodes(root: Path, *names: str) -> list[int]:
    """Give the inodes of entries."""
    return [os.lstat(root / name).st_ino for name in names]


def forbid_links(patch: pytest.MonkeyPatch, code: int) -> None:
    """Let the system refuse every hard link."""

    def fail(*args: object, **more: object) -> None:
        raise OSError(code, os.strerror(code))

    patch.setattr(os, "link", fail)


# ---- hard links


@pytest.mark.parametrize("overwrite", ["never", "changed", "always"])
def test_names_of_one_file_are_one_file_again(tmp_path: Path, overwrite: Any) -> None:
    """Whatever folders they lie in; other groups are other files."""
    nodes = [linked(b"a"), folder(b"d"), linked(b"d/b"), linked(b"x", 2), linked(b"y", 2)]

    problems = restore(LocalTarget(tmp_path, overwrite=overwrite), nodes)

    first, second, third, fourth = inodes(tmp_path, "a", "d/b", "x", "y")
    assert problems == []
    assert (first, third) == (second, fourth)
    assert first != third
    assert everything_below(tmp_path) == {"a", "d", "d/b", "x", "y"}


@pytest.mark.parametrize("kind", [SYMLINK, FIFO, SOCKET])
def test_entries_without_content_are_linked_too(tmp_path: Path, kind: int) -> None:
    """Links and pipes can have several names as well."""
    extra = Extra(link=1, target=b"to" if kind == SYMLINK else None)
    nodes = [
        (Node(p, kind, uid=os.geteuid(), gid=os.getegid(), extra=extra), b"") for p in (b"a", b"b")
    ]

    problems = restore(LocalTarget(tmp_path), nodes)

    assert problems == []
    assert len(set(inodes(tmp_path, "a", "b"))) == 1


def test_second_name_asks_for_no_content(tmp_path: Path) -> None:
    """What was written once is not fetched again."""
    target = LocalTarget(tmp_path)
    (first, content), (second, _) = linked(b"a"), linked(b"b")

    asked: list[bytes] = []

    def pieces() -> Iterator[bytes]:
        asked.append(content)
        yield content

    answers = [target.prepare(first), target.prepare(second)]
    sizes = [target.write(first, [content]), target.write(second, pieces())]
    target.close()

    assert answers == ["write", "link"]
    assert sizes == [len(content), 0]
    assert asked == []


def test_threads_agree_on_one_file(tmp_path: Path) -> None:
    """Later names wait for the first, also while several groups are written at once."""
    target = LocalTarget(tmp_path)
    nodes = [linked(b"%d-%d" % (n % 90, n), n % 90 + 1, b"%d" % (n % 90)) for n in range(900)]
    for node, _ in nodes:
        target.prepare(node)

    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda pair: target.write(pair[0], [pair[1]]), nodes))
    problems = target.finish()
    target.close()

    assert problems == []
    assert sum(size > 0 for size in sizes) == 90
    assert len({path.stat().st_ino for path in tmp_path.iterdir()}) == 90


def test_first_name_that_fails_does_not_lose_the_others(tmp_path: Path) -> None:
    """The next one is written instead, and those after it linked to that."""
    target = LocalTarget(tmp_path)
    nodes = [linked(name)[0] for name in (b"a", b"b", b"c")]

    def damaged() -> Any:
        yield b"sha"
        raise DamagedData("a chunk is damaged")

    with pytest.raises(DamagedData):
        target.write(nodes[0], damaged())
    target.write(nodes[1], [b"shared"])
    target.write(nodes[2], [b"shared"])
    target.close()

    assert everything_below(tmp_path) == {"b", "c"}
    assert len(set(inodes(tmp_path, "b", "c"))) == 1


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK])
@pytest.mark.parametrize("overwrite", ["never", "always"])
def test_where_links_are_impossible_copies_are_written_and_told(
    tmp_path: Path, code: int, overwrite: Any
) -> None:
    """Content comes before the saving of space."""
    target = LocalTarget(tmp_path, overwrite=overwrite)
    nodes = [linked(b"a"), linked(b"b")]

    with pytest.MonkeyPatch.context() as patch:
        target.write(nodes[0][0], [b"shared"])
        forbid_links(patch, code)
        if overwrite == "never" and code == errno.EXDEV:
            # Two folders: a name within one folder can always be given.
            patch.undo()
            forbid_second_folder(patch)
        target.write(nodes[1][0], [b"shared"])
    problems = target.finish()
    target.close()

    assert [problem.kind for problem in problems] == ["links"]
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"shared"] * 2
    assert len(set(inodes(tmp_path, "a", "b"))) == 2
    assert everything_below(tmp_path) == {"a", "b"}


def forbid_second_folder(patch: pytest.MonkeyPatch) -> None:
    """Let the system refuse links of complete files, as it does between disks."""
    real = os.link

    def fail(src: bytes, dst: bytes, **more: Any) -> None:
        if not src.startswith(b".loopbackup-"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(src, dst, **more)

    patch.setattr(os, "link", fail)


def test_never_links_to_a_foreign_file_only_if_it_is_the_same(tmp_path: Path) -> None:
    """A file of the same name is not yet the same file."""
    (tmp_path / "a").write_bytes(b"theirs")
    (tmp_path / "x").write_bytes(b"shared")
    os.utime(tmp_path / "x", ns=(0, 10**18))
    nodes = [linked(b"a"), linked(b"b"), linked(b"x", 2), linked(b"y", 2)]

    problems = restore(LocalTarget(tmp_path), nodes)

    assert problems == []
    assert [(tmp_path / name).read_bytes() for name in "abxy"] == [b"theirs", *[b"shared"] * 3]
    assert len(set(inodes(tmp_path, "x", "y"))) == 1


def test_changed_makes_copies_one_file_again(tmp_path: Path) -> None:
    """The content is right, and yet the tree is not."""
    nodes = [linked(b"a"), linked(b"b"), linked(b"c")]
    restore(LocalTarget(tmp_path), nodes)
    (tmp_path / "b").unlink()
    restore(LocalTarget(tmp_path), [file(b"b", b"shared")])
    before = inodes(tmp_path, "a", "b", "c")

    problems = restore(LocalTarget(tmp_path, overwrite="changed"), nodes)

    after = inodes(tmp_path, "a", "b", "c")
    assert problems == []
    assert len(set(before)) == 2
    assert after == [before[0]] * 3


def test_changed_leaves_a_group_that_is_right(tmp_path: Path) -> None:
    """Nothing is written."""
    nodes = [linked(b"a"), linked(b"b")]
    restore(LocalTarget(tmp_path), nodes)
    target = LocalTarget(tmp_path, overwrite="changed")

    answers = [target.prepare(node) for node, _ in nodes]
    target.close()

    assert answers == ["skip", "skip"]


@pytest.mark.parametrize("overwrite", ["changed", "always"])
def test_other_name_outside_of_the_target_is_never_changed(tmp_path: Path, overwrite: Any) -> None:
    """A file with other names is replaced, not written, nor given other permissions."""
    out = tmp_path / "out"
    restore(LocalTarget(out), [file(b"a"), linked(b"b"), linked(b"c")])
    for name in ("a", "b"):
        os.link(out / name, tmp_path / f"outside-{name}")
        os.chmod(out / name, 0o600)
    nodes = [file(b"a"), linked(b"b"), linked(b"c")]

    problems = restore(LocalTarget(out, overwrite=overwrite), nodes)

    assert problems == []
    assert [stat.S_IMODE((out / name).stat().st_mode) for name in "abc"] == [0o644] * 3
    for name in ("outside-a", "outside-b"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert len(set(inodes(out, "b", "c"))) == 1
    assert everything_below(out) == {"a", "b", "c"}


def test_group_whose_members_cannot_be_one_file_is_not_linked(tmp_path: Path) -> None:
    """A hostile number gives nobody another's content."""
    nodes = [linked(b"a", content=b"secret"), linked(b"b", content=b"mine")]

    problems = restore(LocalTarget(tmp_path), nodes)

    assert problems == ["links"]
    assert (tmp_path / "b").read_bytes() == b"mine"


def test_first_name_that_was_exchanged_is_not_linked_to(tmp_path: Path) -> None:
    """Between two names somebody put a link to elsewhere there."""
    (tmp_path / "secret").write_bytes(b"secret")
    out = tmp_path / "out"
    target = LocalTarget(out)
    target.write(linked(b"a")[0], [b"shared"])
    (out / "a").unlink()
    (out / "a").symlink_to("../secret")

    target.write(linked(b"b")[0], [b"shared"])
    problems = target.finish()
    target.close()

    assert [problem.kind for problem in problems] == ["links"]
    assert not (out / "b").is_symlink()
    assert (out / "b").read_bytes() == b"shared"


# ---- holes


def sparse(path: bytes, size: int, extents: list[tuple[int, int]], **more: Any) -> Node:
    """Describe a file with holes."""
    node, _ = file(path, b"", extra=Extra(extents=extents, **more))
    node.size = size
    return node


def data_of(path: Path) -> list[tuple[int, int]]:
    """Ask the file system where a file has data: (offset, length)."""
    found: list[tuple[int, int]] = []
    with path.open("rb") as opened:
        end = 0
        while True:
            try:
                at = os.lseek(opened.fileno(), end, os.SEEK_DATA)
            except OSError:
                return found
            end = os.lseek(opened.fileno(), at, os.SEEK_HOLE)
            found.append((at, end - at))


@pytest.mark.parametrize(
    ("size", "extents"),
    [
        (1 << 30, [(1 << 20, 8192), (1 << 29, 4096)]),
        (1 << 20, []),
        (1 << 20, [(0, 4096)]),
        (1 << 20, [((1 << 20) - 4096, 4096)]),
        (0, []),
    ],
    ids=["gigabyte", "hole", "begin", "end", "empty"],
)
def test_holes_stay_holes(tmp_path: Path, size: int, extents: list[tuple[int, int]]) -> None:
    """A gigabyte of nothing takes no gigabyte."""
    node = sparse(b"vm", size, extents)
    content = os.urandom(sum(length for _, length in extents))
    target = LocalTarget(tmp_path)

    written = target.write(node, [content[:5000], content[5000:]])
    problems = target.finish()
    target.close()

    assert problems == []
    assert written == len(content)
    assert (tmp_path / "vm").stat().st_size == size
    assert data_of(tmp_path / "vm") == extents
    with (tmp_path / "vm").open("rb") as opened:
        assert b"".join(os.pread(opened.fileno(), n, at) for at, n in extents) == content


def test_file_that_is_not_sparse_gets_no_holes(tmp_path: Path) -> None:
    """Zeros that were stored are written."""
    restore(LocalTarget(tmp_path), [file(b"a", bytes(1 << 16))])

    assert data_of(tmp_path / "a") == [(0, 1 << 16)]


@pytest.mark.parametrize(
    "extents",
    [[(0, 11)], [(-1, 2)], [(4, 2), (0, 2)], [(0, 4), (3, 2)], [(0, 0)], [(0, -3)], [(2**63, 1)]],
    ids=str,
)
def test_extents_that_cannot_be_are_refused(tmp_path: Path, extents: list[tuple[int, int]]) -> None:
    """Before anything is written."""
    node = sparse(b"a", 10, extents)
    target = LocalTarget(tmp_path)

    with pytest.raises(NotRestored) as prepared:
        target.prepare(node)
    with pytest.raises(NotRestored) as written:
        target.write(node, [b"x"])
    target.close()

    assert prepared.value.problem.kind == written.value.problem.kind == "malformed"
    assert everything_below(tmp_path) == set()


@pytest.mark.parametrize("content", [b"", b"abc", b"abcde", b"x" * 100], ids=len)
def test_content_that_does_not_fill_the_extents_never_appears(
    tmp_path: Path, content: bytes
) -> None:
    """Data that end too early, or go on where a hole begins."""
    target = LocalTarget(tmp_path)

    with pytest.raises(NotRestored) as caught:
        target.write(sparse(b"a", 10, [(1, 2), (4, 2)]), [content])
    target.close()

    assert caught.value.problem.kind == "size"
    assert everything_below(tmp_path) == set()


@pytest.mark.parametrize("size", [-1, 2**63, 2**64 - 1])
def test_size_that_no_file_can_have_is_refused(tmp_path: Path, size: int) -> None:
    """It is told, and costs nothing."""
    problems = restore(LocalTarget(tmp_path), [(sparse(b"a", size, []), b"")])

    assert problems == ["malformed"]
    assert everything_below(tmp_path) == set()


# ---- attributes, access lists and permissions


def test_attributes_come_back_on_files_and_folders(tmp_path: Path) -> None:
    """Also on those that nobody may write to."""
    extra = Extra(xattrs={b"user.a": b"\0\xff", b"user.\xe4": b""})
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        out = Path(place, "out")
        with unprivileged():
            nodes = [folder(b"d", mode=0o500, extra=extra), file(b"d/f", mode=0o400, extra=extra)]
            problems = restore(LocalTarget(out), nodes)
            found = [
                {os.fsencode(n): os.getxattr(out / p, n) for n in os.listxattr(out / p)}
                for p in ("d", "d/f")
            ]
            os.chmod(out / "d", 0o700)

    assert problems == []
    assert found == [extra.xattrs, extra.xattrs]


@needs_root
def test_setuid_and_capabilities_outlive_the_change_of_owner(tmp_path: Path) -> None:
    """The system takes both away when a file gets another owner."""
    extra = Extra(xattrs={b"security.capability": CAPABILITY})
    nodes = [
        file(b"ping", mode=0o755, uid=12345, gid=54321, extra=extra),
        file(b"su", mode=0o6755, uid=12345, gid=54321),
        folder(b"tmp", mode=0o1777, uid=12345),
    ]

    problems = restore(LocalTarget(tmp_path), nodes)

    assert problems == []
    assert os.getxattr(tmp_path / "ping", "security.capability") == CAPABILITY
    assert stat.S_IMODE((tmp_path / "su").stat().st_mode) == 0o6755
    assert stat.S_IMODE((tmp_path / "tmp").stat().st_mode) == 0o1777


@needs_root
def test_attributes_of_what_cannot_be_opened_come_back(tmp_path: Path) -> None:
    """Of links themselves, not of what they point to; of pipes and devices."""
    extra = {"xattrs": {b"trusted.a": b"b"}}
    link_node, _ = link(b"l", b"f")
    link_node.extra = Extra(target=b"f", **extra)  # type: ignore[arg-type]
    nodes = [file(b"f"), (link_node, b"")]
    nodes += [(Node(b"p", FIFO, 0o600, extra=Extra(**extra)), b"")]  # type: ignore[arg-type]
    nodes += [(Node(b"c", CHAR, 0o600, extra=Extra(rdev=259, **extra)), b"")]  # type: ignore[arg-type]

    problems = restore(LocalTarget(tmp_path), nodes)

    assert problems == []
    for name in "lpc":
        assert os.getxattr(tmp_path / name, "trusted.a", follow_symlinks=False) == b"b"
    assert os.listxattr(tmp_path / "f") == []


@pytest.mark.parametrize("mask", [0, 4, 7])
def test_access_list_and_permissions_agree(tmp_path: Path, mask: int) -> None:
    """The group bits of the mode are the list's mask; to set one must not change the other."""
    access = acl(owner=6, user_1000=7, group=5, mask=mask, others=0)
    node, content = file(b"a", mode=0o600 | mask << 3, extra=Extra(xattrs={ACCESS: access}))

    problems = restore(LocalTarget(tmp_path), [(node, content)])

    assert problems == []
    assert os.getxattr(tmp_path / "a", ACCESS) == access
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600 | mask << 3


def test_list_that_a_folder_hands_down_does_not_reach_what_is_in_it(tmp_path: Path) -> None:
    """Entries come back with their own lists, or none, not with those of the folder's."""
    handed_down = acl(owner=7, user_1000=7, group=5, mask=7, others=0)
    own = acl(owner=7, user_1000=1, group=1, mask=1, others=0)
    nodes = [
        folder(b"d", mode=0o755, extra=Extra(xattrs={DEFAULT: handed_down})),
        folder(b"d/in", mode=0o750),
        file(b"d/in/f", mode=0o640),
        file(b"d/g", mode=0o710, extra=Extra(xattrs={ACCESS: own})),
        (Node(b"d/p", FIFO, 0o640, os.geteuid(), os.getegid()), b""),
    ]

    first = restore(LocalTarget(tmp_path), nodes)
    for path in ("d/in/f", "d/g", "d/p"):
        (tmp_path / path).unlink()
    (tmp_path / "d/in").rmdir()
    again = restore(LocalTarget(tmp_path), nodes)

    assert (first, again) == ([], [])
    assert os.listxattr(tmp_path / "d") == [DEFAULT.decode()]
    for path, mode in (("d/in", 0o750), ("d/in/f", 0o640), ("d/p", 0o640)):
        assert os.listxattr(tmp_path / path) == []
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == mode
    assert os.getxattr(tmp_path / "d/g", ACCESS) == own


@pytest.mark.parametrize(
    "name", [b"", b"user.\0", b"nonsense", b"user." + b"x" * 300, b"system.nosuch"], ids=repr
)
def test_attribute_of_an_impossible_name_costs_itself_only(tmp_path: Path, name: bytes) -> None:
    """The content and the other attributes are there, and it is told once."""
    extra = Extra(xattrs={name: b"x", b"user.a": b"b"})

    problems = restore(LocalTarget(tmp_path), [file(b"a", extra=extra)])

    assert problems == ["xattrs"]
    assert os.getxattr(tmp_path / "a", "user.a") == b"b"
    assert (tmp_path / "a").read_bytes() == b"new"


def test_attribute_that_is_too_large_is_no_full_disk(tmp_path: Path) -> None:
    """File systems say the same of both; the rest goes on."""
    extra = Extra(xattrs={b"user.a": bytes(70_000)})

    problems = restore(LocalTarget(tmp_path), [file(b"a", extra=extra), file(b"b")])

    assert problems == ["xattrs"]
    assert everything_below(tmp_path) == {"a", "b"}


@needs_root
def test_owners_go_by_name_before_number(tmp_path: Path) -> None:
    """Another machine gave the same person another number; root is root."""
    import pwd

    known = next(entry for entry in pwd.getpwall() if entry.pw_uid)
    nodes = [
        file(b"named", uid=4242, user=known.pw_name),
        file(b"unknown", uid=4242, user="no-such-user"),
        file(b"root", uid=0, user=known.pw_name),
    ]

    problems = restore(LocalTarget(tmp_path), nodes)

    owners = [(tmp_path / name).stat().st_uid for name in ("named", "unknown", "root")]
    assert problems == []
    assert owners == [known.pw_uid, 4242, 0]


# ---- devices


@needs_root
@pytest.mark.parametrize("kind", [CHAR, BLOCK])
def test_devices_come_back(tmp_path: Path, kind: int) -> None:
    """With their numbers, owner, permissions and times."""
    extra = Extra(rdev=os.makedev(7, 300))
    node = Node(b"dev", kind, 0o660, 1, 2, mtime_ns=10**9, extra=extra)

    problems = restore(LocalTarget(tmp_path), [(node, b"")])

    status = (tmp_path / "dev").stat()
    assert problems == []
    assert stat.S_IFMT(status.st_mode) == (stat.S_IFCHR if kind == CHAR else stat.S_IFBLK)
    assert (status.st_rdev, status.st_uid, status.st_gid) == (os.makedev(7, 300), 1, 2)
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o660, 10**9)


@needs_root
@pytest.mark.parametrize("rdev", [-1, 2**64, 2**64 - 1, 2**40])
def test_device_of_an_impossible_number_is_told(tmp_path: Path, rdev: int) -> None:
    """No other device is made instead."""
    node = Node(b"dev", BLOCK, 0o666, extra=Extra(rdev=rdev))

    problems = restore(LocalTarget(tmp_path), [(node, b"")])

    assert len(problems) == 1
    assert problems[0] in ("malformed", "device")
    assert everything_below(tmp_path) == set()


@pytest.mark.parametrize(
    ("kind", "told"), [(SOCKET, "special"), (FIFO, "special"), (CHAR, "device")]
)
def test_kind_that_the_file_system_does_not_have_is_told(
    tmp_path: Path, kind: int, told: str
) -> None:
    """As on a stick with an old file system."""

    def refuse(*args: object, **more: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "mknod", refuse)
        patch.setattr(os, "mkfifo", refuse)
        problems = restore(LocalTarget(tmp_path), [(Node(b"a", kind), b"")])

    assert problems == [told]


# ---- what stands there already


def test_changed_repairs_metadata_without_asking_for_content(tmp_path: Path) -> None:
    """Permissions, attributes and lists, on the very same file."""
    access = acl(owner=6, user_1000=7, group=4, mask=4, others=0)
    nodes = [
        file(b"mode"),
        file(b"more"),
        file(b"less", extra=Extra(xattrs={b"user.a": b"b"})),
        file(b"list", mode=0o640, extra=Extra(xattrs={ACCESS: access})),
        file(b"same", extra=Extra(xattrs={b"user.a": b"b"})),
    ]
    restore(LocalTarget(tmp_path), nodes)
    os.chmod(tmp_path / "mode", 0o777)
    os.setxattr(tmp_path / "more", "user.x", b"x")
    os.removexattr(tmp_path / "less", "user.a")
    os.chmod(tmp_path / "list", 0o600)
    before = inodes(tmp_path, "mode", "more", "less", "list", "same")
    target = LocalTarget(tmp_path, overwrite="changed")

    answers = [target.prepare(node) for node, _ in nodes]
    for node, _ in nodes[:-1]:
        target.repair(node)
    problems = target.finish()
    target.close()

    assert answers == ["repair"] * 4 + ["skip"]
    assert problems == []
    assert inodes(tmp_path, "mode", "more", "less", "list", "same") == before
    assert stat.S_IMODE((tmp_path / "mode").stat().st_mode) == 0o644
    assert os.listxattr(tmp_path / "more") == []
    assert os.getxattr(tmp_path / "less", "user.a") == b"b"
    assert os.getxattr(tmp_path / "list", ACCESS) == access


@pytest.mark.parametrize("now", ["link", "folder", "second name"])
def test_repair_touches_nothing_that_came_in_between(tmp_path: Path, now: str) -> None:
    """What was looked at is no longer what stands there."""
    (tmp_path / "safe").write_bytes(b"new")
    os.chmod(tmp_path / "safe", 0o600)
    out = tmp_path / "out"
    node, content = file(b"a")
    restore(LocalTarget(out), [(node, content)])
    os.chmod(out / "a", 0o600)
    target = LocalTarget(out, overwrite="changed")
    answer = target.prepare(node)
    (out / "a").unlink()
    if now == "link":
        (out / "a").symlink_to("../safe")
    elif now == "folder":
        (out / "a").mkdir()
    else:
        os.link(tmp_path / "safe", out / "a")

    with pytest.raises(NotRestored):
        target.repair(node)
    target.close()

    assert answer == "repair"
    assert stat.S_IMODE((tmp_path / "safe").stat().st_mode) == 0o600


def test_changed_folder_gets_its_metadata_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    """Folders are merged, and their times come last."""
    nodes = [folder(b"d", mode=0o750), file(b"d/f")]
    restore(LocalTarget(tmp_path), nodes)
    os.chmod(tmp_path / "d", 0o700)
    os.setxattr(tmp_path / "d", "user.x", b"x")
    (tmp_path / "d/theirs").touch()

    problems = restore(LocalTarget(tmp_path, overwrite="changed"), nodes)

    status = (tmp_path / "d").stat()
    assert problems == []
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o750, 10**18)
    assert os.listxattr(tmp_path / "d") == []
    assert everything_below(tmp_path) == {"d", "d/f", "d/theirs"}


@pytest.mark.parametrize("overwrite", ["never", "changed", "always"])
def test_prepare_changes_nothing(tmp_path: Path, overwrite: Any) -> None:
    """Not even the folders on the way are made."""
    (tmp_path / "there").touch()
    target = LocalTarget(tmp_path, overwrite=overwrite)

    for node, _ in [folder(b"d"), file(b"d/f"), file(b"there"), link(b"l", b"x"), file(b"x/y/z")]:
        target.prepare(node)
    unnamed = target.unnamed_folders()
    target.close()

    assert unnamed == []
    assert everything_below(tmp_path) == {"there"}


def test_folders_on_the_way_are_named_until_they_are_described(tmp_path: Path) -> None:
    """Whoever restores can still give them their metadata."""
    target = LocalTarget(tmp_path)
    (tmp_path / "old").mkdir()

    for node, content in (file(b"a/b/c"), file(b"old/x")):
        target.write(node, [content])
    before = target.unnamed_folders()
    target.make(folder(b"a", mode=0o711)[0])
    after = target.unnamed_folders()
    target.finish()
    target.close()

    assert (before, after) == ([b"a", b"a/b"], [b"a/b"])
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o711
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700


def test_lost_content_is_told_as_lost(tmp_path: Path) -> None:
    """It is not the size of the entry that is wrong."""
    node, _ = file(b"a", extra=Extra(problem="lost"))

    problems = restore(LocalTarget(tmp_path), [(node, b"")])

    assert problems == ["lost"]
    assert node.kind == FILE
    assert everything_below(tmp_path) == set()
