"""
Make the corpora that the tools are compared on.

    python -m benchmarks.corpora [--folder FOLDER] [--scale 1.0] [--only tree,random]

A corpus is a folder: ``source`` is what is backed up, ``edited`` holds the files
that the edits change, at the same paths. Made again from the same seeds and the
same machine it is the same; what is there already is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random

from attrs import frozen

__all__ = ["CORPORA", "Corpus", "Edits", "make_corpus", "open_corpus"]

DEFAULT_FOLDER = Path("/dev/shm/loopbackup-bench")
RECIPE = 1
"""Raise it when a corpus is made in another way; old ones are then made anew."""
MIB = 1 << 20
BLOCK = 4096
EDITS = 200
STREAM_MIB = 1024
TINY_FILES = 200_000
SUBJECTS = 10_000
ITEMS_EACH = 5
ROOTS = (Path("/usr/share"), Path("/usr/lib"))
WORDS = tuple(f"{first}{second}" for first in "bdfgklmnprst" for second in ("al", "er", "in", "ok"))


@frozen
class Corpus:
    """A corpus that stands on disk."""

    name: str
    folder: Path
    files: int
    size_bytes: int
    part: str | None
    """A folder of the source for the partial restore; None where there is only one file."""

    @property
    def source(self) -> Path:
        """What is backed up."""
        return self.folder / "source"


class Edits:
    """The edits of a corpus, which can be applied and taken back."""

    def __init__(self, corpus: Corpus) -> None:
        self._source = corpus.source
        self._edited = corpus.folder / "edited"
        self._saved = corpus.folder / "saved"

    def __enter__(self) -> None:
        """Put the edited files in the place of the ones they were made from."""
        self.undo()
        for path in _files(self._edited):
            relative = path.relative_to(self._edited)
            saved = self._saved / relative
            saved.parent.mkdir(parents=True, exist_ok=True)
            (self._source / relative).rename(saved)
            path.rename(self._source / relative)

    def __exit__(self, *exc: object) -> None:
        """Take the edits back."""
        self.undo()

    def undo(self) -> None:
        """Take back what was applied, also by a run that was interrupted."""
        for saved in list(_files(self._saved)):
            relative = saved.relative_to(self._saved)
            if (self._source / relative).exists():
                (self._source / relative).rename(self._edited / relative)
            saved.rename(self._source / relative)


def _files(folder: Path) -> Iterator[Path]:
    """Give the regular files below *folder*, in order, without following links."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


# ---- what is in them


def _noise(random: Random, mib: int) -> Iterator[bytes]:
    for _ in range(mib):
        yield random.randbytes(MIB)


def _json_line(random: Random, number: int) -> bytes:
    """Give a line of about 180 bytes, of which zstd leaves about a third."""
    session = random.randbytes(20).hex()
    words = " ".join(random.choices(WORDS, k=6))
    amount = random.randrange(10**6)
    return (
        f'{{"id":{number},"firm":"Acme AB","user":"user-{amount % 9973}","session":"{session}",'
        f'"amount":{amount},"text":"{words}"}}\n'
    ).encode()


def _json_lines(random: Random, size_bytes: int) -> Iterator[bytes]:
    held: list[bytes] = []
    held_bytes = total = number = 0
    while total < size_bytes:
        held.append(_json_line(random, number))
        held_bytes += len(held[-1])
        number += 1
        if held_bytes >= MIB:
            yield b"".join(held)
            total += held_bytes
            held, held_bytes = [], 0


def _image_blocks(size_bytes: int) -> Iterator[bytes]:
    """Give real files, each from the beginning of a block on, with empty runs between them."""
    total = 0
    while total < size_bytes:
        before = total
        for number, (path, _) in enumerate(_tree_files(1.0)):
            data = path.read_bytes()
            data += bytes(-len(data) % BLOCK)
            # What an image has never used reads as zeros.
            data += bytes(BLOCK * 16) if number % 8 == 0 else b""
            yield data[: size_bytes - total]
            total += len(data)
            if total >= size_bytes:
                return
        if total == before:
            raise SystemExit("there are no files to fill an image with")


def _tree_files(scale: float) -> Iterator[tuple[Path, Path]]:
    """Give the machine's own files and their places in the tree, a share of them by hash."""
    share = min(scale, 1.0) * 2**32
    for path in sorted(_roots()):
        for found in _files(path):
            relative = found.relative_to(path.parent)
            mark = hashlib.sha256(os.fsencode(relative)).digest()
            if int.from_bytes(mark[:4], "big") < share and os.access(found, os.R_OK):
                yield found, relative


def _roots() -> Iterable[Path]:
    return [ROOTS[0], *ROOTS[1].glob("python3*")]


# ---- making them


