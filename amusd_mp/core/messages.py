"""Every message of the protocol: one frozen dataclass each, one tagged union, no behaviour.

Publications carry the state of a sequence as *windows* that repeat what came before, so a lost message is repaired by
the next one. Requests are answered by exactly one reply or by `ErrorReply`. Positions are absolute, the prompt
included; `version` counts the commits of a sequence; `verify` names the incarnation of the verify node that is meant.
Field names travel as they stand; the codec checks types and limits when a message arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from amusd_mp.core.model import ModelCard
from amusd_mp.core.params import GenerationParams, Speculation
from amusd_mp.core.step import TokenLogprob


class Origin(StrEnum):
    """Where a committed token came from; one letter each, so that a window of tokens carries a string of origins."""

    ACCEPTED = "a"  # the draft guessed it and the verify model agreed
    RECOVERED = "r"  # the verify model's own token at the first difference
    BONUS = "b"  # the verify model's own token after every guess was accepted
    ALONE = "-"  # there was no guess (prefill's token, no draft, or none in time)

    @property
    def drafted(self) -> bool:
        """True if the draft node made this token."""
        return self is Origin.ACCEPTED


class Finish(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"  # end-of-sequence token, stop token or stop string
    LENGTH = "length"  # max_tokens or the context length
    CANCELLED = "cancelled"  # its client asked, or its lease ran out
    ERROR = "error"  # the verify node could not go on


class NodeState(StrEnum):
    """Life of a node, told in every beat."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Counts:
    """What one sequence cost, by the field's definitions; final once it is finished, cut at its stop.

    steps:      speculative verify steps (those with at least one proposal; the prefill's token is none)
    proposed:   draft tokens that a verify step scored
    accepted:   of those, the ones emitted
    histogram:  histogram[j] = speculative steps that accepted exactly j draft tokens
    drafted:    tokens the draft made for this sequence, as it told; the rest of them, drafted - proposed, were wasted
    rollbacks:  times the draft had to take tokens back
    alone:      tokens emitted without any proposal
    cached:     prompt tokens that were not computed again
    seconds:    from admission to finish
    overlap:    share of that time in which both devices computed
    degraded:   no draft was joined for part of the time
    """

    prompt_tokens: int
    output_tokens: int = 0
    steps: int = 0
    proposed: int = 0
    accepted: int = 0
    histogram: tuple[int, ...] = ()
    drafted: int = 0
    rollbacks: int = 0
    alone: int = 0
    cached: int = 0
    seconds: float = 0.0
    overlap: float = 0.0
    degraded: bool = False


# ---------------------------------------------------------------------------------------------- publications


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
    the proposed tokens that this commit refused, at positions from its last token's on, and `rejected_text` is how
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
class Draft:
    """A draft's whole window beyond `base`: a tree of guesses, or a chain when `parents` is None.

    `version` is the commit it builds on. `full`: nothing more comes before the next commit. `drafted` and `rollbacks`
    count this draft's work on the sequence so far; `seconds` is what its latest step took.
    """

    sequence: str
    verify: str
    version: int
    base: int
    tokens: tuple[int, ...]
    parents: tuple[int, ...] | None = None
    full: bool = False
    drafted: int = 0
    rollbacks: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DigestEntry:
    """One line of a verify node's digest: enough to notice that something was missed."""

    sequence: str
    version: int
    length: int
    done: bool = False


@dataclass(frozen=True, slots=True)
class Beat:
    """I am alive, this is what I am doing. The digest comes in `pages` pages per `cycle`, from the verify node only."""

    state: NodeState
    steps: int = 0
    step_age: float = 0.0
    busy: float = 0.0
    drafts: int = 0
    digest: tuple[DigestEntry, ...] = ()
    page: int = 0
    pages: int = 1
    cycle: int = 0


@dataclass(frozen=True, slots=True)
class Barrier:
    """The nonce of a `Hello`, published on the caller's own topic: proof that its subscription is live."""

    nonce: str


@dataclass(frozen=True, slots=True)
class TraceEntry:
    """One sequence's part in a traced step."""

    sequence: str
    start: int
    fed: int
    proposed: int = 0
    accepted: int = 0
    emitted: int = 0


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One device step, published under `trace/` only while somebody subscribes. Times are the node's own clock."""

    role: str
    number: int
    began: float
    ended: float
    entries: tuple[TraceEntry, ...] = ()


# ---------------------------------------------------------------------------------------------- requests, replies


@dataclass(frozen=True, slots=True)
class Hello:
    """Introduce this incarnation of a dialler. `topic` is where the barrier is to come, "" if none is wanted yet."""

    role: str
    protocols: tuple[int, int]
    model: ModelCard | None = None
    packages: tuple[tuple[str, str], ...] = ()
    nonce: str = ""
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to `Hello`. Times in seconds; `endpoints` are for the transport's `attach`."""

    protocol: int
    state: NodeState
    beat: float
    liveness: float
    lease: float
    model: ModelCard
    speculation: Speculation
    endpoints: tuple[tuple[str, str], ...] = ()
    packages: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Submit:
    """Start a sequence. Exactly one of `text`, `ids`, `messages` is set.

    `sequence` is the caller's request id: the same id with the same body runs once however often it is sent; with
    another body it is an error. `resumed` are output ids that the caller already has from a lost life of the request.
    `show_rejected` asks for the text of refused proposals, too.
    """

    sequence: str
    verify: str
    client: str
    params: GenerationParams
    text: str | None = None
    ids: tuple[int, ...] | None = None
    messages: tuple[ChatMessage, ...] | None = None
    resumed: tuple[int, ...] = ()
    speculation: Speculation | None = None
    show_rejected: bool = False


