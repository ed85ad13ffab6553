"""The committed tokens of one sequence, as known away from the verify node.

Draft nodes and clients keep one replica per sequence and merge whatever arrives into it: windows from publications and
pages from `sync`, late, twice, out of order. `merge` is idempotent and its outcome depends only on what has arrived,
not on the order: committed tokens never change, so an overlap must be equal and what lies beyond the end is new. A
window that begins beyond the end leaves a hole; the replica then stays as it is and reports the gap.

What was told of a token (its origin, its text, its log probability) is kept with it from the first output token on, so
a replica also outlives the life of the verify node that told it: `resume`, and merge what another life tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from amusd_mp.core.messages import Committed, Counts, Finish, SyncPage
from amusd_mp.core.step import TokenLogprob


class Contradiction(ValueError):
    """Two messages disagree about a committed token: not from one honest verify node."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What one merge added. `gap` is set when something before the window is missing: ask `sync` from the end."""

    tokens: tuple[int, ...] = ()
    origins: str = ""
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = None
    finished: bool = False
    gap: bool = False

    def __bool__(self) -> bool:
        return bool(self.tokens or self.text or self.finished)


@dataclass(slots=True)
class Replica:
    """Tokens from position `offset` on: 0 where the prompt matters (a draft), the prompt length where it does not.

    `origins`, `ends` and `logprobs` belong to output tokens only; with `offset` 0 the first one is at `prompt_length`.
    """

    prompt_length: int
    offset: int = 0
    tokens: list[int] = field(default_factory=list)
    origins: str = ""
    text: str = ""
    ends: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    version: int = 0
    finish: Finish | None = None
    counts: Counts | None = None

    @property
    def length(self) -> int:
        """Position after the last known token."""
        return self.offset + len(self.tokens)

    @property
    def complete(self) -> bool:
        """True when finished and nothing is missing."""
        return self.finish is not None

    def text_of(self, output: int) -> str:
        """Return the text that one output token added, "" if that was not told."""
        if output >= len(self.ends):
            return ""
        return self.text[self.ends[output - 1] if output else 0 : self.ends[output]]

    def resume(self) -> None:
        """Forget version, end and counts: one life of the verify node told them. Committed tokens are every life's."""
        self.version, self.finish, self.counts = 0, None, None

    def _check(self, window: Committed | SyncPage) -> None:
        if isinstance(window, SyncPage) and window.prompt_length != self.prompt_length:
            raise Contradiction(
                f"sequence {window.sequence}: a prompt of {window.prompt_length} tokens, and before one of"
                f" {self.prompt_length}"
            )

    def merge(self, window: Committed | SyncPage) -> Delta:
        """Take a window or page in and return what it added. Raises Contradiction, and then changes nothing."""
        self._check(window)
        if window.start > self.length:
            return Delta(gap=True)
        end = window.start + len(window.tokens)
        overlap = min(end, self.length) - max(window.start, self.offset)
        if overlap > 0:
            mine = max(window.start, self.offset) - self.offset
            theirs = max(window.start, self.offset) - window.start
            if tuple(self.tokens[mine : mine + overlap]) != window.tokens[theirs : theirs + overlap]:
                raise Contradiction(
                    f"sequence {window.sequence}: committed tokens differ between positions "
                    f"{max(window.start, self.offset)} and {min(end, self.length)}"
                )
        new_tokens = window.tokens[self.length - window.start :] if end > self.length else ()
        new_outputs = min(len(new_tokens), max(0, end - self.prompt_length))
        new_origins = window.origins[len(window.origins) - new_outputs :] if new_outputs else ""
        if new_outputs and self.origins and bool(self.logprobs) != (window.logprobs is not None):
            raise Contradiction(f"sequence {window.sequence}: only some of its tokens come with log probabilities")
        new_logprobs = None
        if window.logprobs is not None and new_outputs:
            new_logprobs = window.logprobs[len(window.logprobs) - new_outputs :]
        new_ends = window.ends[len(window.ends) - new_outputs :] if window.ends and new_outputs else ()
        new_text = ""
        if window.text_start <= len(self.text):
            new_text = window.text[len(self.text) - window.text_start :]

        self.tokens.extend(new_tokens)
        self.origins += new_origins
        self.text += new_text
        self.ends.extend(new_ends)
        if new_logprobs is not None:
            self.logprobs.extend(new_logprobs)
        finished = False
        whole = self.length >= window.length
        if window.version >= self.version and whole:
            self.version = window.version
        if window.finish is not None and whole and self.finish is None:
            self.finish, self.counts, finished = window.finish, window.counts, True
        return Delta(new_tokens, new_origins, new_text, new_logprobs, finished, gap=not whole)
