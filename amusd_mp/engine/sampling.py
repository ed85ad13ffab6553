"""The one place where logits become tokens: the model's own next token for every wanted position.

Each block brings its request's parameters, the absolute position of every token to choose, and that token's history:
the ids of its row up to the block and its ancestors within the block. Rules that read history or positions (penalties,
biases, the shared noise of coupled sampling, log probabilities) belong into `choose`, between the cut to the
vocabulary and the maximum, so that both nodes apply them in the same order. Today the rule is greedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block, Picked
from amusd_mp.engine.rows import ancestors, depths, is_chain
from amusd_mp.errors import RequestError


@dataclass(frozen=True, slots=True)
class Wanted:
    """The wanted tokens of one block. `held` are the ids in its row; those before `block.start` belong to it."""

    block: Block
    held: Sequence[int]

    def position(self, pick: int) -> int:
        """Return the absolute position of the token that pick 0 .. picks - 1 chooses."""
        at = len(self.block.tokens) - self.block.picks + pick
        if self.block.parents is None:
            return self.block.start + at + 1
        return self.block.start + depths(self.block.parents)[at] + 1

    def history(self, pick: int) -> list[int]:
        """Return every id before that token, the prompt first."""
        block = self.block
        at = len(block.tokens) - block.picks + pick
        if block.parents is None or is_chain(block):
            within = list(block.tokens[: at + 1])
        else:
            within = [block.tokens[token] for token in ancestors(block.parents, at)]
        return [*self.held[: block.start], *within]


def refusal(params: GenerationParams) -> str | None:
    """Return the first parameter whose value `choose` cannot honour yet, None if all are fine."""
    # Written out, because it runs for every block of every step.
    if params.temperature:
        return "temperature"
    if params.presence_penalty:
        return "presence_penalty"
    if params.frequency_penalty:
        return "frequency_penalty"
    if params.repetition_penalty != 1:
        return "repetition_penalty"
    if params.logit_bias:
        return "logit_bias"
    if params.logprobs is not None:
        return "logprobs"
    return None


def choose(logits: Tensor, wanted: Sequence[Wanted], vocabulary: int) -> list[Picked]:
    """Return one `Picked` per block.

    logits:     [n, padded vocabulary], n = all wanted positions, block after block
    vocabulary: ids from here on are padding of the model's table and never chosen

    Raises RequestError for parameters it cannot honour. Ties go to the lowest id. One copy to the host per call.
    """
    for want in wanted:
        name = refusal(want.block.params)
        if name is not None:
            raise RequestError(f"{name}={getattr(want.block.params, name)!r} is not supported", parameter=name)
    if logits.shape[1] > vocabulary:
        logits = logits[:, :vocabulary]
    # The first of equals, so the lowest id. Unlike argmax, max over a dimension is fast on a CPU too.
    ids: list[int] = logits.max(dim=-1).indices.tolist()
    picked, at = [], 0
    for want in wanted:
        picked.append(Picked(tuple(ids[at : at + want.block.picks])))
        at += want.block.picks
    return picked
