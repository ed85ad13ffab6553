"""Rule: what goes wrong at a dialler is counted by reason, and told in the log the first time and at each tenfold."""

from __future__ import annotations

import pytest

from amusd_mp.session.tally import Tally


def test_a_reason_is_told_once_at_first_and_then_at_each_tenfold(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally("tcp://there:1")
    for number in range(1, 251):
        tally.add("malformed", f"message {number}")
    assert tally["malformed"] == 250
    assert [record.getMessage() for record in caplog.records] == [
        f"tcp://there:1 published what is no message: message {number} (malformed, {number} so far)"
        for number in (1, 10, 100)
    ]


def test_each_reason_is_told_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally("tcp://there:1")
    for reason in ("unsaid", "foreign_ids", "unsaid"):
        tally.add(reason)
    tally.add("other_life")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert dict(tally) == {"unsaid": 2, "foreign_ids": 1, "other_life": 1}
