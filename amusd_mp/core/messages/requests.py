"""What is asked and answered: every request gets one reply of its kind or an `ErrorReply`, and all are idempotent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from amusd_mp.core.messages.words import Counts, Finish, NodeState
from amusd_mp.core.model import ModelCard
from amusd_mp.core.params import GenerationParams, Speculation
from amusd_mp.core.step import TokenLogprob


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
    """The sequence exists. `topic` is where its commits appear; `prompt_hash` tells prompts of equal length apart."""

    sequence: str
    prompt_length: int
    topic: str
    prompt_hash: str = ""


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
    """One joined draft, as the verify node sees it.

    `acceptance` is that of its guesses now; `rescued` says how often, where the first one was wrong, another was right.
    """

    node: str
    incarnation: str
    model: str
    device: str
    age: float
    windows: int
    acceptance: float | None = None
    rescued: float | None = None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """How the verify node is; times in seconds.

    `round_p50` and `round_p95` are quantiles, over the last `rounds` steps, of what a step cost beside the device's own
    time and waiting on purpose.
    """

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
    rounds: int = 0
    round_p50: float = 0.0
    round_p95: float = 0.0


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish what runs, admit nothing new, then exit 0."""

    verify: str


@dataclass(frozen=True, slots=True)
class Draining:
    """The drain has begun; `sequences` are still running."""

    sequences: int


@dataclass(frozen=True, slots=True)
class Watch:
    """Ask that steps be told under `trace/`, for a few seconds; to be repeated for as long as somebody looks."""

    verify: str


@dataclass(frozen=True, slots=True)
class Watching:
    """Steps are told for so many `seconds` from now."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Tokenize:
    """Ask for the ids of a prompt. Exactly one of `text`, `messages` is set."""

    verify: str
    text: str | None = None
    messages: tuple[ChatMessage, ...] | None = None


@dataclass(frozen=True, slots=True)
class Tokenized:
    """The ids that a `submit` of the same prompt would begin with."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Detokenize:
    """Ask how ids read: together, or each on its own (`apart`)."""

    verify: str
    ids: tuple[int, ...]
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Detokenized:
    """One text, or one for each id; special tokens read as nothing, a part of a character as U+FFFD."""

    texts: tuple[str, ...]


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


Request = Hello | Submit | Sync | Renew | Cancel | StatusRequest | Drain | Watch | Tokenize | Detokenize
Reply = (
    Welcome
    | Submitted
    | SyncPage
    | Renewed
    | Cancelled
    | StatusReport
    | Draining
    | Watching
    | Tokenized
    | Detokenized
    | ErrorReply
)
