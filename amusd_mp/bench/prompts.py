"""Prompts from files as they come: HumanEval, GSM8K, Spec-Bench, and JSON lines of one's own.

One object a line. Which file it is shows in its keys, so nobody has to say; a line that fits none is an error naming
file and line. Knows no model: whether turns become a conversation or plain text is decided where they are sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amusd_mp.errors import UsageError

KINDS = '{"id", "prompt" | "messages" | "turns"}, or rows of HumanEval, GSM8K or Spec-Bench'


@dataclass(frozen=True, slots=True)
class BenchPrompt:
    """One question. `turns` are what the user says, one answer after each; `before` are messages before the first.

    `plain`: the one turn is text to go on with, no message of a conversation.
    """

    id: str
    turns: tuple[str, ...]
    category: str = ""
    plain: bool = True
    before: tuple[tuple[str, str], ...] = ()


def read(source: str) -> tuple[BenchPrompt, ...]:
    """Return the prompts of `FILE` or, with `FILE:N`, its first N. Raises UsageError naming file, line and remedy."""
    name, mark, count = source.rpartition(":")
    wanted = int(count) if mark and count.isdecimal() else None
    path = Path(name if wanted is not None else source)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a JSON text may hold other ends of line
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"prompts {str(path)!r} cannot be read: {error}") from error
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()][:wanted]
    found = [_parse(line, path, number) for number, line in rows]
    if not found:
        raise UsageError(f"prompts {str(path)!r}: no line with a prompt")
    if wanted is not None and len(found) < wanted:
        raise UsageError(f"prompts {source!r}: the file has only {len(found)}")
    return tuple(found)


def _parse(line: str, path: Path, number: int) -> BenchPrompt:
    where = f"prompts {str(path)!r}, line {number}"
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: no JSON ({error.msg}); one object a line") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where}: not an object; write {KINDS}")
    try:
        return _prompt(row, path.stem, number)
    except (KeyError, TypeError, ValueError):
        keys = ", ".join(sorted(map(str, row))) or "none"
        raise UsageError(f"{where}: cannot use keys {keys}; write {KINDS}") from None


def _prompt(row: Mapping[str, object], stem: str, number: int) -> BenchPrompt:
    """Return a row's prompt. Raises KeyError, TypeError or ValueError for what is none."""
    if "task_id" in row:  # HumanEval: code that is to be continued
        name = str(row["task_id"])
        return BenchPrompt(name, (_text(row["prompt"]),), name.partition("/")[0])
    if "question" in row and "answer" in row:  # GSM8K, prompted as the bundled pair saw its training split
        return BenchPrompt(f"GSM8K/{number - 1}", (f"Question: {_text(row['question'])}\nAnswer:",), "GSM8K")
    if "question_id" in row:  # Spec-Bench and MT-Bench
        return BenchPrompt(str(row["question_id"]), _texts(row["turns"]), str(row.get("category", stem)), plain=False)
    name, category = str(row["id"]), str(row.get("category", stem))
    if "prompt" in row:
        return BenchPrompt(name, (_text(row["prompt"]),), category)
    if "turns" in row:
        return BenchPrompt(name, _texts(row["turns"]), category, plain=False)
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages must be a list")
    said = [(_text(message["role"]), _text(message["content"])) for message in messages]
    return BenchPrompt(name, (said[-1][1],), category, plain=False, before=tuple(said[:-1]))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("not a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise TypeError("not a list of texts")
    return tuple(map(_text, value))
