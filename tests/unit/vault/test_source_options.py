"""What a walk over a tree leaves out because the host asked for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from loopbackup.errors import InputError
from loopbackup.vault.source import Found, open_source
from loopbackup.vault.source.tree import TreeSource

TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# made by a test"


def paths_of(root: Path, options: Mapping[str, Any], **more: Any) -> list[bytes]:
    """Scan a tree with options, in which nothing goes wrong."""
    found = list(TreeSource(root, options=options, **more).scan())
    paths = [entry.node.path for entry in found if isinstance(entry, Found)]
    assert len(paths) == len(found)
    return paths


def plant(root: Path, *names: str) -> None:
    """Make empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_folder_with_a_marker_keeps_itself_and_the_marker(tmp_path: Path) -> None:
    """Everything beside and below the marker is left out; without the option nothing is."""
    plant(tmp_path, "a/.nobackup", "a/x", "a/y/z", "b/x")

    marked = paths_of(tmp_path, {"exclude_if_present": [".nobackup"]})
    plain = paths_of(tmp_path, {})

    assert marked == [b"a", b"a/.nobackup", b"b", b"b/x"]
    assert len(plain) == 7


def test_marker_in_the_root_leaves_only_itself(tmp_path: Path) -> None:
    """The root is a folder like any other."""
    plant(tmp_path, ".skip", "x")

    assert paths_of(tmp_path, {"exclude_if_present": [b".skip", "other"]}) == [b".skip"]


def test_folder_of_the_name_of_a_marker_marks_nothing(tmp_path: Path) -> None:
    """Markers are files."""
    plant(tmp_path, "a/.nobackup/in", "a/x")

    walked = paths_of(tmp_path, {"exclude_if_present": [".nobackup"]})

    assert walked == [b"a", b"a/.nobackup", b"a/.nobackup/in", b"a/x"]


def test_caches_are_left_out_by_their_signature_only(tmp_path: Path) -> None:
    """A file that merely has the name protects nothing, and a link to a tag neither."""
    plant(tmp_path, "cache/big", "linked/big", "short/big", "wrong/big")
    (tmp_path / "cache" / "CACHEDIR.TAG").write_bytes(TAG)
    (tmp_path / "linked" / "CACHEDIR.TAG").symlink_to("../cache/CACHEDIR.TAG")
    (tmp_path / "short" / "CACHEDIR.TAG").write_bytes(TAG[:42])
    (tmp_path / "wrong" / "CACHEDIR.TAG").write_bytes(b"x" + TAG)

    asked = paths_of(tmp_path, {"exclude_caches": True})
    plain = paths_of(tmp_path, {})

    assert b"cache/big" not in asked
    assert {b"cache", b"cache/CACHEDIR.TAG"} < set(asked)
    assert {b"linked/big", b"short/big", b"wrong/big"} < set(asked)
    assert b"cache/big" in plain


@pytest.mark.usefixtures("step_by_step")
def test_other_file_systems_are_kept_as_empty_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mount points stay, so that a restored system can mount there again."""
    plant(tmp_path, "mnt/inside", "mnt/deep/x", "own/x")
    real_lstat = os.lstat

    def lstat(name: bytes, *, dir_fd: int | None = None) -> os.stat_result:
        status = real_lstat(name, dir_fd=dir_fd)
        if name != b"mnt":
            return status
        values = list(status)
        values[2] += 1
        named = {key: getattr(status, key) for key in dir(status) if key.startswith("st_")}
        return os.stat_result(values, named | {"st_dev": values[2]})

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", lstat)
        walked = paths_of(tmp_path, {"one_file_system": True})
    everything = paths_of(tmp_path, {"one_file_system": True})

    assert walked == [b"mnt", b"own", b"own/x"]
    assert b"mnt/deep/x" in everything


def test_real_mount_point_is_not_entered() -> None:
    """In the root of a Linux system there is at least /proc."""
    walk = TreeSource("/", options={"one_file_system": True}, exclude=["/*", "!/proc/"]).scan()

    found = next(walk)
    rest = list(walk)

    assert isinstance(found, Found)
    assert found.node.path == b"proc"
    assert rest == []


def test_patterns_hold_beside_the_options(tmp_path: Path) -> None:
    """What is excluded stays out, and the marker goes by the patterns as well."""
    plant(tmp_path, "a/.nobackup", "a/x", "b/x", "b/y")

    walked = paths_of(
        tmp_path, {"exclude_if_present": [".nobackup"]}, include=["x"], exclude=["b/y"]
    )

    assert walked == [b"b", b"b/x"]


def test_options_stand_in_the_description(tmp_path: Path) -> None:
    """A snapshot says by which rules it was made; those at their default are not named."""
    options = {
        "one_file_system": True,
        "exclude_if_present": [".nobackup", b"\xff"],
        "exclude_caches": False,
    }

    asked = open_source(tmp_path, options=options).description
    plain = open_source(tmp_path).description

    assert asked == {
        **plain,
        "one_file_system": "true",
        "exclude_if_present": ".nobackup/\\xff",
    }


@pytest.mark.parametrize(
    "options",
    [
        {"one_filesystem": True},
        {"one_file_system": 1},
        {"exclude_caches": "yes"},
        {"exclude_if_present": ".nobackup"},
        {"exclude_if_present": [1]},
        {"exclude_if_present": ["a/b"]},
        {"exclude_if_present": [""]},
        {"exclude_if_present": [".."]},
        {"exclude_if_present": ["a\0"]},
        {"exclude_if_present": None},
        {"in_order": True},
    ],
    ids=str,
)
def test_wrong_option_is_an_input_error(tmp_path: Path, options: dict[str, Any]) -> None:
    """Before anything is read."""
    with pytest.raises(InputError):
        open_source(tmp_path, options=options)


def test_unknown_option_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    """Whoever mistyped one sees which there are."""
    with pytest.raises(InputError, match="one_file_system, exclude_if_present, exclude_caches"):
        open_source(tmp_path, options={"one_filesystem": True})
