"""Corpora are the same each time, and their edits can be taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.corpora import Edits, make_corpus, open_corpus

SCALE = 0.001
"""One MiB of a stream, two hundred small files."""


def contents(folder: Path) -> dict[str, bytes]:
    """Give all files below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", ["random", "jsonl", "tiny", "subjects"])
def test_a_corpus_is_the_same_wherever_it_is_made(name: str, tmp_path: Path) -> None:
    """Two machines measure the same bytes."""
    make_corpus(name, tmp_path / "one", SCALE)
    make_corpus(name, tmp_path / "two", SCALE)

    first, second = contents(tmp_path / "one"), contents(tmp_path / "two")

    assert first == second


@pytest.mark.parametrize("name", ["random", "jsonl", "tiny"])
def test_edits_change_the_source_and_are_taken_back(name: str, tmp_path: Path) -> None:
    """The next round begins with what this one began with."""
    make_corpus(name, tmp_path, SCALE)
    corpus = open_corpus(name, tmp_path)
    before = contents(corpus.source)

    with Edits(corpus):
        edited = contents(corpus.source)

    assert edited != before
    assert edited.keys() == before.keys()
    assert contents(corpus.source) == before


def test_edits_that_an_interrupted_run_left_are_taken_back(tmp_path: Path) -> None:
    """Opening a corpus gives its unedited state, whatever happened before."""
    make_corpus("tiny", tmp_path, SCALE)
    corpus = open_corpus("tiny", tmp_path)
    before = contents(corpus.folder)
    Edits(corpus).__enter__()

    again = open_corpus("tiny", tmp_path)

    assert contents(again.folder) == before


def test_edits_are_scattered_and_leave_most_of_a_file_alone(tmp_path: Path) -> None:
    """Otherwise growth by edits would say nothing about deduplication."""
    make_corpus("jsonl", tmp_path, 0.004)
    corpus = open_corpus("jsonl", tmp_path)
    before = (corpus.source / "data.jsonl").read_bytes()

    with Edits(corpus):
        after = (corpus.source / "data.jsonl").read_bytes()

    lines = set(before.splitlines())
    kept = sum(line in lines for line in after.splitlines()) / len(lines)
    assert 0.5 < kept < 1


def test_a_corpus_that_was_made_half_is_made_anew(tmp_path: Path) -> None:
    """A folder that was left by an interrupted run is never taken for a corpus."""
    (tmp_path / "random.partial/source").mkdir(parents=True)
    (tmp_path / "random.partial/source/data.bin").write_bytes(b"half")

    make_corpus("random", tmp_path, SCALE)

    corpus = open_corpus("random", tmp_path)
    assert (corpus.files, corpus.size_bytes) == (1, 1 << 20)
    assert not (tmp_path / "random.partial").exists()


def test_a_corpus_of_another_scale_is_made_anew(tmp_path: Path) -> None:
    """The figures of a quick run are never taken for those of a full one."""
    make_corpus("random", tmp_path, SCALE)
    make_corpus("random", tmp_path, 0.002)

    corpus = open_corpus("random", tmp_path)

    assert corpus.size_bytes == 2 << 20


def test_an_unknown_corpus_is_refused(tmp_path: Path) -> None:
    """Nothing is made of a name that nobody knows."""
    with pytest.raises(SystemExit, match="nothing"):
        make_corpus("nothing", tmp_path, SCALE)

    assert not (tmp_path / "nothing").exists()
