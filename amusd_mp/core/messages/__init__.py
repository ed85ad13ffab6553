"""Every message of the protocol: one frozen dataclass each, one tagged union, no behaviour.

`publications` are told to whoever subscribes, `requests` are asked and answered; `words` and `topics` serve both. Field
names travel as they stand; the codec checks types and limits when a message arrives.
"""

from __future__ import annotations

from dataclasses import dataclass

from amusd_mp.core.messages.publications import (
    Barrier,
    Beat,
    Committed,
    DigestEntry,
    Draft,
    Opened,
    Publication,
    StepTrace,
    TraceEntry,
    Window,
)
from amusd_mp.core.messages.requests import (
    Cancel,
    Cancelled,
    ChatMessage,
    Detokenize,
    Detokenized,
    DraftStatus,
    Drain,
    Draining,
    ErrorCode,
    ErrorReply,
    Hello,
    Renew,
    Renewed,
    Reply,
    Request,
    StatusReport,
    StatusRequest,
    Submit,
    Submitted,
    Sync,
    SyncPage,
    Tokenize,
    Tokenized,
    Watch,
    Watching,
    Welcome,
)
from amusd_mp.core.messages.topics import (
    BEAT_TOPIC,
    DRAFT_TOPICS,
    TRACE_TOPIC,
    VERIFY_TOPICS,
    client_topic,
    draft_topic,
    sequence_topic,
    trace_topic,
)
from amusd_mp.core.messages.words import (
    Counts,
    Finish,
    NodeState,
    Origin,
)

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
    "watch": Watch,
    "tokenize": Tokenize,
    "detokenize": Detokenize,
    "welcome": Welcome,
    "submitted": Submitted,
    "page": SyncPage,
    "renewed": Renewed,
    "cancelled": Cancelled,
    "report": StatusReport,
    "draining": Draining,
    "watching": Watching,
    "ids": Tokenized,
    "texts": Detokenized,
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


__all__ = [
    "BEAT_TOPIC",
    "DRAFT_TOPICS",
    "TAGS",
    "TRACE_TOPIC",
    "VERIFY_TOPICS",
    "Barrier",
    "Beat",
    "Cancel",
    "Cancelled",
    "ChatMessage",
    "Committed",
    "Counts",
    "Detokenize",
    "Detokenized",
    "DigestEntry",
    "Draft",
    "DraftStatus",
    "Drain",
    "Draining",
    "Envelope",
    "ErrorCode",
    "ErrorReply",
    "Finish",
    "Hello",
    "Message",
    "NodeState",
    "Opened",
    "Origin",
    "Publication",
    "Renew",
    "Renewed",
    "Reply",
    "Request",
    "StatusReport",
    "StatusRequest",
    "StepTrace",
    "Submit",
    "Submitted",
    "Sync",
    "SyncPage",
    "Tokenize",
    "Tokenized",
    "TraceEntry",
    "Watch",
    "Watching",
    "Welcome",
    "Window",
    "client_topic",
    "draft_topic",
    "sequence_topic",
    "trace_topic",
]
