"""The emitted side of a sequence: tokens become text, and the first reason to stop is found exactly where it is.

Tokens are fed one at a time, in order, so a block of many accepted tokens stops where one-by-one decoding would. Text
that could still turn out to be the beginning of a stop string is held back; of a stop string itself nothing is emitted.
"""

from __future__ import annotations

from collections.abc import Collection

from amusd_mp.core.messages import Finish
from amusd_mp.core.model import Detokenizer
from amusd_mp.core.params import GenerationParams


class Output:
    """Text of one sequence. `ends[i]` is the number of characters emitted once i+1 output tokens are committed."""

    def __init__(
        self, params: GenerationParams, detokenizer: Detokenizer, eos_ids: Collection[int], max_tokens: int
    ) -> None:
        self.text = ""
        self.ends: list[int] = []
        self._held = ""
        self._spared = 0  # characters of text and held text that came within min_tokens: a stop string ends after them
        self._params = params
        self._detokenizer = detokenizer
        self._max_tokens = max_tokens
        self._stop_ids = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else frozenset(eos_ids))

    def add(self, token: int) -> Finish | None:
        """Emit one token and return why the sequence ends here, or None."""
        count = len(self.ends) + 1
        may_stop = count > self._params.min_tokens
        finish: Finish | None = None
        stopped = may_stop and token in self._stop_ids
        if not stopped:
            self._held += self._detokenizer.feed(token)
        at_end = stopped or count >= self._max_tokens
        if at_end:
            self._held += self._detokenizer.flush()
        if may_stop and self._cut_at_stop_string():
            finish = Finish.STOP
        elif at_end:
            finish = Finish.STOP if stopped else Finish.LENGTH
            self._release(self._held)
        else:
            self._release(self._held[: len(self._held) - self._holdback()])
        if not may_stop:
            self._spared = len(self.text) + len(self._held)
        self.ends.append(len(self.text))
        return finish

    def text_at(self, outputs: int) -> int:
        """Return how many characters the first `outputs` tokens had emitted."""
        return self.ends[outputs - 1] if outputs else 0

    def _release(self, text: str) -> None:
        self.text += text
        self._held = self._held[len(text) :]

    def _cut_at_stop_string(self) -> bool:
        """Emit what precedes the first stop string in the held text, if there is one."""
        spared = self._spared - len(self.text)
        begins = (self._held.find(stop, max(0, spared - len(stop) + 1)) for stop in self._params.stop)
        found = [at for at in begins if at >= 0]
        if not found:
            return False
        self._release(self._held[: min(found)])
        self._held = ""
        return True

    def _holdback(self) -> int:
        """Return how many of the last held characters might begin a stop string."""
        longest = 0
        for stop in self._params.stop:
            for n in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:n]):
                    longest = n
                    break
        return longest
