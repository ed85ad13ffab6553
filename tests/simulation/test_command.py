"""Rule: `amusd-mp simulate` says what it ran, names the first failing seed, and replays one."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from amusd_mp.cli.app import build
from amusd_mp.core.ledger import Ledger
from amusd_mp.errors import UsageError


def simulate(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(build(), ["simulate", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_seeds_that_hold_are_counted_with_what_became_of_their_requests() -> None:
    code, output = simulate("--seeds", "6", "--first", "20")
    assert code == 0
    assert "6 of 6 seeds" in output
    assert "no breach" in output
    assert "whole" in output


def test_two_processes_find_the_same() -> None:
    alone, shared = (simulate("--seeds", "14", "--jobs", jobs)[1].splitlines()[1:] for jobs in "12")
    assert alone == shared


def test_the_first_failing_seed_is_named_and_its_replay_shows_the_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "recall", lambda *_: None)
    code, output = simulate("--seeds", "500")
    assert code == 1
    seed = output.rpartition("--replay ")[2].strip()
    code, log = simulate("--replay", seed)
    assert code == 1
    assert "BREACH" in log.splitlines()[-1]
    assert log.splitlines()[-1].removeprefix("BREACH").strip() in output


def test_a_pair_is_compared_under_every_strategy_or_the_one_asked_for() -> None:
    pair = ("--verify-ms", "20", "--draft-ms", "5", "--delay-ms", "5", "--tokens", "60")
    code, output = simulate(*pair)
    assert code == 0
    rows = [line.split("  ")[0] for line in output.splitlines()[1:]]
    assert rows == ["autoregressive", *(f"alternating, k={k}" for k in (1, 2, 3, 5, 8)), "amusd"]
    assert "20.00  1.00x" in output.splitlines()[1]
    assert len(simulate(*pair, "--strategy", "amusd")[1].splitlines()) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--seeds", "1", "--replay", "1"),
        ("--verify-ms", "3"),
        ("--verify-ms", "3", "--draft-ms", "1", "--strategy", "x"),
    ],
)
def test_a_call_that_asks_for_nothing_or_two_things_is_answered_with_what_to_say(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"--seeds N|--verify-ms|amusd"):
        simulate(*arguments)
