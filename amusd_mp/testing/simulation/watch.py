"""What must hold whatever happens, checked at every event of a run. The first breach ends it.

Of tokens: whatever the verify node publishes, a client is handed or a cache row holds is the verify model's own output,
without gap or duplicate. Of life: a sequence is opened once, and never again after its end or its cancellation. Of
proposals: an older window never replaces a newer one, and what is scored continues the committed tokens. Of ends: every
request ends in bounded time, and with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from amusd_mp.codec import decode
from amusd_mp.core.messages import Cancel, Committed, Opened, Submit
from amusd_mp.core.proposal import Aside, Proposal
from amusd_mp.core.step import Step
from amusd_mp.core.verify_sequence import VerifySequence
from amusd_mp.testing.simulation.model import SimulatedModel, Tokens
from amusd_mp.testing.stub import StubDetokenizer


class Breach(AssertionError):
    """Something happened that must not."""


@dataclass(slots=True)
class Expected:
    """One request: what the verify model alone would write, and what its client has been handed of it.

    `resubmit` is whether it may be submitted again, under another id, when it is lost.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    resubmit: bool = False
    received: int = 0
    characters: int = 0


@dataclass(slots=True)
class Opening:
    """One life of a sequence at one life of the verify node."""

    opened: bool = False
    cancelled: bool = False
    finished: bool = False
    version: int = 0
    length: int = 0


