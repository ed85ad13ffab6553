"""Who has said hello to a hub: one life of a draft, a client or an observer."""

from __future__ import annotations

from dataclasses import dataclass

from amusd_mp.core.messages import DraftStatus


def life_of(incarnation: str, key: str | None) -> str:
    """Return what tells one life from all others: its incarnation, and the key that it has proven.

    Incarnations are told to everybody, so by themselves they would be anybody's to claim.
    """
    return incarnation if key is None else f"{incarnation}/{key}"  # no incarnation has a slash in it


@dataclass(slots=True)
class Peer:
    """One life of one dialler. `joined` once something it published arrived: only then its line to us is live."""

    node: str
    incarnation: str
    role: str
    model: str  # not the whole card: what a stranger tells may be long
    device: str
    heard: float
    key: str | None = None  # what it has proven, not what it says
    joined: bool = False
    windows: int = 0

    @property
    def life(self) -> str:
        """What this node calls it: nobody else can be that."""
        return life_of(self.incarnation, self.key)

    @property
    def owner(self) -> tuple[str, str, str | None]:
        """What the lives of one node have in common."""
        return self.node, self.role, self.key

    def asked(self, now: float) -> None:
        """Take a request for a sign of life; not of a draft that publishes: it may ask on while that line is cut."""
        if not self.joined:
            self.heard = now

    def status(self, now: float, acceptance: float | None, rescued: float | None) -> DraftStatus:
        """Return what a status report says of this peer, a draft."""
        return DraftStatus(
            node=self.node,
            incarnation=self.incarnation,
            model=self.model,
            device=self.device,
            age=now - self.heard,
            windows=self.windows,
            acceptance=acceptance,
            rescued=rescued,
        )
