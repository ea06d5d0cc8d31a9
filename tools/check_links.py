"""
Find dead links in the Markdown pages of a directory tree, without a network.

Relative links must lead to a file or directory inside the tree, fragments to
a heading of the page. Addresses with a scheme are left alone. Prints one line
for each dead link and exits with status 1 if there is any.

Usage: python tools/check_links.py [ROOT]
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

GENERATED = {"build", "dist"}
PARSER = MarkdownIt("commonmark").enable("table")


def iter_pages(root: Path) -> Iterator[Path]:
    """Yield the Markdown pages below *root*, in order, without hidden and generated ones."""
    for path in sorted(root.rglob("*.md")):
        directories = path.relative_to(root).parts[:-1]
        if not any(part.startswith(".") or part in GENERATED for part in directories):
            yield path


@cache
def parse(page: Path) -> list[Token]:
    """Read and parse one page."""
    return PARSER.parse(page.read_text(encoding="utf-8"))


def iter_links(page: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and target of each link and image of *page*."""
    for block in parse(page):
        line = block.map[0] + 1 if block.map else 0
        for token in block.children or ():
            target = token.attrGet("href") or token.attrGet("src")
            if target:
                yield line, str(target)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the fragments that the headings of *page* answer to, as GitHub makes them."""
    found: list[str] = []
    seen: Counter[str] = Counter()
    for before, token in pairwise(parse(page)):
        if before.type == "heading_open":
            text = "".join(child.content for child in token.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            found.append(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return frozenset(found)


def problem_with(target: str, page: Path, root: Path) -> str | None:
    """Say what is wrong with the link *target* of *page*, or None."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return None
    goal = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not goal.is_relative_to(root):
        return "leads out of the project"
    if not goal.exists():
        return "no such file"
    if parts.fragment and goal.suffix == ".md" and unquote(parts.fragment) not in anchors(goal):
        return "no such heading"
    return None


def main(arguments: list[str]) -> int:
    """Check all pages below the root that *arguments* name; return the exit status."""
    root = Path(*arguments[:1]).resolve()
    dead = 0
    for page in iter_pages(root):
        for line, target in iter_links(page):
            if problem := problem_with(target, page, root):
                print(f"{page.relative_to(root)}:{line}: {target}: {problem}")
                dead += 1
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
