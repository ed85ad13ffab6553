"""Rule: every error that the troubleshooting page explains is one that the source can still say."""

from __future__ import annotations

import ast
import re
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
    """Return every text in the source, with VALUE for each value it fills in."""
    found = []
    for folder in ("amusd_mp", "nodes", "transports"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else VALUE for part in node.values)
                    found.append("".join(map(str, parts)).replace("`", ""))
    return found


def pieces(heading: str) -> list[str]:
    """Return the fixed words of a heading, between its placeholders."""
    return [piece for piece in re.split(r"<[a-z]+>", heading) if piece.strip()]


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_words_of_a_heading_are_in_the_source(heading: str) -> None:
    fixed = pieces(heading)
    whole = re.compile(".*".join(re.escape(piece) for piece in fixed), re.DOTALL)
    said = [piece.strip(" ;:,?()") for piece in fixed if len(piece.strip(" ;:,?()")) > 3]
    in_one = any(whole.search(text) for text in texts())
    assert in_one or all(any(piece in text for text in texts()) for piece in said), fixed


def test_there_is_one_section_for_each_error() -> None:
    assert len(HEADINGS) == len(set(HEADINGS)) > 60


def test_the_readme_links_the_page() -> None:
    assert "docs/troubleshooting.md" in (ROOT / "README.md").read_text("utf-8")