@dataclass(frozen=True, slots=True)
class Submitted:
    """The sequence exists. `topic` is where its commits appear."""

    sequence: str
    prompt_length: int
    topic: str


@dataclass(frozen=True, slots=True)
class Sync:
    """Ask for the state of a sequence from token position `start` on."""

    sequence: str
    verify: str
    start: int = 0


@dataclass(frozen=True, slots=True)
class SyncPage:
    """State of a sequence: `tokens` are positions start, start+1, ...; ask again from there on if below length.

    `origins`, `text`, `ends` and `logprobs` belong to those of the tokens that are output; `text_start` and `ends`
    count characters of the output.
    """

    sequence: str
    version: int
    prompt_length: int
    length: int
    start: int
    tokens: tuple[int, ...]
    params: GenerationParams
    speculation: Speculation
    origins: str = ""
    text: str = ""
    text_start: int = 0
    ends: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish: Finish | None = None
    counts: Counts | None = None


@dataclass(frozen=True, slots=True)
class Renew:
    """Extend the leases of a client's sequences."""

    verify: str
    sequences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Renewed:
    """`unknown` are those of the named sequences that the verify node does not have."""

    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a sequence. An unknown id is remembered as cancelled for a minute."""

    sequence: str
    verify: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """`known` tells whether the sequence was alive."""

    known: bool


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """Ask how the node is. `verify` may be empty: status is answered in any life."""

    verify: str = ""


@dataclass(frozen=True, slots=True)
class DraftStatus:
    """One joined draft, as the verify node sees it."""

    node: str
    incarnation: str
    model: str
    device: str
    age: float
    windows: int
    acceptance: float | None = None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """How the verify node is; times in seconds."""

    node: str
    state: NodeState
    uptime: float
    model: ModelCard
    sequences: int
    max_sequences: int
    finished: int
    output_tokens: int
    steps: int
    busy: float
    degraded: bool
    drafts: tuple[DraftStatus, ...] = ()
    counters: tuple[tuple[str, int], ...] = ()
    packages: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish what runs, admit nothing new, then exit 0."""

    verify: str


@dataclass(frozen=True, slots=True)
class Draining:
    """The drain has begun; `sequences` are still running."""

    sequences: int


class ErrorCode(StrEnum):
    """Why a request was refused; each maps to one exception at the caller."""

    MALFORMED = "malformed"  # not a message of this protocol
    PROTOCOL = "protocol"  # no common protocol version
    RESTARTED = "restarted"  # the incarnation that was meant is gone
    NOT_READY = "not_ready"  # loading or draining
    BUSY = "busy"  # no room for another sequence
    INVALID = "invalid"  # the request itself is wrong; `field` names the parameter
    CONFLICT = "conflict"  # this id was submitted with another body
    CANCELLED = "cancelled"  # this id was cancelled before it arrived
    UNKNOWN = "unknown"  # no such sequence
    MISMATCH = "mismatch"  # the models do not fit; `field`, `ours`, `theirs` say where
    FORBIDDEN = "forbidden"  # this peer may not do that
    INTERNAL = "internal"  # the node failed; its log says more


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """A request was refused. `message` is one line for a person. `ours` is the verify node's value."""

    code: ErrorCode
    message: str
    retry_after: float | None = None
    field: str = ""
    ours: str = ""
    theirs: str = ""


Publication = Opened | Committed | Draft | Beat | Barrier | StepTrace
Request = Hello | Submit | Sync | Renew | Cancel | StatusRequest | Drain
Reply = Welcome | Submitted | SyncPage | Renewed | Cancelled | StatusReport | Draining | ErrorReply
Message = Publication | Request | Reply

TAGS: dict[str, type[Message]] = {
    "opened": Opened,
    "committed": Committed,
    "draft": Draft,
    "beat": Beat,
    "barrier": Barrier,
    "step": StepTrace,
    "hello": Hello,
    "submit": Submit,
    "sync": Sync,
    "renew": Renew,
    "cancel": Cancel,
    "status": StatusRequest,
    "drain": Drain,
    "welcome": Welcome,
    "submitted": Submitted,
    "page": SyncPage,
    "renewed": Renewed,
    "cancelled": Cancelled,
    "report": StatusReport,
    "draining": Draining,
    "error": ErrorReply,
}
"""The type tag of each message on the wire."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message with its sender: node id, incarnation (random id of one start), and publisher sequence number."""

    node: str
    incarnation: str
    number: int
    body: Message
    protocol: int = 1


# ---------------------------------------------------------------------------------------------- topics


def sequence_topic(client: str, sequence: str) -> str:
    """Topic of a sequence's `opened` and `committed`."""
    return f"v/{client}/{sequence}"


def client_topic(client: str) -> str:
    """Prefix of everything meant for one client."""
    return f"v/{client}/"


def draft_topic(draft: str) -> str:
    """Topic of a draft's windows and beats."""
    return f"d/{draft}"


VERIFY_TOPICS = "v/"
BEAT_TOPIC = "beat/"
TRACE_TOPIC = "trace/"
DRAFT_TOPICS = "d/"
