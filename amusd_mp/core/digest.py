"""The verify node's digest, on both ends: pages of (sequence, version, length, done), one cycle after the other.

It repairs what publications lost. A reader learns which live sequences it does not know, which of its own lag behind,
and, once it has seen every page of a cycle that began after it opened a sequence, which of its own are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from amusd_mp.core.limits import DIGEST_PAGE
from amusd_mp.core.messages import Beat, DigestEntry


def pages(entries: Sequence[DigestEntry], size: int = DIGEST_PAGE) -> list[tuple[DigestEntry, ...]]:
    """Cut one cycle's entries into pages; an empty digest is one empty page."""
    return [tuple(entries[i : i + size]) for i in range(0, len(entries), size)] or [()]


@dataclass(frozen=True, slots=True)
class Known:
    """What a reader holds of one sequence: how far it is, and the newest cycle it had seen when it opened it."""

    version: int
    length: int
    opened_in: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What one page revealed: unknown live sequences, own ones that lag, own ones that are gone."""

    unknown: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class DigestReader:
    """Reads the digests of one verify incarnation."""

    def __init__(self) -> None:
        self.cycle = 0  # newest cycle seen
        self._seen: dict[int, set[str]] = {}  # page -> names, of the newest cycle

    def read(self, beat: Beat, mine: Mapping[str, Known]) -> Findings:
        """Compare one page with what this reader holds. Pages of older cycles are ignored."""
        if beat.cycle < self.cycle:
            return Findings()
        if beat.cycle > self.cycle:
            self.cycle, self._seen = beat.cycle, {}
        self._seen[beat.page] = {entry.sequence for entry in beat.digest}
        return Findings(
            unknown=tuple(e.sequence for e in beat.digest if not e.done and e.sequence not in mine),
            behind=tuple(_behind(beat.digest, mine)),
            gone=self._gone(beat.pages, mine),
        )

    def _gone(self, expected_pages: int, mine: Mapping[str, Known]) -> tuple[str, ...]:
        if len(self._seen) < expected_pages:
            return ()
        listed = set().union(*self._seen.values())
        # A cycle "began after" an opening only if one more cycle lies between: the next one may already have been
        # under way when the sequence was opened, and its pages may arrive late.
        return tuple(name for name, known in mine.items() if name not in listed and self.cycle >= known.opened_in + 2)


def _behind(digest: Iterable[DigestEntry], mine: Mapping[str, Known]) -> Iterable[str]:
    for entry in digest:
        known = mine.get(entry.sequence)
        if known is not None and (known.version < entry.version or known.length < entry.length):
            yield entry.sequence
