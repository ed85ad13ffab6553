"""Rule: linear layers for short blocks compute what the usual ones do, and no other layer becomes one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from amusd_mp.core.model import ModelSpec
from amusd_mp.engine.linear import MOST, BlockLinear, pays, suit
from amusd_mp.engine.loading import load

WIDE, NARROW = (256, 512), (512, 256)


def drawn(shape: tuple[int, int], bias: bool) -> nn.Linear:
    torch.manual_seed(7)
    return nn.Linear(*shape, bias=bias)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [WIDE, NARROW])
@pytest.mark.parametrize("tokens", range(MOST + 3))
def test_a_block_of_any_length_gives_what_the_usual_layer_gives(
    tokens: int, shape: tuple[int, int], bias: bool
) -> None:
    usual = drawn(shape, bias)
    block = BlockLinear.of(usual)
    for leading in ((tokens,), (1, tokens), (tokens, 1)):
        given = torch.randn(*leading, shape[0])
        found, wanted = block(given), usual(given)
        assert found.shape == wanted.shape
        assert found.is_contiguous()
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    strided = torch.randn(1, shape[0], tokens).transpose(1, 2)
    torch.testing.assert_close(block(strided), usual(strided), rtol=1e-5, atol=1e-5)


def test_short_blocks_go_the_other_way_round_and_only_those(monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[int] = []
    monkeypatch.setattr(BlockLinear, "_turned", lambda _, given: turned.append(given.shape[0]))
    for shape, expected in ((WIDE, [2, 3, 4, 5]), (NARROW, [3, 4, 5])):
        block = BlockLinear.of(drawn(shape, bias=False))
        turned.clear()
        for tokens in range(1, 10):
            block(torch.randn(tokens, shape[0]))
        assert turned == expected


class Odd(nn.Linear):
    """A layer that does something of its own."""


def test_large_plain_layers_are_replaced_with_their_own_parameters() -> None:
    net = nn.Sequential(nn.Linear(256, 256), nn.Linear(8, 8), Odd(256, 256), nn.Sequential(nn.Linear(512, 256)))
    parameters = list(net.parameters())
    suit(net)
    suit(net)
    assert [type(each) for each in net.modules() if isinstance(each, nn.Linear)] == [
        BlockLinear,
        nn.Linear,
        Odd,
        BlockLinear,
    ]
    assert [id(each) for each in net.parameters()] == [id(each) for each in parameters]


@pytest.mark.parametrize(
    ("capability", "dtype", "expected"),
    [("AVX2", torch.float32, True), ("AVX2", torch.bfloat16, False), ("AVX512", torch.float32, False)],
)
def test_it_is_done_only_where_it_was_measured_to_pay(
    capability: str, dtype: torch.dtype, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    assert pays(torch.device("cpu"), dtype) is expected
    assert not pays(torch.device("cuda", 0), dtype)


@pytest.mark.parametrize("does", [True, False])
def test_a_model_is_loaded_with_them_where_it_pays(does: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(load.__globals__, "pays", lambda *_: does)
    model: Any = load(ModelSpec("bundled:verify", dtype="float32", threads=1, max_length=64)).model
    head = model._net.get_output_embeddings()
    assert isinstance(head, BlockLinear) is does
    assert head.weight is model._net.get_input_embeddings().weight  # they were tied, and still are
