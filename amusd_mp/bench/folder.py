"""A run's folder: everything that a number can be traced back to, written as it comes.

    config.toml       the resolved deployment        requests.jsonl  a line per answer, Spec-Bench's keys
    environment.json  the machine and the versions   summary.json    what the tables show
    trace.json        for Perfetto                   timeline.svg    draft above, verify below
    tokens.svg        tokens over time               acceptance.svg  accepted proposals per step

It knows no number's meaning.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amusd_mp.bench.records import Answer
from amusd_mp.errors import UsageError

SUMMARY = "summary.json"


class RunFolder:
    """A new folder; a line is on disk as soon as it is told, so an interrupted run keeps what it has."""

    def __init__(self, path: Path) -> None:
        """Make the folder. Raises UsageError if it has files in it, or cannot be made."""
        if path.is_dir() and any(path.iterdir()):
            what = "a run" if (path / SUMMARY).exists() else "something else, or a run that was not finished"
            raise UsageError(f"{path} already holds {what}; remove it, or give another folder with --out (make: RUNS=)")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{path} cannot be made: {error}; give another folder with --out") from error
        self.path = path

    def __repr__(self) -> str:
        return f"<RunFolder {self.path}>"

    def text(self, name: str, content: str) -> None:
        """Write a file."""
        (self.path / name).write_text(content, encoding="utf-8")

    def json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        self.text(name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def answer(self, answer: Answer, model: str) -> None:
        """Add a line to `requests.jsonl`."""
        with (self.path / "requests.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(answer.line(model, time.time()), ensure_ascii=False) + "\n")


def load_summary(path: Path) -> dict[str, Any]:
    """Return the summary of a run's folder, or of the file itself. Raises UsageError naming what is missing."""
    file = path / SUMMARY if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} is no finished run: {error}") from error
    except ValueError as error:
        raise UsageError(f"{file} is no summary: {error}") from error
    if not isinstance(found, dict) or found.get("format") != 1:
        raise UsageError(f"{file} is no summary of this version of amusd-mp bench")
    return found
