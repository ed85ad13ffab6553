"""A large model without a download: layers that cost what a layer costs and change nothing.

A decoder layer adds two things to the residual stream, what its attention and what its feed-forward part put out. In a
copy of a layer whose output projections are zero both are zero, so the copy is the identity, bit for bit and in every
dtype, while its matrices, its cache and its kernels cost what the original's do. A small trained pair keeps its real
acceptance on real text and gets the step times of a large one. For benchmarks alone, and always labelled: the model's
name says it (`padded_name`), and so does everything that prints the name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from amusd_mp.engine.cache import layer_count
from amusd_mp.errors import ModelError

OUTPUTS: Final = frozenset({"o_proj", "out_proj", "down_proj", "c_proj", "fc2", "dense", "dense_4h_to_h", "w2"})
"""What models call a projection into the residual stream. A name too few is found by comparing, and refused."""

PROBE: Final = 8
"""Tokens of the pass that is compared before and after."""


def padded_name(name: str, layers: int) -> str:
    """Return the name under which a padded model is shown everywhere."""
    return f"{name} (padded by {layers} layers)" if layers else name


def pad(net: PreTrainedModel, layers: int, name: str) -> PreTrainedModel:
    """Append `layers` copies of the last decoder layer with zero output projections, in place, and return the model.

    Raises ModelError where that does not leave its function exactly as it was, or its layers cannot be found.
    """
    if not layers:
        return net
    stack = _stack(net, name)
    before = _probe(net)
    text: Any = net.config.get_text_config(decoder=True)
    types = getattr(text, "layer_types", None)
    for _ in range(layers):
        stack.append(_identity(stack[-1], len(stack)))
    text.num_hidden_layers = len(stack)
    if types:
        text.layer_types = [*types, *[types[-1]] * layers]
    if not torch.equal(before, _probe(net)):
        raise ModelError(
            f"{name} ({type(net).__name__}): pad_layers changes what it computes, so its layers cannot be padded",
            model=name,
        )
    return net


def _stack(net: PreTrainedModel, name: str) -> nn.ModuleList:
    """Return the list of decoder layers."""
    count = layer_count(net.config)
    for module in net.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ModelError(
        f"{name} ({type(net).__name__}): no list of {count} layers to add to; leave out pad_layers", model=name
    )


def _identity(layer: nn.Module, index: int) -> nn.Module:
    """Return a copy of a layer, with memory of its own, that puts nothing into the residual stream.

    The configuration is the original's: what is set there later, the attention for one, holds for the copy as well.
    """
    origin: Iterable[Any] = layer.modules()
    shared = {id(part.config): part.config for part in origin if hasattr(part, "config")}
    added = copy.deepcopy(layer, shared)
    parts: Iterable[Any] = added.modules()
    for part in parts:
        if hasattr(part, "layer_idx"):
            part.layer_idx = index  # its entry of the cache
    for path, parameter in added.named_parameters():
        if not OUTPUTS.isdisjoint(path.split(".")):  # a part's, or of all experts in one
            nn.init.zeros_(parameter)
    return added


def _probe(net: PreTrainedModel) -> Tensor:
    """Return the logits of a short plain pass."""
    embedding: Any = net.get_input_embeddings()
    ids = torch.arange(PROBE, device=net.device)[None] % int(embedding.weight.shape[0])
    with torch.inference_mode():
        logits: Tensor = net(input_ids=ids, use_cache=False).logits
    return logits
