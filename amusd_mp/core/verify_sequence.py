"""One sequence at the verify node: committed tokens, proposals, cache state and counts.

The only authority on what is committed (rule V1). `ids` is append-only; `fed` says how much of it the cache row holds,
always at least one short of the end (rule V7: the last committed token is fed by the next block), and more where those
before it were accepted beside the chain: to feed them again costs little, and leaves bit for bit what a chain does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from amusd_mp.core.limits import PAGE_CHARACTERS, PAGE_LOGPROBS, PAGE_TOKENS, WINDOW_TOKENS
from amusd_mp.core.messages import Committed, Counts, DigestEntry, Finish, Origin, SyncPage
from amusd_mp.core.output import Output
from amusd_mp.core.params import GenerationParams, Speculation, Strategy
from amusd_mp.core.policy import PROBE_EVERY, PROBE_RARELY
from amusd_mp.core.proposal import Outcome, Proposal
from amusd_mp.core.proposals import ProposalStore
from amusd_mp.core.step import Block, Picked, TokenLogprob
from amusd_mp.core.tempo import CommitTimes

UNKNOWN = TokenLogprob(-inf)
"""In place of a resumed token's log probability, which its client has: all others stay with their tokens."""


@dataclass(slots=True)
class Tally:
    """Running counts of one sequence; `Counts` is made from it."""

    steps: int = 0
    proposed: int = 0
    accepted: int = 0
    alone: int = 0
    cached: int = 0
    histogram: list[int] = field(default_factory=list)
    degraded: bool = False


