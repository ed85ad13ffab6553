"""Linear layers for blocks of a few tokens, the shape that speculation adds.

**Packed.** On a CPU with AVX-512 BF16 in bfloat16, oneDNN multiplies by a weight that it has laid out for itself once;
the usual call has it laid out anew in every step. What comes out is the same, bit for bit. On one core of an AMD EPYC
with torch 2.13 it took, of the usual call's time, for 1, 4, 8, 16, 128 tokens

    weight  704 x 256     0.61, 0.53, 0.56, 0.58, 0.87
    weight  256 x 704     0.64, 0.54, 0.59, 0.59, 0.89
    weight 4096 x 1024    0.60, 0.50, 0.57, 0.61, 0.90
    weight   64 x 128     0.84, 0.85, 0.85, 0.86, 0.92

**Turned.** On a CPU with AVX2 in float32, a weight times a few columns is quicker than the same few rows times that
weight: the same products, called the other way round. On one core of an AMD EPYC with torch 2.13 (MKL) it took, of the
usual call's time, for 2, 3, 4, 5, 6, 8 tokens

    weight 2816 x 1024    0.85, 0.64, 0.65, 0.78, 1.00, 1.17
    weight 1024 x 2816    1.10, 0.78, 0.70, 0.91, 1.04, 1.09

and of a weight of 128 x 256 more than the usual time for any of them. Single tokens and longer blocks take the usual
way. So does everything on other processors, where neither was measured.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class SuitedLinear(nn.Linear):
    """An `nn.Linear` that is quicker somewhere. Make one with `of`."""

    DTYPE: ClassVar[torch.dtype]
    """The only type of weights that it was measured for; a model may keep single layers in another one."""

    LEAST: ClassVar[int]
    """Weights below which a layer stays as it is."""

    @classmethod
    def of(cls, layer: nn.Linear) -> Self:
        """Return one with a layer's own parameters: the same objects, but for what `_suit` replaces."""
        made = cls(layer.in_features, layer.out_features, device="meta")
        made.weight, made.bias = layer.weight, layer.bias
        made._suit()
        return made.train(layer.training)

    def _suit(self) -> None:
        """Prepare what `forward` needs of the parameters."""


class PackedLinear(SuitedLinear):
    """A linear layer whose weight lies as oneDNN wants it; nothing else can read that weight."""

    DTYPE = torch.bfloat16
    LEAST = 1 << 13  # of 32 x 64 one token takes five times as long as the usual way, which is not oneDNN's there

    def _suit(self) -> None:
        # One layout for all blocks: laid out for its number of tokens, none took less time.
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())
        self.weight = nn.Parameter(packed, requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return product


class TurnedLinear(SuitedLinear):
    """A linear layer that is quicker for blocks of a few tokens."""

    DTYPE = torch.float32
    LEAST = 1 << 16  # 256 x 256 gains with four tokens, 128 x 256 with none

    MOST: ClassVar[int] = 5
    """Tokens up to which a block goes the other way round."""

    least: int
    """Tokens from which a block goes the other way round: two pay only where more comes out than goes in."""

    def _suit(self) -> None:
        self.least = 2 if self.out_features > self.in_features else 3

    def forward(self, input: Tensor) -> Tensor:
        if self.least <= input.numel() // self.in_features <= self.MOST:
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


def suited(device: torch.device, dtype: torch.dtype) -> type[SuitedLinear] | None:
    """Return the kind of layer that is quicker there than the usual one, None where none was measured to be."""
    if device.type != "cpu":
        return None
    capability = torch.backends.cpu.get_cpu_capability()
    if dtype == TurnedLinear.DTYPE and capability == "AVX2":
        return TurnedLinear
    if dtype == PackedLinear.DTYPE and capability == "AVX512" and _packs():
        return PackedLinear
    return None


def _packs() -> bool:
    """Return whether this processor multiplies bfloat16, and this torch has what packs weights: private to it."""
    cpu: Any = torch.cpu
    backend: Any = torch.backends.mkldnn
    kernels = torch.ops.mkldnn
    known = getattr(cpu, "_is_avx512_bf16_supported", lambda: False)
    return (
        bool(backend.is_available() and known())
        and hasattr(kernels, "_reorder_linear_weight")
        and hasattr(kernels, "_linear_pointwise")
    )


def suit(net: nn.Module, kind: type[SuitedLinear]) -> None:
    """Replace a model's linear layers by ones of a kind, in place. Only plain and large ones of its type."""
    plain = [(path, module.weight) for path, module in net.named_modules() if type(module) is nn.Linear]
    paths = [path for path, weight in plain if weight.dtype == kind.DTYPE and weight.numel() >= kind.LEAST]
    del plain  # else all old weights would live until the last new one is made: twice the model's memory
    for path in paths:
        layer = net.get_submodule(path)
        assert isinstance(layer, nn.Linear)
        net.set_submodule(path, kind.of(layer))
