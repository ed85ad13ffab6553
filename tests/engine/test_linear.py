"""Rule: linear layers suited to a processor compute what the usual ones do, and no other layer becomes one."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import nn

from amusd_mp.core.model import ModelSpec
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block, Step
from amusd_mp.engine.linear import PackedLinear, SuitedLinear, TurnedLinear, suit, suited
from amusd_mp.engine.loading import load

WIDE, NARROW = (256, 512), (512, 256)


def drawn(shape: tuple[int, int], bias: bool) -> nn.Linear:
    torch.manual_seed(7)
    return nn.Linear(*shape, bias=bias)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [WIDE, NARROW])
@pytest.mark.parametrize("tokens", range(TurnedLinear.MOST + 3))
def test_a_block_of_any_length_gives_what_the_usual_layer_gives(
    tokens: int, shape: tuple[int, int], bias: bool
) -> None:
    usual = drawn(shape, bias)
    block = TurnedLinear.of(usual)
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
    monkeypatch.setattr(TurnedLinear, "_turned", lambda _, given: turned.append(given.shape[0]))
    for shape, expected in ((WIDE, [2, 3, 4, 5]), (NARROW, [3, 4, 5])):
        block = TurnedLinear.of(drawn(shape, bias=False))
        turned.clear()
        for tokens in range(1, 10):
            block(torch.randn(tokens, shape[0]))
        assert turned == expected


class Odd(nn.Linear):
    """A layer that does something of its own."""


def test_large_plain_layers_are_replaced_with_their_own_parameters() -> None:
    net = nn.Sequential(nn.Linear(256, 256), nn.Linear(8, 8), Odd(256, 256), nn.Sequential(nn.Linear(512, 256)))
    parameters = list(net.parameters())
    suit(net, TurnedLinear)
    suit(net, TurnedLinear)
    assert [type(each) for each in net.modules() if isinstance(each, nn.Linear)] == [
        TurnedLinear,
        nn.Linear,
        Odd,
        TurnedLinear,
    ]
    assert [id(each) for each in net.parameters()] == [id(each) for each in parameters]


@pytest.mark.parametrize("kind", [TurnedLinear, PackedLinear])
def test_a_layer_that_a_model_keeps_in_another_type_stays_as_it_is(kind: type[SuitedLinear]) -> None:
    other = torch.bfloat16 if torch.float32 == kind.DTYPE else torch.float32
    net = nn.Sequential(nn.Linear(256, 256, dtype=other))
    suit(net, kind)
    assert type(net[0]) is nn.Linear


@pytest.mark.parametrize("kind", [TurnedLinear, PackedLinear])
def test_old_layers_are_let_go_one_by_one(kind: type[SuitedLinear], monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(*(nn.Linear(256, 256, dtype=kind.DTYPE) for _ in range(3)))
    old = [weakref.ref(layer) for layer in net]
    living: list[int] = []
    monkeypatch.setattr(kind, "_suit", lambda _: living.append(sum(each() is not None for each in old)))
    suit(net, kind)
    assert living == [3, 2, 1]


PACKING = suited(torch.device("cpu"), torch.bfloat16) is PackedLinear
needs_packing = pytest.mark.skipif(not PACKING, reason="this processor has no AVX-512 BF16")


@needs_packing
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [WIDE, NARROW, (128, 64), (256, 704), (251, 77)])
def test_a_packed_layer_gives_the_same_bits_for_any_number_of_tokens(shape: tuple[int, int], bias: bool) -> None:
    usual = drawn(shape, bias).to(torch.bfloat16)
    packed = PackedLinear.of(usual)
    for tokens in (0, 1, 2, 3, 5, 8, 13, 16, 33, 130):
        for leading in ((tokens,), (1, tokens), (tokens, 1)):
            given = torch.randn(*leading, shape[0], dtype=torch.bfloat16)
            with torch.inference_mode():
                found = packed(given)
                assert torch.equal(found, usual(given))
            assert found.is_contiguous()
    strided = torch.randn(1, shape[0], 5, dtype=torch.bfloat16).transpose(1, 2)
    assert torch.equal(packed(strided), packed(strided.contiguous()))


@needs_packing
def test_packing_a_tied_layer_leaves_the_embedding_readable() -> None:
    embedding = nn.Embedding(512, 128, dtype=torch.bfloat16)
    head = nn.Linear(128, 512, bias=False, dtype=torch.bfloat16)
    head.weight = embedding.weight
    net = nn.Sequential(embedding, head)
    ids = torch.tensor([[3, 500]])
    before = net(ids)
    suit(net, PackedLinear)
    assert type(net[1]) is PackedLinear
    assert torch.equal(net(ids), before)


@pytest.mark.parametrize(
    ("capability", "dtype", "expected"),
    [
        ("AVX2", torch.float32, TurnedLinear),
        ("AVX2", torch.bfloat16, None),
        ("AVX512", torch.float32, None),
        ("AVX512", torch.float16, None),
    ],
)
def test_a_layer_is_replaced_only_where_that_was_measured_to_pay(
    capability: str, dtype: torch.dtype, expected: type[SuitedLinear] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    assert suited(torch.device("cpu"), dtype) is expected
    assert suited(torch.device("cuda", 0), dtype) is None


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")
@pytest.mark.parametrize("has", [True, False])
def test_weights_are_packed_only_on_processors_that_multiply_bfloat16(
    has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: has)
    assert suited(torch.device("cpu"), torch.bfloat16) is (PackedLinear if has else None)


@pytest.mark.parametrize("kind", [TurnedLinear, None])
def test_a_model_is_loaded_with_them_where_it_pays(
    kind: type[SuitedLinear] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(load.__globals__, "suited", lambda *_: kind)
    model: Any = load(ModelSpec("bundled:verify", dtype="float32", threads=1, max_length=64)).model
    head = model._net.get_output_embeddings()
    assert isinstance(head, SuitedLinear) is (kind is not None)
    assert head.weight is model._net.get_input_embeddings().weight  # they were tied, and still are


@needs_packing
def test_packing_changes_neither_what_a_model_says_nor_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec("bundled:verify", dtype="bfloat16", threads=1, max_length=64)
    packed: Any = load(spec).model
    monkeypatch.setitem(load.__globals__, "suited", lambda *_: None)
    usual: Any = load(spec).model
    assert isinstance(packed._net.get_output_embeddings(), PackedLinear)
    assert packed.card == usual.card
    step = Step(0, (Block("a", 0, 0, tuple(range(3, 23)), 20, GenerationParams(), 0),))
    assert torch.equal(packed.score(step), usual.score(step))