@dataclass(slots=True, eq=False)
class VerifySequence:
    """`ids` is prompt and output, which begins at `prompt_length`. `row` is None before and after its life in cache.

    `read` returns how tokens read behind others (context, tokens); it is set where a client wants to see the rejected.
    """

    name: str
    client: str
    params: GenerationParams
    speculation: Speculation
    ids: list[int]
    prompt_length: int
    max_length: int
    output: Output
    opened: float
    read: Callable[[list[int], tuple[int, ...]], str] | None = None
    resumed: int = 0  # output tokens that an earlier life of the request had got
    row: int | None = None
    fed: int = 0
    carried: int = 0  # committed tokens before the last that the cache lacks, too: those that stood beside a chain
    version: int = 0
    fresh: int = 0  # tokens that the last step committed
    origins: list[Origin] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    rejected: tuple[int, ...] = ()
    proposals: ProposalStore = field(default_factory=ProposalStore)
    tally: Tally = field(default_factory=Tally)
    finish: Finish | None = None
    counts: Counts | None = None
    committed_at: float = 0.0
    commits: CommitTimes = field(default_factory=CommitTimes)
    unscored: int = 0  # steps since a proposal was last scored, or waited for in vain
    probe_after: int = PROBE_EVERY  # how many of them are too many

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def outputs(self) -> int:
        """Output tokens so far."""
        return len(self.ids) - self.prompt_length

    @property
    def generated(self) -> int:
        """Output tokens that were computed here."""
        return self.outputs - self.resumed

    @property
    def prefilling(self) -> bool:
        """True while more is missing from the cache than a decode step leaves out."""
        return self.length - self.fed > 1 + self.carried

    @property
    def probing(self) -> bool:
        """True if nothing was scored for so long that anything should be, to notice that a draft has become good."""
        return self.unscored >= self.probe_after

    def usable(self) -> int:
        """Return how many proposed tokens one more step could commit, its own next token counted out."""
        if self.speculation.strategy is Strategy.AUTOREGRESSIVE:
            return 0
        left = self.max_length - self.length
        if self.params.max_tokens is not None:
            left = min(left, self.params.max_tokens - self.outputs)
        return max(0, min(left - 1, self.speculation.lookahead))

    def room(self) -> int:
        """Return how many proposed tokens fit into the cache row."""
        return self.max_length - self.length

    def tried(self, k: int, missed: bool) -> None:
        """Note that a step scores k proposals, and whether it waited in vain for one.

        Scoring by itself brings the next probe back to its first distance, a probe doubles it.
        """
        if missed:
            self.proposals.mark_missed()
        if self.probing and (k or missed):
            self.unscored, self.probe_after = 0, min(2 * self.probe_after, PROBE_RARELY)
        elif k:
            self.unscored, self.probe_after = 0, PROBE_EVERY
        else:
            self.unscored += 1

    def chunk(self, most: int) -> Block:
        """Return up to `most` tokens that the cache lacks; behind the last of all the model's own is wanted."""
        end = min(self.fed + most, self.length)
        return self._feed(self.ids[self.fed : end], 1 if end == self.length else 0)

    def block(self, proposal: Proposal) -> Block:
        """Return what is not in the cache yet, the chain, and what stands beside it."""
        chain = [*self.ids[self.fed :], *proposal.tokens]
        picks = proposal.size + 1
        if not proposal.beside:
            return self._feed(chain, picks)
        parents = (*range(-1, len(chain) - 1), *proposal.parents(len(chain) - len(proposal.tokens) - 1))
        return self._feed([*chain, *(each.token for each in proposal.beside)], picks, parents)

    def _feed(self, tokens: list[int], picks: int, parents: tuple[int, ...] | None = None) -> Block:
        assert self.row is not None
        return Block(self.name, self.row, self.fed, tuple(tokens), picks, self.params, self.prompt_length, parents)

    def append(self, token: int, origin: Origin, logprob: TokenLogprob | None = None) -> Finish | None:
        """Commit one token and return why the sequence ends with it, or None."""
        self.ids.append(token)
        self.origins.append(origin)
        if self.params.logprobs is not None:
            self.logprobs.append(logprob or UNKNOWN)
        return self.output.add(token)

    def commit(self, proposal: Proposal, picked: Picked) -> tuple[Outcome, Finish | None]:
        """Commit what one verified block decides: accepted proposals, then the verify model's own next token.

        `picked.tokens` are the model's own tokens where `Proposal` says, so what is committed is what the model alone
        would emit. Returns which way that is and the finish reason. Every count is cut at the stop, as `fresh` is.
        """
        length, outcome = len(self.ids), proposal.outcome(picked)
        accepted, aside = outcome.accepted, len(outcome.aside)
        finish: Finish | None = None
        for count, at in enumerate(outcome.picks):
            origin = Origin.ACCEPTED if count < accepted + aside else outcome.origin
            finish = self.append(
                picked.tokens[at], origin, picked.logprobs[at] if picked.logprobs is not None else None
            )
            if finish is not None:
                break
        emitted = self.fresh = len(self.ids) - length
        self.carried = aside
        self.rejected = () if finish is not None else proposal.tokens[accepted + aside :]
        right = min(accepted + aside, emitted)
        self._count(outcome.guessed if finish is None else min(outcome.guessed, emitted), right, emitted)
        return outcome, finish

    def _count(self, proposed: int, accepted: int, emitted: int) -> None:
        tally = self.tally
        if proposed == 0:
            tally.alone += emitted
            return
        tally.steps += 1
        tally.proposed += proposed
        tally.accepted += accepted
        tally.histogram.extend([0] * (accepted + 1 - len(tally.histogram)))
        tally.histogram[accepted] += 1

    def close(self, finish: Finish, now: float, overlap: float) -> None:
        """Fix the finish reason and the counts."""
        tally = self.tally
        self.finish = finish
        self.counts = Counts(
            prompt_tokens=self.prompt_length,
            output_tokens=self.outputs,
            steps=tally.steps,
            proposed=tally.proposed,
            accepted=tally.accepted,
            histogram=tuple(tally.histogram),
            drafted=max(self.proposals.drafted, tally.proposed),
            rollbacks=self.proposals.rollbacks,
            alone=tally.alone,
            cached=tally.cached,
            seconds=now - self.opened,
            overlap=overlap,
            degraded=tally.degraded,
        )
        self.proposals = ProposalStore()  # it stays readable for a minute, and windows are of no use any more

    def committed(self) -> Committed:
        """Return the publication of the current state: the last output tokens and their text."""
        start = max(self.prompt_length, self.length - max(WINDOW_TOKENS, self.fresh))
        first = start - self.prompt_length
        text_start = self.output.text_at(first)
        return Committed(
            sequence=self.name,
            version=self.version,
            start=start,
            tokens=tuple(self.ids[start:]),
            length=self.length,
            origins="".join(self.origins[first:]),
            text=self.output.text[text_start:],
            text_start=text_start,
            ends=tuple(self.output.ends[first:]),
            rejected=self.rejected,
            rejected_text=self.read(self.ids[:-1], self.rejected) if self.read and self.rejected else "",
            logprobs=tuple(self.logprobs[first:]) if self.params.logprobs is not None else None,
            finish=self.finish,
            counts=self.counts,
        )

    def page(self, start: int) -> SyncPage:
        """Return the state from position `start` on, as much as one page holds."""
        start = min(start, self.length)
        end = self._page_end(start)
        first, last = max(0, start - self.prompt_length), max(0, end - self.prompt_length)
        text_start = self.output.text_at(first)
        text_end = self.output.text_at(last) if end < self.length else len(self.output.text)
        return SyncPage(
            sequence=self.name,
            version=self.version,
            prompt_length=self.prompt_length,
            length=self.length,
            start=start,
            tokens=tuple(self.ids[start:end]),
            params=self.params,
            speculation=self.speculation,
            origins="".join(self.origins[first:last]),
            text=self.output.text[text_start:text_end],
            text_start=text_start,
            ends=tuple(self.output.ends[first:last]),
            logprobs=tuple(self.logprobs[first:last]) if self.params.logprobs is not None else None,
            finish=self.finish,
            counts=self.counts,
        )

    def _page_end(self, start: int) -> int:
        """Return where a page from `start` must end: log probabilities and text are larger than the ids themselves."""
        end = min(self.length, start + (PAGE_TOKENS if self.params.logprobs is None else PAGE_LOGPROBS))
        first = self.output.text_at(max(0, start - self.prompt_length))
        while end > start + 1 and self.output.text_at(max(0, end - self.prompt_length)) - first > PAGE_CHARACTERS:
            end = start + (end - start) // 2
        return end

    def digest(self) -> DigestEntry:
        """Return this sequence's line in the digest."""
        return DigestEntry(self.name, self.version, self.length, self.finish is not None)
