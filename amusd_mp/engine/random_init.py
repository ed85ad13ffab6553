"""Weights for a model that is not trained: seeded, the same on every machine, and with varied greedy text.

Transformers' own initialisation is so small that the residual stream is the embedding of the last token; with tied
embeddings the model then repeats that token for ever and any two decoders agree. Here every layer writes more into the
stream than the embedding did, so the next token depends on all of the context. Such a model is a draft that guesses
badly (`random:bundled:draft`), and the subject of exactness tests.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

_EMBEDDING = 0.02  # against about 1 that each layer adds
_GAIN = 3.0  # of matrices over 1 / sqrt(inputs): attention gets uneven, so layers do not average the context out


def randomize(net: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Overwrite all parameters in place from `seed`, and return the model. Its dtype and device stay.

    Embeddings are small normals, matrices normals scaled by their fan-in, biases small normals; norms stay as built.
    """
    generator = torch.Generator().manual_seed(seed)
    embeddings = {id(module.weight) for module in net.modules() if isinstance(module, nn.Embedding)}
    done: set[int] = set()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if id(parameter) in done:  # tied
                continue
            done.add(id(parameter))
            if parameter.dim() >= 2:
                scale = _EMBEDDING if id(parameter) in embeddings else _GAIN * parameter.shape[-1] ** -0.5
            elif name.endswith("bias"):
                scale = 0.1
            else:
                continue
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float32) * scale
            parameter.copy_(drawn)
    return net