def _write(path: Path, parts: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        for part in parts:
            out.write(part)


def _make_tree(folder: Path, scale: float) -> None:
    for found, relative in _tree_files(scale):
        place = folder / "source" / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(found, place)
    _edit_files(folder, Random(2))


def _make_random(folder: Path, scale: float) -> None:
    _write(folder / "source/data.bin", _noise(Random(3), max(1, round(STREAM_MIB * scale))))
    _edit_files(folder, Random(4))


def _make_jsonl(folder: Path, scale: float) -> None:
    size_bytes = max(1, round(STREAM_MIB * scale)) * MIB
    _write(folder / "source/data.jsonl", _json_lines(Random(5), size_bytes))
    _edit_files(folder, Random(6))


def _make_tiny(folder: Path, scale: float) -> None:
    random = Random(7)
    for number in range(max(EDITS, round(TINY_FILES * scale))):
        lines = random.randrange(1, 8)
        text = b"".join(_json_line(random, number) for _ in range(lines))
        _write(folder / f"source/{number // 500:04d}/{number % 500:03d}.json", [text])
    _edit_files(folder, Random(8))


def _make_subjects(folder: Path, scale: float) -> None:
    random = Random(9)
    for number in range(max(EDITS, round(SUBJECTS * scale))):
        for kind in range(ITEMS_EACH):
            text = _json_line(random, number) * 2
            _write(folder / f"source/users/{number}/{kind}.json", [text])
    _edit_files(folder, Random(10))


def _make_image(folder: Path, scale: float) -> None:
    size_bytes = max(1, round(STREAM_MIB * scale)) * MIB
    _write(folder / "source/disk.img", _image_blocks(size_bytes))
    random = Random(11)
    edited = folder / "edited/disk.img"
    edited.parent.mkdir()
    shutil.copyfile(folder / "source/disk.img", edited)
    with edited.open("r+b") as image:
        for _ in range(EDITS):
            count = random.randrange(1, 17)
            image.seek(random.randrange(size_bytes // BLOCK - count) * BLOCK)
            image.write(random.randbytes(count * BLOCK))


def _edit_files(folder: Path, random: Random) -> None:
    """Scatter the edits: over so many files, or within the one that there is."""
    source, edited = folder / "source", folder / "edited"
    paths = list(_files(source))
    chosen = random.sample(paths, min(EDITS, len(paths)))
    for number, path in enumerate(chosen):
        place = edited / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        count = EDITS // len(chosen)
        with path.open("rb") as base, place.open("wb") as out:
            size_bytes = path.stat().st_size
            at = sorted(random.randrange(size_bytes + 1) for _ in range(count))
            for step, position in enumerate(at, number):
                _copy(base, out, position - base.tell())
                _edit(base, out, step, random)
            shutil.copyfileobj(base, out, MIB)


def _copy(base, out, count: int) -> None:  # type: ignore[no-untyped-def]
    while count > 0:
        piece = base.read(min(count, MIB))
        if not piece:
            return
        out.write(piece)
        count -= len(piece)


def _edit(base, out, step: int, random: Random) -> None:  # type: ignore[no-untyped-def]
    """Overwrite, insert or delete up to a block."""
    count = random.randrange(1, BLOCK)
    if step % 3 != 1:
        base.read(count)
    if step % 3 != 2:
        out.write(random.randbytes(count))


CORPORA: dict[str, Callable[[Path, float], None]] = {
    "tree": _make_tree,
    "random": _make_random,
    "jsonl": _make_jsonl,
    "tiny": _make_tiny,
    "subjects": _make_subjects,
    "image": _make_image,
}


def make_corpus(name: str, folder: Path, scale: float) -> None:
    """
    Make one corpus below *folder*, unless it stands there at this scale.

    A corpus is made under another name and renamed when it is whole, so that
    one that was interrupted is never taken for one.
    """
    if name not in CORPORA:
        raise SystemExit(f"there is no corpus {name!r}; there are {', '.join(CORPORA)}")
    place = folder / name
    stamp = {"recipe": RECIPE, "scale": scale}
    with_stamp = place / "corpus.json"
    if with_stamp.exists() and json.loads(with_stamp.read_text()).items() >= stamp.items():
        return
    partial = folder / f"{name}.partial"
    for old in (place, partial):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    CORPORA[name](partial, scale)
    sizes = [path.stat().st_size for path in _files(partial / "source")]
    facts = {**stamp, "files": len(sizes), "size_bytes": sum(sizes), "part": _part(partial)}
    (partial / "corpus.json").write_text(json.dumps(facts))
    partial.rename(place)


def _part(folder: Path) -> str | None:
    """Choose the folder of the partial restore: a small one that is not the first."""
    for pattern in ("python3.*", "users/17", "0001", "python3"):
        found = sorted((folder / "source").glob(pattern))
        if found:
            return str(found[0].relative_to(folder / "source"))
    return None


def open_corpus(name: str, folder: Path) -> Corpus:
    """Give a corpus that was made, with no edits applied."""
    facts = json.loads((folder / name / "corpus.json").read_text())
    corpus = Corpus(name, folder / name, facts["files"], facts["size_bytes"], facts["part"])
    Edits(corpus).undo()
    return corpus


def main() -> None:
    """Make what is missing and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="on a tmpfs")
    parser.add_argument("--scale", type=float, default=1.0, help="1.0: the sizes of the budgets")
    parser.add_argument("--only", default=",".join(CORPORA))
    options = parser.parse_args()
    for name in options.only.split(","):
        make_corpus(name, options.folder, options.scale)
        corpus = open_corpus(name, options.folder)
        print(f"{name:<9} {corpus.files:>8,} files {corpus.size_bytes / 1e6:>9.1f} MB", flush=True)


if __name__ == "__main__":
    main()
