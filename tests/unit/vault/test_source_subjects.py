"""Who an entry is about follows from its path, the same way for every source."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopbackup.errors import InputError
from loopbackup.terms import Subject, SubjectKey
from loopbackup.vault.source.subjects import Subjects, as_subjects, subject_from_path

PATTERNS = [
    "users/{subject}/**",
    "{tenant}/{subject}/**",
    "users/{subject}",
    "cv/{subject}.pdf",
    "**/users/{subject}/**",
    "{subject}/data/*/**",
]

components = st.sampled_from([b"users", b"42", b"data", b"cv", b"7.pdf", b"\xff", b"a\nb"])


def walk(subjects: Subjects, parts: list[bytes]) -> tuple[SubjectKey | None, str | None]:
    """Resolve a file as a tree does: each folder on the way down, then the file."""
    above: SubjectKey | None = None
    for depth in range(1, len(parts)):
        above, _ = subjects.resolve(b"/".join(parts[:depth]), above, is_dir=True)
    return subjects.resolve(b"/".join(parts), above, is_dir=False)


@pytest.mark.parametrize(
    ("pattern", "path", "subject"),
    [
        ("users/{subject}/**", "users/42/cv.pdf", "42"),
        ("users/{subject}/**", "users/42/", "42"),
        ("users/{subject}/", "users/42/a/b", "42"),
        ("users/{subject}/**", "users/42", None),
        ("users/{subject}/**", "users/", None),
        ("users/{subject}", "users/42", "42"),
        ("users/{subject}", "users/42/a", "42"),
        ("/users/{subject}/**", "users/42/a", "42"),
        ("{tenant}/{subject}/**", "acme/42/a", ("acme", "42")),
        ("{subject}/at/{tenant}/**", "42/at/acme/a", ("acme", "42")),
        ("cv/{subject}.pdf", "cv/42.pdf", "42"),
        ("cv/{subject}.pdf", "cv/42xpdf", None),
        ("mail-*/{subject}/**", "mail-2026/42/1", "42"),
        ("**/users/{subject}/**", "a/b/users/42/users/43/x", "42"),
        ("users/{subject}/**", "other/users/42/x", None),
        ("users/{subject}/**", "users/a\nb/x", "a\nb"),
    ],
)
def test_pattern_names_the_subject(pattern: str, path: str, subject: Subject | None) -> None:
    """One component stands for one placeholder; folders end with a slash."""
    assert subject_from_path(pattern)(path) == subject


@given(st.sampled_from(PATTERNS), st.lists(components, min_size=1, max_size=5))
def test_file_has_the_same_subject_however_it_is_reached(pattern: str, parts: list[bytes]) -> None:
    """Walking down to a file and looking at its path alone agree."""
    subjects = subject_from_path(pattern)

    alone = subjects.resolve(b"/".join(parts), is_dir=False)

    assert walk(subjects, parts)[0] == alone[0]


def test_file_without_a_match_is_told_apart_and_a_folder_is_not() -> None:
    """Only files can lack a subject; unmatched="none" says that they need none."""
    strict = subject_from_path("users/{subject}/**")
    loose = subject_from_path("users/{subject}/**", unmatched="none")

    assert strict.resolve(b"readme", is_dir=False) == (None, "unmatched")
    assert strict.resolve(b"users", is_dir=True) == (None, None)
    assert loose.resolve(b"readme", is_dir=False) == (None, None)


@pytest.mark.parametrize("name", [b"\xff", b"x" * 300], ids=["no text", "too long"])
def test_name_that_can_be_no_subject_is_a_problem_and_no_error(name: bytes) -> None:
    """Whoever may name files cannot stop the backup by a name."""
    subjects = subject_from_path("users/{subject}/**")

    assert subjects.resolve(b"users/" + name + b"/x", is_dir=False) == (None, "subject")


@pytest.mark.parametrize(
    "pattern",
    [
        "users/**",
        "{subject}/{subject}",
        "{tenant}/**",
        "a//{subject}",
        "{person}/{subject}",
        "{tenant}-{subject}/**",
        "**/a/**/{subject}/**",
        "[ab]/{subject}",
        "a**b/{subject}",
        "a\\*/{subject}",
        "{subject",
        "",
    ],
    ids=repr,
)
def test_pattern_of_another_form_is_refused(pattern: str) -> None:
    """A pattern that cannot name exactly one subject is an error at once."""
    with pytest.raises(InputError):
        subject_from_path(pattern)


def test_unmatched_is_one_of_two_words() -> None:
    """A misspelt choice does not switch the report off."""
    with pytest.raises(InputError):
        subject_from_path("{subject}/**", unmatched="ignore")  # type: ignore[arg-type]


def test_rule_survives_pickling() -> None:
    """A rule may travel to another process."""
    rule = pickle.loads(pickle.dumps(subject_from_path("{tenant}/{subject}/**")))

    assert rule("acme/42/x") == ("acme", "42")


def test_fixed_subject_is_everybodys() -> None:
    """A subject given as a value holds for all entries, None for none."""
    assert as_subjects("user-42").resolve(b"a", is_dir=False) == (("user-42",), None)
    assert as_subjects(("acme", "42")).resolve(b"a", is_dir=True) == (("acme", "42"), None)
    assert as_subjects(None).resolve(b"a", is_dir=False) == (None, None)


def test_function_is_asked_for_folders_with_a_slash_and_none_inherits() -> None:
    """Below a folder with a subject nothing is about nobody."""
    asked: list[str] = []

    def ask(path: str) -> Subject | None:
        asked.append(path)
        return "42" if path == "home/" else None

    subjects = as_subjects(ask)

    assert walk(subjects, [b"home", b"a", b"b"]) == (("42",), None)
    assert asked == ["home/", "home/a/", "home/a/b"]


def test_function_may_name_somebody_else_further_down() -> None:
    """A tenant's folder can hold folders of its people."""

    def ask(path: str) -> Subject | None:
        parts = path.split("/")
        return (parts[0], parts[1]) if len(parts) > 2 else (parts[0],)

    assert walk(as_subjects(ask), [b"acme", b"42", b"x"]) == (("acme", "42"), None)
    assert walk(as_subjects(ask), [b"acme", b"x"]) == (("acme",), None)


def test_function_without_an_answer_leaves_a_file_without_subject() -> None:
    """None is reported, unless the function says that it means nobody."""

    def ask(path: str) -> Subject | None:
        return None

    reported = as_subjects(ask).resolve(b"x", is_dir=False)
    ask.unmatched = "none"  # type: ignore[attr-defined]
    meant = as_subjects(ask).resolve(b"x", is_dir=False)

    assert reported == (None, "unmatched")
    assert meant == (None, None)


def test_function_that_gives_no_subject_is_an_error_unless_the_name_is_to_blame() -> None:
    """The host's mistake is told; a file name that is no text is only reported."""

    def ask(path: str) -> Subject | None:
        return path.partition("/")[0]

    subjects = as_subjects(ask)

    assert subjects.resolve(b"\xff/x", is_dir=False) == (None, "subject")
    with pytest.raises(InputError):
        as_subjects(lambda path: "").resolve(b"x", is_dir=False)


@pytest.mark.parametrize("rule", [42, ["acme", "42"], "", ("a", "b", "c")], ids=repr)
def test_anything_else_is_refused_as_a_rule(rule: Any) -> None:
    """Values that are no subject and no function are errors of the caller."""
    with pytest.raises(InputError):
        as_subjects(rule)
