"""A causal language model behind the `Model` protocol: one forward pass per step, for all its blocks.

`SlotModel` joins the parts: rows (what is held), batch (what to compute), cache (where it lies), sampling (what comes
out). It computes on the thread that calls it, and knows nothing of speculation: a proposal is a block with several
picks, a rollback a block that starts earlier, a tree a block with parents.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from amusd_mp.core.limits import LOOKAHEAD, LOOKAHEAD_MAX
from amusd_mp.core.model import ModelCard
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import PREFILL_CHUNK, Block, Picked, Step, StepResult
from amusd_mp.engine.batch import Batcher
from amusd_mp.engine.cache import SlotCache, layer_count
from amusd_mp.engine.masks import Masks
from amusd_mp.engine.packing import packed
from amusd_mp.engine.rows import Rows
from amusd_mp.engine.sampling import choose
from amusd_mp.engine.wanted import Wanted

BUCKET: Final = 128
"""Slots shown to the attention come in multiples of this; what is shown too much is masked, and weighs nothing. sdpa's
rounding needs it, and a new shape may take a device time at first (on a CPU 3 to 7 ms of a step of 30, in bfloat16)."""

TIGHT_BUCKET: Final = 64
"""The same for a tight cache, whose width seldom changes; then it is copied (20 ms for 102 small layers of 8 rows)."""

SPREAD: Final = 0.4
"""What an empty place of packed blocks takes on a CPU, as part of what a token does: attention alone computes it (on a
core of an AMD EPYC, bfloat16, 102 small layers, eight rows of 320 slots: 0.56 of 1.4 ms; a GPU was not measured)."""

FREE: Final = 64
"""Tokens that should cost a GPU little more than one (not measured): it reads weights for longer than it computes with
them. Packing takes some launches per layer, so blocks padded to no more than this stay as they are there."""

DEAREST: Final = GenerationParams(temperature=1.0, top_p=0.9)
"""What takes most memory to choose by: noise, on what a sorted vocabulary leaves."""

ASKED: Final = (
    GenerationParams(),
    replace(
        DEAREST,
        min_tokens=2,
        top_k=1,
        min_p=0.1,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        repetition_penalty=1.1,
        logit_bias=((0, 0.1),),
        logprobs=1,
    ),
)
"""What a warm-up chooses by: the largest logit alone, and everything that a request may ask for."""


def free_tokens(device: torch.device) -> int:
    """Return how many padded tokens cost less than packing them would."""
    return 0 if device.type == "cpu" else FREE


class SlotModel:
    """Serves `rows` sequences of up to `card.max_length` tokens. Not thread-safe: one thread calls it."""

    def __init__(
        self,
        net: PreTrainedModel,
        card: ModelCard,
        rows: int,
        *,
        fixed_shapes: bool = False,
        pack_above: int | None = None,
        bucket: int | None = None,
        tight: bool | None = None,
    ) -> None:
        """Wrap a model that is in evaluation mode on its device, with its attention set. Takes no memory yet.

        `fixed_shapes` lets every pass have one of few shapes, whatever else is being served (`Batcher`). `pack_above`:
        the padded tokens up to which ragged blocks are not packed; `tight` and `bucket`: how the cache lies
        (`SlotCache`). Each, if not what suits the device.
        """
        self._net: PreTrainedModel | None = net
        self._card = card
        self._device = net.device
        self._vocabulary = card.fingerprint.vocabulary
        self._weights = {each.dtype for each in net.parameters()}
        # Only our attention rounds the same whatever the shape; sdpa needs shapes to come from a small set.
        few = fixed_shapes or card.attention != "slot"
        tight = not few and net.device.type == "cpu" if tight is None else tight
        bucket = bucket or (TIGHT_BUCKET if tight else BUCKET)
        self._cache = SlotCache(layer_count(net.config), rows, card.max_length, bucket=bucket, tight=tight)
        self._rows = Rows(rows, card.max_length, self._vocabulary)
        self._batcher = Batcher(
            Masks(net.config),
            self._cache.widest,
            net.device,
            min_block=4 if few else 1,
            fixed_rows=rows if fixed_shapes else 0,
            pack_above=None if few else free_tokens(net.device) if pack_above is None else pack_above,
            fill=tight,
        )
        self._cuts_logits = "logits_to_keep" in inspect.signature(type(net).forward).parameters

    def __repr__(self) -> str:
        return f"<SlotModel {self._card.name} on {self._card.device}, {self._card.dtype}, {self._rows!r}>"

    @property
    def card(self) -> ModelCard:
        return self._card

    @property
    def rows(self) -> int:
        return self._cache.rows

    @property
    def padding(self) -> float:
        if not self._batcher.packs:
            return 1.0
        return SPREAD if self._device.type == "cpu" else 0.0

    def held(self, row: int) -> tuple[int, ...]:
        """Return the ids whose keys and values the row holds, oldest first, of a tree its leading chain alone."""
        return tuple(self._rows.held(row))

    def run(self, step: Step) -> StepResult:
        """Run one forward pass and return the model's own next tokens.

        Raises RuntimeError for a block that does not fit what its row holds, and whatever the device raises.
        """
        began = time.perf_counter()
        with torch.inference_mode():
            logits = self._forward(step.blocks)
            if logits.shape[0]:
                picked = self._choose(step, logits)
            else:
                picked = [Picked(()) for _ in step.blocks]
                self._finish()
        return StepResult(step.number, tuple(picked), time.perf_counter() - began)

    def score(self, step: Step) -> Tensor:
        """Run one forward pass and return the logits to choose from: [n, padded vocabulary], block after block."""
        with torch.inference_mode():
            return self._forward(step.blocks)

    def warm_up(self, largest: bool | None = None) -> None:
        """Take the cache's memory, compute a token and a tree and choose behind both in every way, then forget.

        So no request has to wait until what it needs is initialised. Of a tight cache, which grows, only the first
        memory is taken. `largest`: the largest steps, too; None: where a device has memory of its own, so that what is
        too much for it is found now, and not by a request. Raises what the device raises.
        """
        if largest is None:
            largest = self._device.type != "cpu"
        fork = min(2, self._card.max_length)
        with torch.inference_mode():
            for block in (_idle(0, 0, 1, 1), replace(_idle(0, 0, fork, fork), parents=(-1,) * fork)):
                logits = self._pass((block,))
                for params in ASKED:
                    asked = (replace(block, params=params),)
                    self._choose(Step(0, asked), logits)
                    self._choose(Step(0, asked, confidence=True, runners_up=1), logits)  # as a draft is asked
            if largest:
                for blocks in self._largest():
                    self._choose(Step(0, blocks), self._pass(blocks))
            self._finish()

    def _largest(self) -> Iterator[tuple[Block, ...]]:
        """Yield the largest steps, at the end of full rows: of a prompt's chunk, and of leads.

        Every row has a lead of the usual length, or one row the longest that a request may ask for: attention pads all
        others to it. What `amusd` scores in several long rows comes on top; only its worth bounds that.
        """
        length = self._card.max_length

        def last(row: int, count: int, picks: int) -> Block:
            return replace(_idle(row, length - count, count, picks), params=DEAREST)

        chunk, few, many = (min(count, length) for count in (PREFILL_CHUNK, LOOKAHEAD + 1, LOOKAHEAD_MAX + 1))
        yield (last(0, chunk, 1),)
        yield tuple(last(row, few, few) for row in range(self.rows))
        yield (last(0, many, many), *(last(row, 1, 1) for row in range(1, self.rows)))

    def close(self) -> None:
        """Release the device's memory. Idempotent."""
        self._net = None
        self._cache.release()
        self._rows.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _forward(self, blocks: Sequence[Block]) -> Tensor:
        if self._net is None:
            raise RuntimeError(f"{self._card.name} is closed")
        if not blocks:
            return torch.empty(0, self._vocabulary)
        self._rows.check(blocks)
        logits = self._pass(blocks)
        for block in blocks:
            self._rows.fed(block)
        return logits

    def _pass(self, blocks: Sequence[Block]) -> Tensor:
        """Compute blocks, whatever their rows hold, and return the wanted logits."""
        assert self._net is not None
        stop = max(block.start + len(block.tokens) for block in blocks)
        shown = self._cache.fit(stop, self._rows.longest())
        batch = self._batcher.build(blocks, shown, self._cache.trash)
        self._cache.place = batch.place
        with packed(batch.place.packing):
            logits: Tensor = self._net(
                input_ids=batch.ids,
                position_ids=batch.positions,
                attention_mask=batch.mask,
                past_key_values=self._cache,
                use_cache=True,
                **({"logits_to_keep": batch.keep} if self._cuts_logits else {}),
            ).logits
        if isinstance(batch.keep, Tensor):
            return logits[0] if self._cuts_logits else logits[0, batch.keep]
        return _wanted(logits, blocks, batch.order, batch.keep)

    def _choose(self, step: Step, logits: Tensor) -> list[Picked]:
        """Return what a step's requests make of its logits."""
        wanted = [Wanted(block, self._rows.held(block.row)) for block in step.blocks]
        eos, confidence, runners_up = self._card.eos_ids, step.confidence, step.runners_up
        return choose(logits, wanted, self._vocabulary, eos, confidence, runners_up, self._weights)

    def _finish(self) -> None:
        """Wait for the device where nothing copied from it has done so."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _idle(row: int, start: int, count: int, picks: int) -> Block:
    """Return a block that nobody asked for, of `count` tokens with the next wanted behind the last `picks`."""
    return Block("warm-up", row, start, (0,) * count, picks, GenerationParams(), start)


def _wanted(logits: Tensor, blocks: Sequence[Block], order: Sequence[int], keep: int) -> Tensor:
    """Pick the wanted positions out of [b, q, v]: [n, v], in the order of the step's blocks."""
    _, q, v = logits.shape
    flat = logits.reshape(-1, v)
    if q == keep and all(block.picks == keep for block in blocks) and list(order) == list(range(len(blocks))):
        return flat
    at = [order[index] * q + q - back for index, block in enumerate(blocks) for back in range(block.picks, 0, -1)]
    return flat[at]
