"""The guard: what a proven key may ask and publish, checked each time, not only at the handshake.

Without an allow-list it lets everything pass, as before there were keys. With one, whoever has no proven key may
nothing, whatever it says of itself in a message: node names and incarnations are claims, keys are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from amusd_mp.config import Deployment
from amusd_mp.core.ledger import Refusal
from amusd_mp.core.messages import (
    Cancel,
    Detokenize,
    Drain,
    Envelope,
    ErrorCode,
    Hello,
    Message,
    Renew,
    StatusRequest,
    Submit,
    Sync,
    Tokenize,
    Watch,
)
from amusd_mp.errors import ConfigError
from amusd_mp.security.allow import ROLES, AllowFile, Changed
from amusd_mp.security.keys import read
from amusd_mp.transport import Credentials, TransportOptions

ANYBODY: Final = frozenset(ROLES)
CLIENT: Final = frozenset({"client"})
MAY: Final[Mapping[type, frozenset[str]]] = {
    StatusRequest: ANYBODY,
    Watch: ANYBODY,
    Sync: frozenset({"client", "draft"}),
    Submit: CLIENT,
    Renew: CLIENT,
    Cancel: CLIENT,
    Tokenize: CLIENT,
    Detokenize: CLIENT,
    Drain: CLIENT,
}
"""Which roles may send a request. One that is not listed is anybody's wish and nobody's right."""

OWNED: Final = 65536
"""Sequences of one key that are remembered: far more than a node holds, live and finished together. For each key by
itself, so that nobody can have it forgotten whose the sequences of others are."""


class Guard:
    """Holds peers to the roles of their keys. `file` is None where no keys are configured."""

    def __init__(self, file: AllowFile | None = None, own: Credentials | None = None) -> None:
        self._file = file
        self._own = own
        self._owners: dict[str, str] = {}  # sequence -> key that submitted it
        self._owned: dict[str, dict[str, None]] = {}  # the same by key, in order

    def __repr__(self) -> str:
        return f"<Guard {self._file or 'of an open door'}>"

    @classmethod
    def of(cls, deployment: Deployment, name: str) -> Guard:
        """Return the guard of a listening node. Raises ConfigError for unusable files and a key that is not pinned."""
        security, config = deployment.security, deployment.node(name)
        if security.server_key is None or security.allow is None or config.key is None:
            return cls()  # the rules of a deployment see to it that all three are there, or none
        keys = read(Path(config.key))
        if keys.public != security.server_key:
            raise ConfigError(
                f"nodes.{name}.key: the public key of {config.key} is {keys.public}, and security.server_key tells"
                f" everybody to expect {security.server_key}",
                key=f"nodes.{name}.key",
            )
        file = AllowFile(Path(security.allow))
        return cls(file, Credentials(keys, admits=lambda key: bool(file.now.roles(key))))

    @property
    def options(self) -> TransportOptions:
        """What the node listens with."""
        return TransportOptions(credentials=self._own)

    async def watch(self, on_change: Changed) -> None:
        """Tell which keys lost a role whenever the allow-list changes, until cancelled. Returns if there is none."""
        if self._file is not None:
            await self._file.watch(on_change)

    def check(self, envelope: Envelope, key: str | None) -> None:
        """Raise Refusal unless the holder of `key` may send this request."""
        if self._file is None:
            return
        body = envelope.body
        wanted = covering(body.role) if isinstance(body, Hello) else MAY.get(type(body), frozenset())
        has = self._file.now.roles(key)
        if not has & wanted:
            what = f"say hello as {body.role}" if isinstance(body, Hello) else word(body)
            raise Refusal(ErrorCode.FORBIDDEN, self._refusal(envelope.node, key, has, what, wanted))
        if isinstance(body, Cancel) and self._owners.get(body.sequence, key) != key:
            raise Refusal(ErrorCode.FORBIDDEN, f"sequence {body.sequence} was submitted with another key")

    def may_draft(self, key: str | None) -> bool:
        """Tell whether the holder of `key` may publish what drafts publish."""
        return self._file is None or "draft" in self._file.now.roles(key)

    def submitted(self, sequence: str, key: str | None) -> None:
        """Remember who submitted a sequence."""
        if self._file is None or key is None or sequence in self._owners:
            return
        theirs = self._owned.setdefault(key, {})
        self._owners[sequence], theirs[sequence] = key, None
        if len(theirs) > OWNED:
            oldest = next(iter(theirs))
            del theirs[oldest], self._owners[oldest]

    def disown(self, keys: frozenset[str]) -> list[str]:
        """Return the sequences that were submitted with one of these keys, and forget that they were."""
        theirs = [sequence for key in keys for sequence in self._owned.pop(key, ())]
        for sequence in theirs:
            del self._owners[sequence]
        return theirs

    def _refusal(self, node: str, key: str | None, has: frozenset[str], what: str, wanted: frozenset[str]) -> str:
        if self._file is None or key is None:
            return f"{node} has proven no key, and may not {what} here"
        party = self._file.now.parties.get(key)
        who = f"{party.name} (key {key})" if party is not None else f"the key {key}"
        needed = " or ".join(role for role in ROLES if role in wanted) or "none that exists"
        return f"{who} has the role {', '.join(sorted(has)) or 'none'} and may not {what}; that takes the role {needed}"


def covering(role: str) -> frozenset[str]:
    """Return the roles of a key that allow a hello as `role`: its own, and whoever may do more may also observe."""
    if role not in ROLES:
        return frozenset()
    return ANYBODY if role == "observer" else frozenset({role})


def word(body: Message) -> str:
    """Return what a request wants, as a verb."""
    return {StatusRequest: "ask for the status", Watch: "watch steps"}.get(type(body), type(body).__name__.lower())