@dataclass(slots=True)
class Watch:
    """Sees everything. `truth` is what the verify model writes."""

    truth: Tokens
    requests: dict[str, Expected] = field(default_factory=dict)  # by sequence; several where one was resubmitted
    seeds: dict[int, Expected] = field(default_factory=dict)  # the same by their seeds, which are theirs alone
    openings: dict[tuple[str, str], Opening] = field(default_factory=dict)  # by verify incarnation and sequence
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)  # newest window, by draft incarnation, sequence

    # ------------------------------------------------------------------------------------------ clients

    def expect(self, submit: Submit, tokens: int, resubmit: bool) -> None:
        """Learn of a request before it is sent."""
        prompt = submit.ids or ()
        out = tuple(self.truth.write(prompt, tokens))
        writer = StubDetokenizer()
        expected = Expected(prompt, out, "".join(writer.feed(token) for token in out), resubmit)
        self.requests[submit.sequence] = self.seeds[submit.params.seed] = expected

    def received(self, sequence: str, tokens: tuple[int, ...], text: str) -> None:
        """Check what a client is handed next."""
        mine = self.requests[sequence]
        self._check_tokens(f"{sequence}: handed to its client", mine, mine.received, tokens)
        if mine.text[mine.characters : mine.characters + len(text)] != text:
            raise Breach(f"{sequence}: its client is handed the text {text!r} at {mine.characters}")
        mine.received += len(tokens)
        mine.characters += len(text)

    def carried(self, sequence: str, tokens: tuple[int, ...]) -> None:
        """Check what an error carries: all that had arrived, so no less than what was handed out."""
        mine = self.requests[sequence]
        self._check_tokens(f"{sequence}: carried by its error", mine, 0, tokens)
        if len(tokens) < mine.received:
            raise Breach(f"{sequence}: its error carries {len(tokens)} tokens, {mine.received} were handed out")

    def whole(self, sequence: str) -> None:
        """Check that a stream which ended without an error was whole."""
        mine = self.requests[sequence]
        if mine.received != len(mine.tokens) or mine.characters != len(mine.text):
            raise Breach(f"{sequence}: ended after {mine.received} of {len(mine.tokens)} tokens, without an error")

    # ------------------------------------------------------------------------------------------ messages

    def told(self, who: str, what: str, payload: bytes) -> None:
        """Look at a message of the verify node, at one that it takes, or at a request being made."""
        if what == "asks" and b"submit" in payload[:24]:
            body = decode(payload).body
            if isinstance(body, Submit):
                self._submitted(body)
        if who != "verify":
            return
        if what == "says":
            envelope = decode(payload)
            if isinstance(envelope.body, Committed):
                self._committed(envelope.incarnation, envelope.body)
            elif isinstance(envelope.body, Opened):
                self._opened(envelope.incarnation, envelope.body)
        elif what == "takes" and b"cancel" in payload[:24]:
            body = decode(payload).body
            if isinstance(body, Cancel):
                self._of(body.verify, body.sequence).cancelled = True

    def _submitted(self, submit: Submit) -> None:
        """Learn of the other ids of a request that is submitted again: with all that was handed out, nothing else."""
        if submit.sequence in self.requests:
            return
        mine = self.seeds.get(submit.params.seed)
        if mine is None or submit.ids != mine.prompt or not mine.resubmit:
            raise Breach(f"{submit.sequence} is submitted, and nobody asked for it")
        self._check_tokens(f"{submit.sequence}: resubmitted", mine, 0, submit.resumed)
        if len(submit.resumed) < mine.received:
            raise Breach(
                f"{submit.sequence} is resubmitted with {len(submit.resumed)} tokens, {mine.received} are known"
            )
        self.requests[submit.sequence] = mine

    def _of(self, life: str, sequence: str) -> Opening:
        return self.openings.setdefault((life, sequence), Opening())

    def _opened(self, life: str, opened: Opened) -> None:
        opening = self._of(life, opened.sequence)
        if opening.opened:
            raise Breach(f"{opened.sequence} is opened a second time: one request runs twice")
        if opening.cancelled:
            raise Breach(f"{opened.sequence} is opened after it was cancelled")
        opening.opened = True

    def _committed(self, life: str, window: Committed) -> None:
        name, opening = window.sequence, self._of(life, window.sequence)
        expected = self.requests[name]
        if window.finish is None and (opening.finished or opening.cancelled):
            raise Breach(f"{name} goes on after its end: it is at version {window.version} again")
        if window.version < opening.version or window.length < opening.length:
            raise Breach(f"{name} goes back from version {opening.version} to {window.version}")
        if window.start + len(window.tokens) != window.length:
            raise Breach(
                f"{name}: a window from {window.start} with {len(window.tokens)} tokens ends at {window.length}"
            )
        self._check_tokens(f"{name}: committed", expected, window.start - len(expected.prompt), window.tokens)
        text = expected.text[window.text_start : window.text_start + len(window.text)]
        if text != window.text:
            raise Breach(f"{name}: committed with the text {window.text!r} at {window.text_start}, not {text!r}")
        opening.version, opening.length = window.version, window.length
        opening.finished |= window.finish is not None

    @staticmethod
    def _check_tokens(what: str, expected: Expected, start: int, tokens: Sequence[int]) -> None:
        if tuple(tokens) != expected.tokens[start : start + len(tokens)] or start < 0:
            raise Breach(
                f"{what} from output token {start} on: {tuple(tokens)}, the verify model writes "
                f"{expected.tokens[start : start + len(tokens)]}"
            )

    # ------------------------------------------------------------------------------------------ steps

    def verify_step(self, core: Any, model: SimulatedModel, step: Step) -> None:
        """Look at the verify core as it begins a step: cache rows, committed tokens, proposals."""
        rows = [sequence.row for sequence in core.live.values()]
        if len(set(rows)) != len(rows):
            raise Breach(f"two live sequences share a row: {rows}")
        for name, sequence in core.live.items():
            expected = self.requests[name]
            _check_row(name, model, sequence.row, sequence.ids, sequence.fed)
            self._check_tokens(f"{name}: held", expected, 0, sequence.ids[len(expected.prompt) :])
            for draft, evidence in sequence.proposals.by_draft.items():
                before = self.numbers.get((draft, name), -1)
                if evidence.number < before:
                    raise Breach(f"{name}: window {evidence.number} of draft {draft} replaced window {before}")
                self.numbers[draft, name] = evidence.number
        for part in core._in_flight.parts:
            self._check_proposal(part.sequence, part.proposal)

    @staticmethod
    def _check_proposal(sequence: VerifySequence, proposal: Proposal) -> None:
        if not proposal.tokens:
            return
        window = sequence.proposals.by_draft[proposal.draft].window
        parents = range(-1, len(window.tokens) - 1) if window.parents is None else window.parents
        nodes: dict[tuple[int, int], int] = {}
        for at, node in enumerate(zip(parents, window.tokens, strict=True)):
            nodes.setdefault(node, at)  # of twins the first counts
        way = [-1]  # from the window's base to the end of what is scored
        for token in (*sequence.ids[window.base :], *proposal.tokens):
            if (way[-1], token) not in nodes:
                raise Breach(f"{sequence.name}: scores {proposal.tokens}, which do not continue its committed tokens")
            way.append(nodes[way[-1], token])
        known = len(sequence.ids) - window.base
        found: dict[Aside, int] = {}
        for aside in proposal.beside:
            node = (way[known + aside.depth] if aside.behind is None else found[aside.behind], aside.token)
            if node not in nodes:
                raise Breach(
                    f"{sequence.name}: scores {aside.token} at depth {aside.depth}, which nobody proposed there"
                )
            found[aside] = nodes[node]

    def draft_step(self, core: Any, model: SimulatedModel, step: Step) -> None:
        """Look at a draft core as it begins a step: cache rows, committed tokens, leads."""
        for name, sequence in core.sequences.items():
            if sequence.row is not None:
                _check_row(name, model, sequence.row, sequence.ids, sequence.fed)
            expected = self.requests[name]
            committed = sequence.replica.tokens[len(expected.prompt) :]
            self._check_tokens(f"{name}: followed by a draft", expected, 0, committed)
            if sequence.lead > sequence.speculation.lookahead:
                raise Breach(f"{name}: a lead of {sequence.lead} tokens, at most {sequence.speculation.lookahead}")


def _check_row(name: str, model: SimulatedModel, row: int, ids: Sequence[int], fed: int) -> None:
    held = model.cache[row].ids
    if len(held) < fed or held[:fed] != list(ids[:fed]):
        where = next((i for i, (a, b) in enumerate(zip(held, ids, strict=False)) if a != b), len(held))
        raise Breach(f"{name}: its row should hold {fed} of its ids, and differs from position {where} on")
