"""The Python examples of README.md and docs/ run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
NO_RUN = re.compile(r"<!--\s*no-run:(?P<reason>.*?)-->\s*", re.DOTALL)


@frozen
class Example:
    """One fenced Python block; ``line`` is that of its first line of code."""

    code: str
    line: int


def _examples(markdown: str) -> list[Example]:
    found = []
    before = ""
    for token in MarkdownIt("commonmark").parse(markdown):
        if token.type == "fence" and token.info.split()[:1] == ["python"]:
            opted_out = NO_RUN.fullmatch(before)
            if opted_out and not opted_out["reason"].strip():
                raise ValueError("no-run needs a reason")
            if not opted_out:
                assert token.map is not None
                found.append(Example(token.content, token.map[0] + 2))
        before = token.content if token.type == "html_block" else ""
    return found


def _run(examples: list[Example], page: Path) -> dict[str, Any]:
    """Run all examples of a page in one namespace; tracebacks name the page's lines."""
    namespace: dict[str, Any] = {"__name__": "example"}
    for example in examples:
        padded = "\n" * (example.line - 1) + example.code
        exec(compile(padded, str(page), "exec"), namespace)
    return namespace


def _pages_with_examples() -> list[Path]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in pages if page.exists() and _examples(page.read_text("utf-8"))]


@pytest.mark.parametrize(
    "page", _pages_with_examples(), ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_examples_of_the_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python block runs, in order and in one namespace, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    _run(_examples(page.read_text("utf-8")), page)

    assert Path.cwd() == tmp_path, "an example has to leave the working directory as it is"


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


def test_block_opts_out_only_with_a_reason() -> None:
    """A reasoned comment right before a block excludes that block and no other."""
    block = "```python\n1 / 0\n```\n"

    assert _examples(f"<!-- no-run: needs a bucket -->\n\n{block}") == []
    assert len(_examples(f"<!-- no-run: needs a bucket -->\n\ntext\n\n{block}")) == 1
    with pytest.raises(ValueError, match="reason"):
        _examples(f"<!-- no-run: -->\n{block}")


def test_other_languages_are_left_alone() -> None:
    """Only blocks marked as Python are examples."""
    assert _examples("```sh\nmake test\n```\n\n```\nplain\n```\n") == []
