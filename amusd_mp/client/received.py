"""What has arrived of one response: the committed tokens, what was refused in their favour, and what was handed out.

It is one thing over all lives of the verify node that write the response, and knows none of them.
"""

from __future__ import annotations

from amusd_mp.client.results import Chunk, Token
from amusd_mp.core.messages import Committed, Origin, SyncPage
from amusd_mp.core.replica import Delta, Replica


class Received:
    """A response's replica and its reader's place in it."""

    def __init__(self, prompt_length: int = 0) -> None:
        self.replica = Replica(prompt_length, offset=prompt_length)
        self._told = 0  # tokens handed out
        self._told_text = 0
        self._rejections: dict[int, tuple[tuple[int, ...], str]] = {}  # by the index of the token decided instead

    def __repr__(self) -> str:
        return f"<Received {len(self.replica.tokens)} tokens, {self._told} handed out>"

    def merge(self, window: Committed | SyncPage) -> Delta:
        """Take a window or page in and return what it added. Raises Contradiction."""
        delta = self.replica.merge(window)
        if isinstance(window, Committed) and window.rejected and delta.tokens and not delta.gap:
            self._rejections[len(self.replica.tokens) - 1] = window.rejected, window.rejected_text
        return delta

    def take(self) -> Chunk | None:
        """Return what is new since the last chunk, None if nothing is."""
        replica = self.replica
        new, text = replica.tokens[self._told :], replica.text[self._told_text :]
        if not new and not text:
            return None
        tokens = self.tokens(self._told)
        self._told, self._told_text = len(replica.tokens), len(replica.text)
        return Chunk(text, tokens)

    def tokens(self, first: int = 0) -> tuple[Token, ...]:
        """Return the tokens from index `first` on."""
        replica = self.replica
        return tuple(
            Token(
                replica.tokens[index],
                Origin(replica.origins[index]),
                replica.logprobs[index] if replica.logprobs else None,
                replica.text_of(index),
                *self._rejections.get(index, ((), "")),
            )
            for index in range(first, len(replica.tokens))
        )
