"""A causal language model behind the `Model` protocol: one forward pass per step, for all its blocks.

`SlotModel` joins the parts: rows (what is held), batch (what to compute), cache (where it lies), sampling (what comes
out). It computes on the thread that calls it, and knows nothing of speculation: a proposal is a block with several
picks, a rollback a block that starts earlier, a tree a block with parents.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from amusd_mp.core.limits import LOOKAHEAD
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
        """Return the ids whose keys and values the row holds, oldest first, without an unkept tree."""
        return tuple(self._rows.held(row))

    def run(self, step: Step) -> StepResult:
        """Run one forward pass and return the model's own next tokens.

        Raises RuntimeError for a block that does not fit what its row holds, and whatever the device raises.
        """
        began = time.perf_counter()
        with torch.inference_mode():
            logits = self._forward(step.blocks)
            if logits.shape[0]:
                wanted = [Wanted(block, self._rows.held(block.row)) for block in step.blocks]
                picked = choose(logits, wanted, self._vocabulary, self._card.eos_ids, step.confidence, step.runners_up)
            else:
                picked = [Picked(()) for _ in step.blocks]
                self._finish()
        return StepResult(step.number, tuple(picked), time.perf_counter() - began)

    def score(self, step: Step) -> Tensor:
        """Run one forward pass and return the logits to choose from: [n, padded vocabulary], block after block."""
        with torch.inference_mode():
            return self._forward(step.blocks)

    def keep(self, row: int, start: int, path: Sequence[int]) -> None:
        """Go on from one path of the tree that was fed at `start`; the others are forgotten.

        `path` are indices into the tree's tokens from a child of the prefix downwards; empty keeps nothing of it.
        Afterwards the row holds positions 0 .. start + len(path) - 1. Raises RuntimeError if there is no such path.
        """
        sources = self._rows.keep(row, start, path)
        if sources != list(range(start, start + len(sources))):
            with torch.inference_mode():
                self._cache.move(row, sources, start)

    def warm_up(self, largest: bool | None = None) -> None:
        """Take the cache's memory and run every lazy initialisation, then forget. Raises what the device raises.

        Of a tight cache, which grows, it is only the first that is taken.
        `largest`: compute the steps that need most memory beside it, too; None: where a device has memory of its own,
        so that what is too much for it is found now, and not by the first long prompt.
        """
        if largest is None:
            largest = self._device.type != "cpu"
        steps: list[tuple[Block, ...]] = [(_idle(0, 0, 1, 1),)]
        if largest:
            length = self._card.max_length
            chunk, few = min(PREFILL_CHUNK, length), min(LOOKAHEAD + 1, length)
            steps += [(_idle(0, length - chunk, chunk, 1),)]
            steps += [tuple(_idle(row, length - few, few, few) for row in range(self.rows))]
        with torch.inference_mode():
            for blocks in steps:
                self._pass(blocks)
            self._finish()

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
