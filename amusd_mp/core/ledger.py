"""Who asked for what: idempotent submits, leases, tombstones and finished sequences, for one verify node.

A sequence's name *is* its request's id, so a retried submit finds what the first one made. What ended stays readable
for a while; an id cancelled before it arrived stays refused for as long; so no late retry can bring anything back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from amusd_mp.core.limits import KEPT_SEQUENCES, LEASE, RETAIN
from amusd_mp.core.messages import DigestEntry, ErrorCode, ErrorReply, Submit
from amusd_mp.core.verify_sequence import VerifySequence


class Refusal(Exception):
    """A request that gets an `ErrorReply` for an answer."""

    def __init__(self, code: ErrorCode, message: str, **fields: str | float) -> None:
        super().__init__(message)
        self.reply = replace(ErrorReply(code, message), **fields)  # type: ignore[arg-type]


@dataclass(slots=True)
class Entry:
    """One admitted request. `lease` ends it if its client falls silent; `until` is set once it has finished."""

    submit: Submit
    sequence: VerifySequence
    lease: float
    until: float | None = None


class Ledger:
    """Every request of the last minute. Times in seconds of one monotonic clock."""

    def __init__(self, lease: float = LEASE, retain: float = RETAIN) -> None:
        self.entries: dict[str, Entry] = {}
        self.tombstones: dict[str, float] = {}
        self._lease = lease
        self._retain = retain
        self._looked: float | None = None

    def recall(self, submit: Submit) -> VerifySequence | None:
        """Return what an earlier copy of this submit made, None if it is new. Raises Refusal if it may not run."""
        if submit.sequence in self.tombstones:
            raise Refusal(ErrorCode.CANCELLED, f"request {submit.sequence} was cancelled before it arrived")
        entry = self.entries.get(submit.sequence)
        if entry is None:
            return None
        if entry.submit != submit:
            raise Refusal(ErrorCode.CONFLICT, f"request id {submit.sequence} was already used for another request")
        return entry.sequence

    def admit(self, submit: Submit, sequence: VerifySequence, now: float) -> None:
        """Remember an admitted request and start its lease."""
        self.entries[submit.sequence] = Entry(submit, sequence, now + self._lease)

    def find(self, name: str) -> VerifySequence:
        """Return a live or just finished sequence. Raises Refusal for an unknown one."""
        entry = self.entries.get(name)
        if entry is None:
            raise Refusal(ErrorCode.UNKNOWN, f"no sequence {name} (ended over {self._retain:g} s ago, or never was)")
        return entry.sequence

    def renew(self, names: Iterable[str], now: float) -> tuple[str, ...]:
        """Extend leases and return the names that are unknown here."""
        unknown = []
        for name in names:
            entry = self.entries.get(name)
            if entry is None:
                unknown.append(name)
            else:
                entry.lease = now + self._lease
        return tuple(unknown)

    def bury(self, name: str, now: float) -> None:
        """Remember that an id unknown here was cancelled, so that its submit is refused should it still arrive."""
        self.tombstones[name] = now + self._retain
        if len(self.tombstones) > KEPT_SEQUENCES:  # nobody honest cancels so many; what is let go ends by its lease
            del self.tombstones[next(iter(self.tombstones))]

    def expired(self, now: float) -> list[str]:
        """Forget what is too old and return the live sequences whose lease ran out.

        To be called every beat: a longer gap means this process itself was stopped, which is no client's fault, so all
        leases are extended by it.
        """
        gap = now - self._looked if self._looked is not None else 0.0
        self._looked = now
        stopped = gap if gap > self._lease / 4 else 0.0
        out: list[str] = []
        surplus = len(self.entries) - KEPT_SEQUENCES
        for name, entry in list(self.entries.items()):
            if entry.sequence.finish is not None:
                entry.until = entry.until if entry.until is not None else now + self._retain
                if now >= entry.until or surplus > 0:
                    del self.entries[name]
                    surplus -= 1
            else:
                entry.lease += stopped
                if now >= entry.lease:
                    out.append(name)
        for name in [name for name, until in self.tombstones.items() if now >= until]:
            del self.tombstones[name]
        return out

    def digest(self) -> list[DigestEntry]:
        """Return a line for every live and just finished sequence."""
        return [entry.sequence.digest() for entry in self.entries.values()]
