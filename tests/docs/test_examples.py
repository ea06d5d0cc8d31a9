"""The examples of README.md and docs/ run as they stand: Python, and what is typed in a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from markdown_it import MarkdownIt
from tests.servers.conftest import MakeBucket, make_bucket, servers
from tests.servers.processes import HONEST, KEY, SECRET

__all__ = ["make_bucket", "servers"]

ROOT = Path(__file__).parents[2]
NO_RUN = re.compile(r"<!--\s*no-run:(?P<reason>.*?)-->\s*", re.DOTALL)


ON_S3 = "<!-- runs with: s3 -->"
"""A line of a page that needs the bucket below: in MinIO where that is, else in moto."""
BUCKET = "acme-backups"

MARK = "\x1e"
"""Stands before what each command of a shell prints."""


@frozen
class Example:
    """One fenced block; ``line`` is that of its first line of code."""

    code: str
    line: int
    language: str


def _examples(markdown: str) -> list[Example]:
    found = []
    before = ""
    for token in MarkdownIt("commonmark").parse(markdown):
        language = token.info.partition(" ")[0]
        if token.type == "fence" and language in ("python", "console"):
            opted_out = NO_RUN.fullmatch(before)
            if opted_out and not opted_out["reason"].strip():
                raise ValueError("no-run needs a reason")
            if not opted_out:
                assert token.map is not None
                found.append(Example(token.content, token.map[0] + 2, language))
        before = token.content if token.type == "html_block" else ""
    return found


def _run(examples: list[Example], page: Path) -> dict[str, Any]:
    """
    Run all examples of a page, those in Python in one namespace, those of a shell in one shell.

    Tracebacks name the page's lines. The shell comes last, and sees what Python left.
    """
    namespace: dict[str, Any] = {"__name__": "example"}
    for example in examples:
        if example.language != "python":
            continue
        padded = "\n" * (example.line - 1) + example.code
        exec(compile(padded, str(page), "exec"), namespace)
    _run_shell([example for example in examples if example.language == "console"], page)
    return namespace


def _run_shell(examples: list[Example], page: Path) -> None:
    """Run what stands behind each ``$``, and hold what it prints against what follows there."""
    commands: list[tuple[int, str]] = []
    expected: list[str] = []
    for example in examples:
        for number, text in enumerate(example.code.splitlines(keepends=True), example.line):
            if text.startswith("$ "):
                commands.append((number, text[2:]))
                expected.append("")
            else:
                expected[-1] += text
    if not commands:
        return
    script = "".join(f"printf '\\x1e'\n{command}" for _, command in commands)
    done = subprocess.run(
        ["bash", "-eu", "-c", script],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    printed = done.stdout.split(MARK)[1:]
    for (line, command), wanted, found in zip(commands, expected, printed, strict=False):
        pattern = re.escape(wanted).replace(re.escape("..."), ".*")
        assert re.fullmatch(pattern, found), f"{page.name}:{line}: {command}prints\n{found}"
    assert len(printed) == len(commands), f"{page.name}:{commands[len(printed) - 1][0]}: it failed"
    assert done.returncode == 0, f"{page.name}: the last command failed"


def _pages_with_examples(*, on_s3: bool) -> list[Path]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts = {page: page.read_text("utf-8") for page in pages if page.exists()}
    found = {page: text.splitlines() for page, text in texts.items() if _examples(text)}
    return [page for page, lines in found.items() if (ON_S3 in lines) is on_s3]


def _name(page: object) -> str:
    return page.relative_to(ROOT).as_posix() if isinstance(page, Path) else str(page)


@pytest.mark.parametrize("page", _pages_with_examples(on_s3=False), ids=_name)
def test_examples_of_the_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python block runs, in order and in one namespace, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    _run(_examples(page.read_text("utf-8")), page)

    assert Path.cwd() == tmp_path, "an example has to leave the working directory as it is"


@pytest.mark.parametrize("page", _pages_with_examples(on_s3=True), ids=_name)
@pytest.mark.parametrize("server", HONEST[-1:])  # each command of a shell takes its seconds
def test_examples_of_the_page_run_with_a_bucket(
    page: Path,
    server: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    make_bucket: MakeBucket,
) -> None:
    """What leads AWS's own tools to a bucket leads the page to one of ours."""
    monkeypatch.chdir(tmp_path)
    # A host that has seen the vault of another page there would refuse this one's.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    bucket = make_bucket(server, name=BUCKET, anew=True)
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": bucket.server.endpoint,
        "AWS_CA_BUNDLE": str(bucket.server.authority),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)

    _run(_examples(page.read_text("utf-8")), page)

    assert bucket.call("list_objects_v2")["KeyCount"] > 0, "nothing of the page is in the bucket"


def test_blocks_of_a_page_share_a_namespace() -> None:
    """A later block sees what an earlier one made."""
    markdown = "```python\na = 1\n```\n\ntext\n\n```python\nb = a + 1\n```\n"

    namespace = _run(_examples(markdown), Path("page.md"))

    assert namespace["b"] == 2


def test_failing_block_names_its_line_of_the_page() -> None:
    """The traceback of an example leads to the page."""
    markdown = "# Title\n\n```python\nfine = 1\n1 / 0\n```\n"

    with pytest.raises(ZeroDivisionError) as caught:
        _run(_examples(markdown), Path("page.md"))

    last = caught.traceback[-1]
    assert (Path(last.path).name, last.lineno + 1) == ("page.md", 5)


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("$ x=1\n$ echo $x\n1\n$ echo 2 3 >&2\n2 ...\n", None),
        ("$ true\n$ echo 1\n2\n", "page.md:5: echo 1"),
        ("$ echo 1\n", "page.md:4: echo 1"),
        ("$ true\n$ false\n$ true\n", "page.md:5: it failed"),
        ("$ true\n$ false\n", "page.md: the last command failed"),
    ],
    ids=["right", "other-output", "more-output", "failure", "last-failure"],
)
def test_what_a_shell_prints_is_held_against_the_page(block: str, problem: str | None) -> None:
    """What follows a command is all that it prints; dots stand for anything within a line."""
    examples = _examples(f"# Title\n\n```console\n{block}```\n")

    if problem is None:
        _run(examples, Path("page.md"))
        return
    with pytest.raises(AssertionError) as caught:
        _run(examples, Path("page.md"))
    assert problem in str(caught.value)


def test_block_opts_out_only_with_a_reason() -> None:
    """A reasoned comment right before a block excludes that block and no other."""
    block = "```python\n1 / 0\n```\n"

    assert _examples(f"<!-- no-run: needs a bucket -->\n\n{block}") == []
    assert len(_examples(f"<!-- no-run: needs a bucket -->\n\ntext\n\n{block}")) == 1
    with pytest.raises(ValueError, match="reason"):
        _examples(f"<!-- no-run: -->\n{block}")


def test_other_languages_are_left_alone() -> None:
    """Only blocks marked as Python or as a shell's are examples."""
    assert _examples("```sh\nmake test\n```\n\n```\nplain\n```\n") == []
