"""What is published: the state of a sequence as *windows* that repeat what came before, and signs of life.

A lost publication is repaired by the next one. Positions are absolute, the prompt included; `version` counts the
commits of a sequence; `verify` names the incarnation of the verify node that is meant.
"""

from __future__ import annotations

from dataclasses import dataclass

from amusd_mp.core.messages.words import Counts, Finish, NodeState
from amusd_mp.core.step import TokenLogprob


@dataclass(frozen=True, slots=True)
class Opened:
    """A sequence exists. Prompt, parameters and seed come by `sync`."""

    sequence: str
    prompt_length: int
    prompt_hash: str


@dataclass(frozen=True, slots=True)
class Committed:
    """The last output tokens of a sequence, `tokens` = positions start .. length.

    `origins` has one `Origin` letter per token. `text` is the output text those tokens added, beginning at character
    `text_start` of the output; `ends` says for each token how many characters the output had with it. `rejected` are
    the proposed tokens that this commit refused, at positions from its last token's on, and `rejected_text` is what
    they would have read, if the request has `show_rejected`. `finish` and `counts` come together, in the last commit.
    """

    sequence: str
    version: int
    start: int
    tokens: tuple[int, ...]
    length: int
    origins: str
    text: str = ""
    text_start: int = 0
    ends: tuple[int, ...] = ()
    rejected: tuple[int, ...] = ()
    rejected_text: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish: Finish | None = None
    counts: Counts | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A draft's whole lead on one sequence, beyond `base`: a tree of guesses, or a chain when `parents` is None.

    `parents` has for each token the index of the one it follows, -1 for the last before `base`; the first that follows
    a token is what the draft goes on from, the others may stand in its place. `confidence` says, in percent, how sure
    the draft is of each token; it may be left out. `version` is the commit it builds on. `full`: the lead grows no more
    before the next commit. `drafted`, tokens of leads, `prepared`, tokens guessed behind runners-up, and `rollbacks`
    count this draft's work on the sequence so far. `resumed_at` is its own clock at its first guess after it last
    stopped, because its lead was full, or started over, and `guessed_at` at the newest of its lead; 0 if it does not
    tell.
    """

    sequence: str
    version: int
    base: int
    tokens: tuple[int, ...]
    parents: tuple[int, ...] | None = None
    confidence: tuple[int, ...] = ()
    full: bool = False
    drafted: int = 0
    rollbacks: int = 0
    resumed_at: float = 0.0
    prepared: int = 0
    guessed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Draft:
    """All that a draft has guessed and that is not committed yet: every lead on every sequence, once a step.

    So each says all that those before it on its topic said, and whoever finds several reads the last. `verify` is the
    life of the verify node that is meant. `seconds` is how long the draft's device has computed so far; `sent` is its
    own clock when it was published. Both are good for differences alone.
    """

    verify: str
    windows: tuple[Window, ...]
    seconds: float = 0.0
    sent: float = 0.0


@dataclass(frozen=True, slots=True)
class DigestEntry:
    """One line of a verify node's digest: enough to notice that something was missed."""

    sequence: str
    version: int
    length: int
    done: bool = False


@dataclass(frozen=True, slots=True)
class Beat:
    """I am alive, this is what I am doing. The digest comes in `pages` pages per `cycle`, from the verify node only.

    `watched`, likewise: somebody looks at steps, so a draft should tell its own.
    """

    state: NodeState
    steps: int = 0
    step_age: float = 0.0
    busy: float = 0.0
    drafts: int = 0
    digest: tuple[DigestEntry, ...] = ()
    page: int = 0
    pages: int = 1
    cycle: int = 0
    watched: bool = False


@dataclass(frozen=True, slots=True)
class Barrier:
    """The nonce of a `Hello`, published on the caller's own topic: proof that its subscription is live."""

    nonce: str


@dataclass(frozen=True, slots=True)
class TraceEntry:
    """One sequence's part in a traced step: it fed `fed` tokens from position `start` on.

    Of a verify step: for how many positions it had proposals, on how many of those one was accepted, how many of these
    stood `beside` the draft's own way, and how many tokens it committed; `start` is where its last committed token
    stood, and `version` that of its commit. Of a draft step: the `tokens` it guessed behind its lead, the first at
    position start + fed, how the verify node reads them, `text`, the `version` of the commit that it built on, and how
    many tokens it fed `beside` the lead, to guess behind runners-up: one that did nothing else has no `tokens`. So the
    window that a verify step used is, but for what was prepared, the draft's latest step before it that guessed
    position start + proposed, and builds on a commit no older than the last that refused a guess.
    """

    sequence: str
    start: int
    fed: int
    proposed: int = 0
    accepted: int = 0
    emitted: int = 0
    tokens: tuple[int, ...] = ()
    text: str = ""
    beside: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One device step, told only while somebody watches. Times are the node's own clock.

    A draft tells the verify node, which repeats it under `trace/` with the draft's name and, as `heard`, when it
    arrived by the verify node's clock: the smallest `heard` - `ended` of a draft is how far its clock is behind, plus
    one way of a message. Zero for the verify node's own steps.
    """

    role: str
    number: int
    began: float
    ended: float
    entries: tuple[TraceEntry, ...] = ()
    node: str = ""
    heard: float = 0.0


Publication = Opened | Committed | Draft | Beat | Barrier | StepTrace
