"""The verify node's front desk: what a client may ask, checked, admitted once, and looked up again.

It turns requests into sequences of the core. It knows tokens, no transport and no device; what becomes of texts is the
reader's. Every refusal names the parameter at fault and the remedy.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace

from amusd_mp.core.ledger import Ledger, Refusal
from amusd_mp.core.limits import BEAT, LIVENESS, LOOKAHEAD_MAX, REQUEST_TIMEOUT
from amusd_mp.core.messages import (
    Cancel,
    Cancelled,
    Committed,
    Detokenize,
    ErrorCode,
    Finish,
    Message,
    Opened,
    Origin,
    Renew,
    Renewed,
    Reply,
    Submit,
    Submitted,
    Sync,
    SyncPage,
    Tokenize,
    sequence_topic,
)
from amusd_mp.core.model import ModelCard, Tokenizer
from amusd_mp.core.output import Output
from amusd_mp.core.params import Speculation, problem
from amusd_mp.core.verify import VerifyCore
from amusd_mp.core.verify_sequence import VerifySequence
from amusd_mp.reader import RETRY_AFTER, Reader
from amusd_mp.runtime import Runtime

log = logging.getLogger(__name__)

Publish = Callable[[VerifySequence, Opened | Committed], None]


class Desk:
    """Admits, finds and ends sequences. `publish` is told what their subscribers should know."""

    def __init__(
        self,
        core: VerifyCore,
        card: ModelCard,
        tokenizer: Tokenizer,
        runtime: Runtime,
        *,
        speculation: Speculation,
        publish: Publish,
        on_work: Callable[[], None],
    ) -> None:
        self.ledger = Ledger()
        self.finished = 0
        self.output_tokens = 0
        self.draining = False  # then what was admitted is found again, and nothing new is admitted
        self._core = core
        self._card = card
        self._tokenizer = tokenizer
        self._runtime = runtime
        self._speculation = speculation
        self._publish = publish
        self._on_work = on_work
        self._reader = Reader(tokenizer, card, runtime, core.free_rows)
        self._arriving: dict[str, asyncio.Future[None]] = {}
        self._last_end = float("-inf")  # when a response last ended in a drain, or was asked for

    def __repr__(self) -> str:
        return f"<Desk {len(self._core.live)} live, {self.finished} finished>"

    async def answer(self, request: Message) -> Reply:
        """Answer what clients and drafts ask about sequences. Raises Refusal."""
        match request:
            case Submit():
                return await self.submit(request)
            case Sync():
                return self.sync(request)
            case Renew():
                return self.renew(request)
            case Cancel():
                return self.cancel(request)
            case Tokenize():
                return await self._reader.tokenize(request)
            case Detokenize():
                return await self._reader.detokenize(request)
            case _:
                raise Refusal(ErrorCode.MALFORMED, f"{type(request).__name__} is not a request")

    async def submit(self, submit: Submit) -> Submitted:
        """Admit a request, or find what an earlier copy of it made. Raises Refusal."""
        while (arriving := self._arriving.get(submit.sequence)) is not None:
            await asyncio.shield(arriving)  # a copy is being tokenized; what it makes is what this one asks for
        sequence = self.ledger.recall(submit)
        if sequence is None:
            self._check(submit)
            done = self._arriving[submit.sequence] = asyncio.get_running_loop().create_future()
            try:
                prompt = await self._reader.encode(submit)
                sequence = self._admit(submit, prompt)
            finally:
                del self._arriving[submit.sequence]
                done.set_result(None)
        topic = sequence_topic(sequence.client, sequence.name)
        own = prompt_hash(sequence.ids[: sequence.prompt_length])
        return Submitted(sequence.name, sequence.prompt_length, topic, own)

    def sync(self, sync: Sync) -> SyncPage:
        """Return a sequence's state from a position on. Raises Refusal for an unknown one."""
        page = self.ledger.find(sync.sequence).page(sync.start)
        if self.draining:
            self._last_end = self._runtime.now()
        return page

    def renew(self, renew: Renew) -> Renewed:
        """Extend leases."""
        return Renewed(self.ledger.renew(renew.sequences, self._runtime.now()))

    def cancel(self, cancel: Cancel) -> Cancelled:
        """End a sequence; of an unknown one remember that it must not begin."""
        if cancel.sequence not in self.ledger.entries:
            self.ledger.bury(cancel.sequence, self._runtime.now())
            return Cancelled(known=False)
        return Cancelled(known=self.end(cancel.sequence, Finish.CANCELLED))

    def end(self, name: str, finish: Finish) -> bool:
        """End a live sequence and publish its end. Return whether it was live."""
        sequence = self._core.live.get(name)
        last = self._core.close(name, finish, self._runtime.now())
        if sequence is None or last is None:
            return False
        self._publish(sequence, last)
        self.count(sequence)
        self._on_work()
        return True

    def end_all(self, finish: Finish) -> None:
        """End every live sequence, and admit none from now on."""
        self.draining = True
        for name in list(self._core.live):
            self.end(name, finish)

    async def answer_arriving(self) -> None:
        """Wait until every request that is being tokenized has its answer, a refusal once this node drains."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                while self._arriving:
                    await asyncio.wait(list(self._arriving.values()))
                    await asyncio.sleep(0)  # copies of a request learn of its end when this does, and answer next
        except TimeoutError:
            log.warning("%d requests are still being tokenized, and get no answer", len(self._arriving))

    async def linger(self) -> None:
        """Wait until nobody is likely to ask any more for the end of what was finished in a drain.

        Whoever missed that learns of it by the next beat, and asks; so two beats without a question are enough, and
        the liveness time is in any case.
        """
        latest = self._runtime.now() + LIVENESS
        while (left := min(self._last_end + 2 * BEAT, latest) - self._runtime.now()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)

    def expire(self) -> list[str]:
        """End the sequences whose clients fell silent and return their names."""
        names = self.ledger.expired(self._runtime.now())
        for name in names:
            self.end(name, Finish.CANCELLED)
        return names

    def count(self, sequence: VerifySequence) -> None:
        """Add a finished sequence to the totals."""
        self.finished += 1
        self.output_tokens += sequence.generated
        if self.draining:
            self._last_end = self._runtime.now()

    def read(self, name: str, tokens: tuple[int, ...]) -> str:
        """Return how guessed tokens of a live sequence read; "" for ids that are none."""
        sequence = self._core.live.get(name)
        known = all(token < self._card.fingerprint.vocabulary for token in tokens)
        return self._reader.read(sequence.ids, tokens) if sequence is not None and tokens and known else ""

    def close(self) -> None:
        """Release the tokenizer's thread."""
        self._reader.close()

    # ------------------------------------------------------------------------------------------ admission

    def _check(self, submit: Submit) -> None:
        wrong = problem(submit.params, self._card.fingerprint.vocabulary)
        if wrong is not None:
            raise Refusal(ErrorCode.INVALID, wrong[1], field=wrong[0])
        if submit.speculation is not None and not 1 <= submit.speculation.lookahead <= LOOKAHEAD_MAX:
            raise Refusal(ErrorCode.INVALID, f"lookahead must lie between 1 and {LOOKAHEAD_MAX}", field="lookahead")
        self._check_room()

    def _check_room(self) -> None:
        if self.draining:
            raise Refusal(ErrorCode.NOT_READY, "this node is draining and takes no new request")
        if not self._core.room:
            raise Refusal(
                ErrorCode.BUSY,
                f"all {len(self._core.live)} sequences this node holds at once are taken (max_sequences)",
                retry_after=RETRY_AFTER,
            )

    def _admit(self, submit: Submit, prompt: tuple[int, ...]) -> VerifySequence:
        self._reader.check("prompt", prompt)
        self._reader.check("resumed", submit.resumed)
        if not prompt:
            raise Refusal(ErrorCode.INVALID, "the prompt is empty", field="prompt")
        most = self._card.max_length - 1
        if len(prompt) + len(submit.resumed) > most:
            raise Refusal(
                ErrorCode.INVALID,
                f"the prompt has {len(prompt)} tokens, but {self._card.name} takes at most {most} here"
                " (max_length, less one to generate)",
                field="prompt",
            )
        if submit.sequence in self.ledger.tombstones:  # cancelled while it was being tokenized
            raise Refusal(ErrorCode.CANCELLED, f"request {submit.sequence} was cancelled")
        self._check_room()
        now = self._runtime.now()
        sequence = self._sequence(submit, prompt, now)
        self._core.open(sequence)
        self.ledger.admit(submit, sequence, now)
        self._publish(sequence, Opened(sequence.name, sequence.prompt_length, prompt_hash(prompt)))
        self._resume(sequence, submit.resumed)
        self._on_work()
        return sequence

    def _sequence(self, submit: Submit, prompt: tuple[int, ...], now: float) -> VerifySequence:
        room = self._card.max_length - len(prompt)
        asked = submit.params.max_tokens
        most = room if asked is None else min(asked, room)
        params = replace(submit.params, max_tokens=most, min_tokens=min(submit.params.min_tokens, most))
        output = Output(params, self._tokenizer.detokenizer(prompt), self._card.eos_ids, params.max_tokens or room)
        return VerifySequence(
            name=submit.sequence,
            client=submit.client,
            params=params,
            speculation=submit.speculation or self._speculation,
            ids=list(prompt),
            prompt_length=len(prompt),
            max_length=self._card.max_length,
            output=output,
            opened=now,
            read=self._reader.read if submit.show_rejected else None,
        )

    def _resume(self, sequence: VerifySequence, resumed: tuple[int, ...]) -> None:
        """Take over the output that an earlier life of the request had already got."""
        for token in resumed:
            finish = sequence.append(token, Origin.ALONE)
            sequence.resumed += 1
            if finish is not None:
                self.end(sequence.name, finish)
                return


def prompt_hash(ids: Sequence[int]) -> str:
    """Return 16 hex digits that tell prompts apart."""
    return hashlib.blake2b(array("I", ids).tobytes(), digest_size=8).hexdigest()
