"""The digest tells exactly what was missed; the ledger runs a request once, and lets nothing that ended come back."""

from __future__ import annotations

import pytest

from amusd_mp.core.digest import DigestReader, Known, pages
from amusd_mp.core.ledger import Ledger, Refusal
from amusd_mp.core.messages import Beat, DigestEntry, ErrorCode, Finish, NodeState, Submit
from amusd_mp.core.output import Output
from amusd_mp.core.params import GenerationParams, Speculation
from amusd_mp.core.verify_sequence import VerifySequence
from amusd_mp.testing.stub import StubDetokenizer


def beat(cycle: int, *entries: DigestEntry, page: int = 0, of: int = 1) -> Beat:
    return Beat(NodeState.READY, digest=entries, cycle=cycle, page=page, pages=of)


def test_unknown_live_sequences_and_own_ones_that_lag_are_named() -> None:
    found = DigestReader().read(
        beat(
            1,
            DigestEntry("new", 0, 5),
            DigestEntry("done", 3, 9, done=True),
            DigestEntry("mine", 4, 20),
            DigestEntry("even", 4, 20),
        ),
        {"mine": Known(3, 18, 0), "even": Known(4, 20, 0)},
    )
    assert found.unknown == ("new",)
    assert found.behind == ("mine",)


def test_a_sequence_is_gone_only_after_a_whole_cycle_that_began_after_it_opened() -> None:
    reader = DigestReader()
    mine = {"a": Known(0, 1, opened_in=1)}
    reader.read(beat(1), {})
    assert reader.read(beat(2), mine).gone == ()
    assert reader.read(beat(3, page=0, of=2), mine).gone == ()
    assert reader.read(beat(3, page=1, of=2), mine).gone == ("a",)
    assert reader.read(beat(2, page=0), mine).gone == (), "an older cycle says nothing"


def test_pages_hold_everything_once_and_an_empty_digest_is_one_page() -> None:
    entries = [DigestEntry(str(i), 0, 0) for i in range(5)]
    assert [len(page) for page in pages(entries, size=2)] == [2, 2, 1]
    assert pages([]) == [()]


def submit(name: str = "s", text: str = "hello") -> Submit:
    return Submit(name, "v", "c", GenerationParams(), text=text)


def sequence(name: str = "s") -> VerifySequence:
    params = GenerationParams()
    output = Output(params, StubDetokenizer(), (), 10)
    return VerifySequence(name, "c", params, Speculation(), [1, 2], 2, 100, output, opened=0.0)


def test_a_repeated_submit_finds_what_the_first_one_made() -> None:
    ledger, made = Ledger(), sequence()
    assert ledger.recall(submit()) is None
    ledger.admit(submit(), made, now=0)
    assert ledger.recall(submit()) is made


def test_the_same_id_with_another_body_is_an_error() -> None:
    ledger = Ledger()
    ledger.admit(submit(), sequence(), now=0)
    with pytest.raises(Refusal) as refusal:
        ledger.recall(submit(text="other"))
    assert refusal.value.reply.code is ErrorCode.CONFLICT


def test_a_submit_cancelled_before_it_arrived_never_runs() -> None:
    ledger = Ledger(retain=60)
    ledger.bury("s", now=0)
    with pytest.raises(Refusal) as refusal:
        ledger.recall(submit())
    assert refusal.value.reply.code is ErrorCode.CANCELLED
    ledger.expired(now=61)
    assert ledger.recall(submit()) is None


def test_a_lease_runs_out_unless_it_is_renewed() -> None:
    ledger = Ledger(lease=10)
    ledger.admit(submit("a"), sequence("a"), now=0)
    ledger.admit(submit("b"), sequence("b"), now=0)
    expired = []
    for tick in range(1, 13):
        if tick == 8:
            assert ledger.renew(["a", "nobody"], now=8) == ("nobody",)
        expired += ledger.expired(now=tick)
    assert set(expired) == {"b"}


def test_time_in_which_the_node_itself_stood_still_counts_against_nobody() -> None:
    ledger = Ledger(lease=10)
    ledger.admit(submit(), sequence(), now=0)
    ledger.expired(now=1)
    assert ledger.expired(now=31) == [], "it was stopped for 30 s"
    for tick in range(32, 40):
        assert ledger.expired(now=tick) == []
    assert ledger.expired(now=41) == ["s"]


def test_a_finished_sequence_stays_readable_for_its_time() -> None:
    ledger, made = Ledger(lease=10, retain=60), sequence()
    ledger.admit(submit(), made, now=0)
    made.close(Finish.LENGTH, now=1, overlap=0)
    ledger.expired(now=1)
    assert ledger.expired(now=50) == []
    assert ledger.find("s") is made
    ledger.expired(now=61)
    with pytest.raises(Refusal) as refusal:
        ledger.find("s")
    assert refusal.value.reply.code is ErrorCode.UNKNOWN


def test_what_strangers_cancel_or_finish_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amusd_mp.core.ledger.KEPT_SEQUENCES", 3)
    ledger = Ledger()
    for number in range(9):
        ledger.bury(f"unknown-{number}", now=0)
        ended = sequence(f"s-{number}")
        ended.finish = Finish.STOP
        ledger.admit(submit(f"s-{number}"), ended, now=0)
    live = sequence("live")
    ledger.admit(submit("live"), live, now=0)
    assert ledger.expired(now=0.25) == []
    assert list(ledger.tombstones) == ["unknown-6", "unknown-7", "unknown-8"]
    assert list(ledger.entries) == ["s-7", "s-8", "live"]
