"""Text with its tokens marked by who made them: coloured, shaped, or in brackets.

On a terminal a token has a colour and a shape (bold, underlined, italic, struck through), so that neither eyes nor
NO_COLOR lose the difference. Elsewhere it stands in brackets behind a letter. What a model writes never reaches a
terminal as a control character.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TextIO

from amusd_mp.client.results import Chunk, GenerationResult
from amusd_mp.core.messages import Origin

_RESET: Final = "\x1b[0m"
_CONTROLS: Final = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}


class Look(Enum):
    """How tokens are told apart."""

    COLOUR = "colour"  # a terminal
    SHAPE = "shape"  # a terminal whose owner set NO_COLOR
    MARKS = "marks"  # a pipe, a file, a terminal that can do nothing


@dataclass(frozen=True, slots=True)
class Ink:
    """One kind of token. `colour` and `shape` are SGR parameters."""

    name: str
    letter: str
    colour: str
    shape: str


INKS: Final = {
    Origin.ACCEPTED: Ink("accepted", "a", "32", "1"),
    Origin.RECOVERED: Ink("recovered", "r", "33", "4"),
    Origin.BONUS: Ink("bonus", "b", "36", "3"),
    Origin.ALONE: Ink("alone", "-", "", ""),
}
REJECTED: Final = Ink("rejected", "x", "31", "9")
MEANINGS: Final = {
    "accepted": "drafted, and right",
    "recovered": "the verify model's, where the draft was wrong",
    "bonus": "the verify model's, after a draft that was all right",
    "alone": "the verify model's, with no guess at hand",
    "rejected": "drafted, and wrong",
}


def look_for(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Look:
    """Return how to show tokens on a stream."""
    if not stream.isatty() or environ.get("TERM") == "dumb":
        return Look.MARKS
    return Look.SHAPE if environ.get("NO_COLOR") else Look.COLOUR


def safe(text: str, stream: TextIO) -> str:
    """Return text as it may be written: verbatim, but on a terminal without control characters."""
    return text.translate(_CONTROLS) if stream.isatty() else text


class Painter:
    """Marks tokens for one stream."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str] = os.environ) -> None:
        self.look = look_for(stream, environ)
        self._stream = stream

    def chunk(self, chunk: Chunk) -> str:
        """Return a chunk's text with its tokens marked, rejected ones before the token that was decided instead."""
        if "".join(token.text for token in chunk.tokens) != chunk.text:
            return safe(chunk.text, self._stream)  # the verify node does not say which token made what
        marked = ""
        for token in chunk.tokens:
            if token.rejected_text:
                marked += self._mark(REJECTED, token.rejected_text.replace("\n", "\\n"))
            marked += self._mark(INKS[token.origin], token.text)
        return marked

    def legend(self) -> str:
        """Return one line that says how each kind of token looks."""
        inks = (*INKS.values(), REJECTED)
        if self.look is Look.MARKS:
            return "legend: " + ", ".join(f"[{ink.letter}: {ink.name}]" for ink in inks)
        return "legend: " + ", ".join(self._mark(ink, ink.name) for ink in inks)

    def meanings(self) -> list[str]:
        """Return one line per kind of token: how it looks and what it means."""
        inks = (*INKS.values(), REJECTED)
        width = max(len(ink.name) for ink in inks)
        return [f"{self._mark(ink, ink.name)}{' ' * (width - len(ink.name))}  {MEANINGS[ink.name]}" for ink in inks]

    def faint(self, text: str) -> str:
        """Return text that is not the model's, set back."""
        return safe(text, self._stream) if self.look is Look.MARKS else f"\x1b[2m{safe(text, self._stream)}{_RESET}"

    def _mark(self, ink: Ink, text: str) -> str:
        if self.look is Look.MARKS:
            return f"[{ink.letter}:{safe(text, self._stream)}]"
        codes = ";".join(filter(None, (ink.shape, ink.colour if self.look is Look.COLOUR else "")))
        return f"\x1b[{codes}m{safe(text, self._stream)}{_RESET}" if codes and text else safe(text, self._stream)


def summary(result: GenerationResult) -> str:
    """Return the one line after a response; times as the client saw them, the rest as the verify node counted."""
    numbers = result.speculative_decoding
    per_step = numbers.mean_acceptance_length
    parts = [
        f"{len(result.tokens)} tokens",
        f"{result.tokens_per_second:.1f} tokens/s",
        f"first after {result.time_to_first_token * 1000:.0f} ms",
        "no speculative step" if per_step is None else f"{per_step:.2f} tokens per speculative step",
        f"overlap {numbers.overlap:.0%}",
    ]
    return ", ".join(parts) + (" (no draft was joined for part of the time)" if numbers.degraded else "")
