"""What publications are published under."""

from __future__ import annotations


def sequence_topic(client: str, sequence: str) -> str:
    """Topic of a sequence's `opened` and `committed`."""
    return f"v/{client}/{sequence}"


def client_topic(client: str) -> str:
    """Prefix of everything meant for one client."""
    return f"v/{client}/"


def draft_topic(draft: str) -> str:
    """Topic of a draft's windows and beats."""
    return f"d/{draft}"


def trace_topic(node: str) -> str:
    """Topic of one node's steps."""
    return f"{TRACE_TOPIC}{node}"


VERIFY_TOPICS = "v/"
BEAT_TOPIC = "beat/"
TRACE_TOPIC = "trace/"
DRAFT_TOPICS = "d/"
