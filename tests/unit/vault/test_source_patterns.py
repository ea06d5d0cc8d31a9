"""Patterns select entries as gitignore does, whatever bytes their names hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import InputError
from loopbackup.vault.source.patterns import Patterns

names = st.binary(min_size=1, max_size=8).filter(
    lambda name: name not in (b".", b"..") and not {0, 47} & set(name)
)


def test_without_patterns_everything_is_selected() -> None:
    """No include and no exclude select all entries and prune nothing."""
    patterns = Patterns()

    assert not patterns
    assert patterns.matches(b"users/42/cv.pdf", is_dir=False)
    assert not patterns.prune(b"users")


@pytest.mark.parametrize(
    ("include", "exclude", "path", "selected"),
    [
        ([], ["*.tmp"], b"a/b.tmp", False),
        ([], ["*.tmp"], b"a/b.txt", True),
        ([], ["build/"], b"build/out/x", False),
        ([], ["build/"], b"src/build", True),
        ([], ["/build"], b"src/build/x", True),
        ([], ["*.log", "!keep.log"], b"keep.log", True),
        (["users/42/**"], [], b"users/42/cv.pdf", True),
        (["users/42"], [], b"users/42/a/b", True),
        (["users/42/**"], [], b"users/43/cv.pdf", False),
        (["users/**"], ["*.tmp"], b"users/42/x.tmp", False),
        (["[0-9]*"], [], b"42", True),
    ],
)
def test_patterns_mean_what_gitignore_means(
    include: list[str], exclude: list[str], path: bytes, selected: bool
) -> None:
    """Anchors, folders, negation and classes work as in gitignore."""
    patterns = Patterns(include, exclude)

    assert patterns.matches(path, is_dir=False) is selected


def test_only_an_excluded_folder_is_pruned() -> None:
    """A folder that include does not name may hold something that it names."""
    patterns = Patterns(["*.pdf"], ["cache/"])

    assert patterns.prune(b"a/cache")
    assert not patterns.prune(b"a")


@pytest.mark.parametrize("name", [b"a\n.tmp", b"a.tmp\n", b"\n.tmp"], ids=repr)
def test_newline_in_a_name_hides_nothing(name: bytes) -> None:
    """A newline is a byte like any other and does not end a name."""
    patterns = Patterns(exclude=["*.tmp"])

    assert patterns.matches(name, is_dir=False) is (not name.endswith(b".tmp"))
    assert not Patterns(exclude=["x\ry/"]).matches(b"x\ry/" + name, is_dir=False)


@given(st.lists(names, min_size=1, max_size=4))
def test_everything_below_an_excluded_folder_is_excluded(parts: list[bytes]) -> None:
    """No name, text or not, gets out of a folder that is excluded."""
    patterns = Patterns(exclude=["secret/"])

    assert not patterns.matches(b"secret/" + b"/".join(parts), is_dir=False)


@pytest.mark.parametrize(
    "patterns",
    [b"*.tmp", None, 5, [""], ["# note"], ["!"], ["a\\"], ["[z-a]"], ["["], [b"*.tmp"], ["a\nb"]],
    ids=repr,
)
def test_pattern_that_cannot_work_is_refused(patterns: Any) -> None:
    """What gitignore would pass over in silence is an error of the caller."""
    with pytest.raises(InputError):
        Patterns(exclude=patterns)


@pytest.mark.parametrize(
    ("pattern", "matched", "not_matched"),
    [
        ("[[]a]", ["[a]"], ["a", "a]", "\\[a]"]),
        ("[[ab]", ["[", "a", "b"], ["[a", "c"]),
        ("[![]", ["a", "]"], ["["]),
        ("[a&&b]", ["a", "b", "&"], ["&&", "c"]),
        ("[a||b]", ["a", "b", "|"], ["c"]),
        ("[!a~~]", ["b"], ["a", "~"]),
        ("[][]", ["]", "["], ["a"]),
        ("[[0-9-]", ["[", "5", "-"], ["a"]),
        ("[--0]", ["-", ".", "0"], ["1", ","]),
    ],
)
def test_a_set_of_characters_is_no_set_algebra(
    pattern: str, matched: list[str], not_matched: list[str]
) -> None:
    """What a regular expression would warn of means what it means to gitignore."""
    patterns = Patterns([pattern])

    assert all(patterns.matches(name.encode(), is_dir=False) for name in matched)
    assert not any(patterns.matches(name.encode(), is_dir=False) for name in not_matched)


@pytest.mark.parametrize("pattern", ["[[:alpha:]]", "[a[:digit:]]", "[[--]", "[[^]", "[z-a]"])
def test_a_set_that_would_mean_something_else_is_refused(pattern: str) -> None:
    """Nothing is matched by accident where one language has no word for another's."""
    with pytest.raises(InputError):
        Patterns([pattern])


@given(st.text(alphabet="[]!^-&~|a\\*?/z:b.", min_size=1, max_size=10))
def test_every_pattern_works_or_is_refused(pattern: str) -> None:
    """Warnings are errors here, so neither those nor errors of ``re`` get out."""
    try:
        patterns = Patterns([pattern])
    except InputError:
        return

    patterns.matches(b"a/b", is_dir=False)


@given(st.text(alphabet="[&~|abz", min_size=1, max_size=5), st.sampled_from("[]&~|abzc-"))
def test_a_set_holds_the_characters_that_stand_in_it(inside: str, character: str) -> None:
    """Rewriting a set changes nothing of what is in it."""
    patterns = Patterns([f"x[{inside}]"])

    found = patterns.matches(b"x" + character.encode(), is_dir=False)

    assert found is (character in inside)
