"""The draft node's follower: commits are taken in, what is missing is fetched, what is gone is dropped.

The counterpart of the verify node's desk. Publications may be lost and overtake each other; what they leave out shows
in a commit that does not join, or in the next digest, and is asked for page by page. Nothing that an honest verify node
would not send reaches the draft's state, or its device.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from amusd_mp.core import limits
from amusd_mp.core.digest import DigestReader, Known
from amusd_mp.core.draft import DraftCore
from amusd_mp.core.messages import Beat, Committed, Sync, SyncPage
from amusd_mp.core.params import problem
from amusd_mp.core.replica import Contradiction, Replica
from amusd_mp.errors import AmusdError, ProtocolError, SequenceLost
from amusd_mp.session.link import Link

log = logging.getLogger(__name__)


class Follower:
    """Keeps the sequences of `core`, a draft's, those of the verify node at the other end of `link`.

    vocabulary: ids from which on a token is not the draft model's
    on_work:    called when there may be something to guess
    """

    def __init__(self, core: DraftCore, link: Link, vocabulary: int, on_work: Callable[[], None]) -> None:
        self._core = core
        self._link = link
        self._vocabulary = vocabulary
        self._on_work = on_work
        self._digest = DigestReader()
        self._opened_in: dict[str, int] = {}  # sequence -> digest cycle at which it was opened here
        self._wanted: dict[str, None] = {}  # sequences to fetch, in order of asking
        self._asked = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Follower of {len(self._core.sequences)} sequences, {len(self._wanted)} to fetch>"

    # ------------------------------------------------------------------------------------------ what is heard

    def commit(self, window: Committed) -> bool:
        """Take a commit in; return whether it can be one of this model's."""
        if not self._readable(window.tokens):
            return False
        try:
            if self._core.commit(window):
                self.want(window.sequence)
        except Contradiction as error:
            self._start_over(window.sequence, error)
        self._on_work()
        return True

    def compare(self, beat: Beat) -> None:
        """Read a digest: fetch what is unknown or lags, drop what is gone or done."""
        mine = {
            name: Known(sequence.replica.version, sequence.replica.length, self._opened_in.get(name, 0))
            for name, sequence in self._core.sequences.items()
        }
        found = self._digest.read(beat, mine)
        for name in (*found.unknown, *found.behind):
            self.want(name)
        ended = [*found.gone, *(entry.sequence for entry in beat.digest if entry.done)]
        for name in ended:
            self._forget(name)
        if not mine.keys().isdisjoint(ended):
            self._on_work()  # a row may be free

    def want(self, name: str) -> None:
        """Have a sequence fetched, or what it lacks; `run` does it."""
        if len(self._wanted) < limits.KEPT_SEQUENCES:  # what is left out now stands in the next digest
            self._wanted[name] = None
        self._asked.set()

    def forget_all(self) -> None:
        """The verify node is silent or in another life: its sequences mean nothing any more."""
        self._core.close_all()
        self._opened_in.clear()
        self._wanted.clear()
        self._digest = DigestReader()

    def _forget(self, name: str) -> None:
        self._core.close(name)
        self._opened_in.pop(name, None)
        self._wanted.pop(name, None)

    def _start_over(self, name: str, error: Contradiction) -> None:
        log.error("%s; starting over with this sequence", error)
        self._forget(name)

    def _readable(self, tokens: tuple[int, ...]) -> bool:
        """Return whether all ids are this model's: others would be the end of its device's context."""
        readable = max(tokens, default=0) < self._vocabulary
        if not readable:
            self._link.counters.add("foreign_ids")
        return readable

    # ------------------------------------------------------------------------------------------ fetching

    async def run(self) -> None:
        """Fetch what is wanted, one sequence after the other, for ever."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._wanted:
                name = next(iter(self._wanted))
                del self._wanted[name]
                try:
                    await self.fetch(name)
                except Contradiction as error:
                    self._start_over(name, error)
                except SequenceLost as error:  # ended, or in a life that has: the next digest says what is true
                    log.debug("sequence %s: not fetched: %s", name, error)
                except AmusdError as error:  # refused, unreachable, or no page of it
                    self._link.counters.add("not_fetched", f"{name}, {error}")

    async def fetch(self, name: str) -> None:
        """Ask for all that is not known of a sequence, and open it.

        Raises ProtocolError for pages that cannot be its own, Contradiction where they disagree with what is known, and
        what `Link.call` raises.
        """
        life = self._link.verify
        known = self._core.sequences.get(name)
        replica = known.replica if known is not None else None
        while True:
            start = replica.length if replica is not None else 0
            page = await self._link.call(Sync(name, life, start), SyncPage)
            if self._link.verify != life:
                return
            self._check(name, page)
            if replica is None:
                replica = Replica(page.prompt_length)
            news = replica.merge(page)
            if replica.length >= page.length:
                break
            if not news.tokens:
                raise ProtocolError(f"a page of sequence {name} brings nothing, and is not the last")
        self._opened_in.setdefault(name, self._digest.cycle)
        self._core.open(page, replica)
        if replica.complete:
            self._forget(name)
        self._on_work()

    def _check(self, name: str, page: SyncPage) -> None:
        """Raise ProtocolError for a page that no honest verify node sends, before anything of it reaches the device."""
        limit = self._link.welcome.model.max_length if self._link.welcome is not None else 0
        known = self._readable(page.tokens) and problem(page.params, self._vocabulary) is None
        if page.sequence != name or not known or not 1 <= page.prompt_length <= page.length <= limit:
            raise ProtocolError(f"the page of sequence {name} cannot be its own")
        if name not in self._core.sequences and len(self._core.sequences) >= limits.KEPT_SEQUENCES:
            raise ProtocolError(f"over {limits.KEPT_SEQUENCES} sequences at once")
