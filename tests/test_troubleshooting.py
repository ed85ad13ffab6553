"""Rule: every error that the troubleshooting page explains is one that the source can still say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
HEADINGS = re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)
VALUE = "\0"
"""In place of what a message fills in."""


@cache
def texts() -> list[str]:
    """Return every text that the source may say, with VALUE for each value it fills in: no docstrings."""
    files = [file for folder in ("amusd_mp", "nodes", "transports") for file in sorted((ROOT / folder).rglob("*.py"))]
    return [text for file in files for text in said(ast.parse(file.read_text("utf-8")))]


def said(node: ast.AST) -> Iterator[str]:
    """Yield the texts in a tree but those that stand alone, as docstrings do."""
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else VALUE for part in node.values)
        yield "".join(map(str, parts)).replace("`", "")
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield from said(child)


def pieces(heading: str) -> list[str]:
    """Return the fixed words of a heading, between its placeholders."""
    return [piece for piece in re.split(r"<[a-z]+>", heading) if piece.strip()]


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_words_of_a_heading_are_in_the_source(heading: str) -> None:
    fixed = pieces(heading)
    whole = re.compile(".*".join(re.escape(piece) for piece in fixed), re.DOTALL)
    words = [piece.strip(" ;:,?()") for piece in fixed if len(piece.strip(" ;:,?()")) > 3]
    in_one = any(whole.search(text) for text in texts())
    assert in_one or (words and all(any(piece in text for text in texts()) for piece in words)), fixed


def test_there_is_one_section_for_each_error() -> None:
    assert len(HEADINGS) == len(set(HEADINGS)) > 60


def test_the_readme_links_the_page() -> None:
    assert "docs/troubleshooting.md" in (ROOT / "README.md").read_text("utf-8")
