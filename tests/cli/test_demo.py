"""Rule: the demo shows, measures and checks in one command, and leaves no process and no file behind."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amusd_mp.cli.comparing import ALONE, ASYNCHRONOUS, CONTENDERS, Comparison, best_alternating
from amusd_mp.client.results import GenerationResult, Token
from amusd_mp.core.messages import Counts, Finish, Origin
from amusd_mp.errors import OperationalError


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder with a short name, which the system's limit for sockets demands."""
    with tempfile.TemporaryDirectory(prefix="demo-") as path:
        yield Path(path)


def processes_using(folder: Path) -> list[str]:
    """Command lines that name `folder`, as those of the demo's nodes do."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if str(folder).encode() in line:
            found.append(line.replace(b"\0", b" ").decode())
    return found


def test_the_demo_runs_to_its_end_and_leaves_nothing(tools: Any, folder: Path) -> None:
    scratch = folder / "t"
    scratch.mkdir()
    done = tools.run(
        "demo", "--prompts", "2", "--max-tokens", "10", "--rounds", "1", "--pad-layers", "4",
        "--draft-pad-layers", "1", "--json", str(folder / "numbers.json"), TMPDIR=str(scratch),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "All 10 texts are identical" in done.stdout
    assert "[x:rejected]" in done.stdout
    assert "(padded: the verify model by 4 layers, the draft by 1)" in done.stdout
    table = done.stdout[done.stdout.index("strategy ") :].splitlines()
    assert [line.split("  ")[0].split(",")[0] for line in table[1:4]] == ["verify alone", "alternating", "asynchronous"]
    numbers = json.loads((folder / "numbers.json").read_text())
    assert [row["label"] for row in numbers["rows"]] == [contender.label for contender in CONTENDERS]
    assert numbers["rows"][0]["speed_up"] == 1.0
    assert not processes_using(folder)
    assert not list(scratch.glob("amusd-mp-*"))


def test_an_interrupted_demo_leaves_nothing_either(tools: Any, folder: Path) -> None:
    environ = tools.environment(TMPDIR=str(folder))
    with tools.start(
        "demo", "--no-show-drafts", "--pad-layers", "0", "--draft-pad-layers", "0", env=environ
    ) as running:
        while not (line := tools.read_line(running.stdout)).startswith("--- "):
            assert line, running.communicate()
        assert len(processes_using(folder)) == 2 or not Path("/proc").is_dir()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (130, "")
    assert not processes_using(folder)
    assert not list(folder.glob("amusd-mp-*"))


def test_a_missing_folder_for_the_numbers_is_noticed_first(tools: Any) -> None:
    done = tools.run("demo", "--json", "/nowhere/numbers.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "/nowhere does not exist" in done.stderr


# ------------------------------------------------------------------------------- the comparison


def response(seconds: float, ids: tuple[int, ...] = (1, 2, 3), steps: int = 0, accepted: int = 0) -> GenerationResult:
    counts = Counts(2, len(ids), steps=steps, proposed=2 * steps, accepted=accepted, overlap=0.25)
    tokens = tuple(Token(token, Origin.ALONE) for token in ids)
    return GenerationResult("text", tokens, Finish.LENGTH, 2, 0, counts, 0.01, seconds)


def compared() -> Comparison:
    comparison = Comparison(["p", "q"], 3)
    for contender in CONTENDERS:
        comparison.results[contender] = [response(1.0), response(3.0)]
    comparison.results[ASYNCHRONOUS] = [response(0.5, steps=2, accepted=3), response(1.0, steps=2, accepted=1)]
    return comparison


def test_a_speed_up_is_the_median_of_pairs_and_acceptance_is_over_all_steps() -> None:
    rows = {row.label: row for row in compared().rows()}
    alone, together = rows[ALONE.label], rows[ASYNCHRONOUS.label]
    assert (alone.speed_up, alone.acceptance_rate, alone.mean_acceptance_length) == (1.0, None, None)
    assert (together.speed_up, together.tokens_per_second) == (2.5, 4.5)
    assert (together.acceptance_rate, together.mean_acceptance_length) == (0.5, 2.0)


def test_the_best_alternating_row_is_the_fastest_of_them_alone() -> None:
    comparison = compared()
    comparison.results[CONTENDERS[2]] = [response(0.9), response(2.0)]
    assert best_alternating(list(comparison.rows())) == "alternating, k=3"


def test_another_text_is_an_error_that_names_strategy_and_place() -> None:
    comparison = compared()
    comparison.check_texts()
    comparison.results[ASYNCHRONOUS][1] = response(1.0, ids=(1, 9, 3))
    with pytest.raises(OperationalError, match=r"asynchronous wrote another text .* from output token 1 on, .* 'q'"):
        comparison.check_texts()
