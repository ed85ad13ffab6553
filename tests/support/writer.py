"""A detokenizer over a handful of byte strings, so that a test decides where characters break."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Writer:
    """Writes id i as `pieces[i]`, holding back what is not yet a whole character."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        return self._decoder.decode(self._pieces[token])

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)
