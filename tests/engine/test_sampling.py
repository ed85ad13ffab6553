"""Rule: a token depends on its logits, history, position and seed, and on nothing else; ties go to the lowest id."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from amusd_mp.core import noise
from amusd_mp.core.model import ModelSpec
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block, Picked, Step
from amusd_mp.engine.loading import load
from amusd_mp.engine.sampling import choose
from amusd_mp.engine.source import BUNDLED
from amusd_mp.engine.wanted import Wanted

SIZE = 60
EOS = (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ties_go_to_the_lowest_id(block: Any, dtype: torch.dtype) -> None:
    logits = torch.zeros(2, 500, dtype=dtype)
    logits[0, [499, 77, 300]] = 2.0
    picked = choose(logits, [Wanted(block(0, 0, (1, 2)), [])], 500)
    assert picked[0].tokens == (77, 0)


@pytest.mark.parametrize("params", [{}, {"temperature": 1.0}, {"presence_penalty": 1.0}])
def test_ids_beyond_the_vocabulary_are_never_chosen(params: dict[str, Any]) -> None:
    logits = torch.zeros(1, 10)
    logits[0, 7:] = 50.0
    logits[0, 3] = 40.0
    block = Block("s", 0, 0, (1,), 1, GenerationParams(**params), 1)
    assert choose(logits, [Wanted(block, [])], 7)[0].tokens == (3,)


def test_answers_are_dealt_out_block_by_block(block: Any) -> None:
    logits = torch.eye(5)[[4, 2, 3]]
    wanted = [Wanted(block(0, 0, (1, 1), picks=2), []), Wanted(block(1, 0, (1,), picks=0), []),
              Wanted(block(2, 0, (1, 1), picks=1), [])]  # fmt: skip
    assert [one.tokens for one in choose(logits, wanted, 5)] == [(4, 2), (), (3,)]


def test_position_and_history_follow_the_tokens_ancestors(block: Any) -> None:
    tree = block(0, 3, (10, 20, 11, 21), picks=2, parents=(-1, -1, 0, 1))
    wanted = Wanted(tree, [1, 2, 3, 99])  # 99 lies behind the block's start: rolled back
    assert [wanted.position(pick) for pick in (0, 1)] == wanted.positions() == [5, 5]
    assert [wanted.history(pick) for pick in (0, 1)] == [[1, 2, 3, 10, 11], [1, 2, 3, 20, 21]]
    chain = Wanted(block(0, 2, (7, 8, 9), picks=2), [1, 2, 3])
    assert [chain.position(pick) for pick in (0, 1)] == chain.positions() == [4, 5]
    assert chain.history(0) == [1, 2, 7, 8]


def test_a_sample_is_the_best_score_plus_noise_by_the_plain_reference() -> None:
    params = GenerationParams(temperature=0.7, seed=0xFEDCBA9876543210)
    logits = torch.randn(5, SIZE, generator=torch.Generator().manual_seed(1)) * 2
    block = Block("s", 0, 9, (1, 2, 3, 4, 5), 5, params, 4)
    expected = [
        max(range(SIZE), key=lambda v, row=row, t=10 + at: row[v] / 0.7 + noise.gumbel(params.seed, t, v))
        for at, row in enumerate(logits.tolist())
    ]
    assert choose(logits, [Wanted(block, [0] * 9)], SIZE)[0].tokens == tuple(expected)


REQUESTS: tuple[dict[str, Any], ...] = (
    {"temperature": 1.0, "seed": 1},
    {"temperature": 1.0, "seed": 1 << 63},
    {},
    {"temperature": 0.4, "seed": 1, "top_k": 9, "repetition_penalty": 1.3},
    {"temperature": 2.0, "seed": 5, "top_p": 0.7, "min_tokens": 12},
    {"frequency_penalty": 1.5, "logit_bias": ((4, 3.0),), "logprobs": 2},
    {"temperature": 1.0, "seed": 7, "min_p": 0.1, "presence_penalty": 0.5, "logprobs": 3},
)


def test_a_choice_depends_neither_on_other_rows_nor_on_the_blocks_shape() -> None:
    """One position at a time, block by block, and all requests in one step: the same ids and log probabilities."""
    generator = torch.Generator().manual_seed(8)
    length, prompt = 16, 5
    logits = torch.randn(len(REQUESTS), length, SIZE, generator=generator) * 2
    ids = torch.randint(0, SIZE, (len(REQUESTS), length), generator=generator).tolist()

    def want(row: int, start: int, picks: int, whole: bool = False) -> Wanted:
        first = 0 if whole else start
        tokens = tuple(ids[row][first : start + picks])
        return Wanted(Block("s", row, first, tokens, picks, GenerationParams(**REQUESTS[row]), prompt), ids[row])

    def join(parts: list[Picked]) -> tuple[list[int], list[Any]]:
        tokens = [token for part in parts for token in part.tokens]
        return tokens, [opinion for part in parts for opinion in part.logprobs or ()]

    for row in range(len(REQUESTS)):
        singles = join(
            [choose(logits[row, at : at + 1], [want(row, at, 1)], SIZE, EOS)[0] for at in range(prompt, length)]
        )
        for width in (2, 3, 11):
            cuts = [(at, min(width, length - at)) for at in range(prompt, length, width)]
            for whole in (False, True):
                blocks = [choose(logits[row, at : at + n], [want(row, at, n, whole)], SIZE, EOS)[0] for at, n in cuts]
                assert join(blocks) == singles
        for order in (list(range(len(REQUESTS))), list(range(len(REQUESTS)))[::-1]):
            together = choose(
                torch.cat([logits[at, prompt:] for at in order]),
                [want(at, prompt, length - prompt) for at in order],
                SIZE,
                EOS,
            )
            assert join([together[order.index(row)]]) == singles


def test_logprobs_are_the_models_own_before_temperature_penalties_and_filters() -> None:
    logits = torch.randn(4, SIZE + 3, generator=torch.Generator().manual_seed(2)) * 2
    logits[1, [20, 30]] = 9.0  # a tie among the best
    params = GenerationParams(temperature=1.5, top_k=40, repetition_penalty=1.5, logit_bias=((7, 50.0),), logprobs=3)
    asked = Block("a", 0, 0, (1, 2, 3), 3, params, 1)
    plain = Block("b", 1, 0, (4,), 1, GenerationParams(logprobs=0), 1)
    first, second = choose(logits, [Wanted(asked, []), Wanted(plain, [])], SIZE)
    truth = logits[:, :SIZE].log_softmax(-1)
    assert first.logprobs is not None
    assert second.logprobs is not None
    for row, (token, opinion) in enumerate(zip(first.tokens, first.logprobs, strict=True)):
        assert token == 7
        assert opinion.logprob == pytest.approx(float(truth[row, 7]), abs=1e-6)
        best = truth[row].sort(descending=True, stable=True)
        assert [token for token, _ in opinion.top] == best.indices[:3].tolist()
        assert [value for _, value in opinion.top] == pytest.approx(best.values[:3].tolist(), abs=1e-6)
    assert [token for token, _ in first.logprobs[1].top[:2]] == [20, 30]
    assert second.logprobs[0].top == ()
    assert second.logprobs[0].logprob == pytest.approx(float(truth[3].max()), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_confidence_is_the_probability_of_the_token_after_processing(temperature: float) -> None:
    logits = torch.randn(3, SIZE, generator=torch.Generator().manual_seed(4))
    params = GenerationParams(temperature=temperature, seed=5)
    wanted = [Wanted(Block("s", 0, 0, (1, 2, 3), 3, params, 1), [])]
    told = choose(logits, wanted, SIZE, EOS, confidence=True)[0]
    assert told.tokens == choose(logits, wanted, SIZE, EOS)[0].tokens
    expected = (logits / (temperature or 1.0)).softmax(-1)[range(3), list(told.tokens)]
    assert told.confidence == pytest.approx(expected.tolist(), rel=1e-5)


def test_runners_up_are_the_next_best_with_their_probabilities_and_only_where_the_largest_logit_decides() -> None:
    logits = torch.randn(3, SIZE, generator=torch.Generator().manual_seed(4))
    block = Block("s", 0, 0, (1, 2, 3), 3, GenerationParams(), 1)
    told = choose(logits, [Wanted(block, [])], SIZE, EOS, confidence=True, runners_up=2)[0]
    assert told.tokens == choose(logits, [Wanted(block, [])], SIZE, EOS)[0].tokens
    best = logits.softmax(-1).topk(3)
    for row in range(3):
        assert told.confidence[row] == pytest.approx(float(best.values[row, 0]), rel=1e-5)
        assert [token for token, _ in told.runners_up[row]] == best.indices[row, 1:].tolist()
        assert [share for _, share in told.runners_up[row]] == pytest.approx(best.values[row, 1:].tolist(), rel=1e-5)
    sampled = Block("s", 0, 0, (1, 2, 3), 3, GenerationParams(temperature=0.7), 1)
    assert choose(logits, [Wanted(sampled, [])], SIZE, EOS, confidence=True, runners_up=2)[0].runners_up == ()


def test_of_equal_logits_the_chosen_one_is_no_runner_up() -> None:
    logits = torch.zeros(1, SIZE)
    logits[0, [4, 9, 30]] = 5.0
    told = choose(logits, [Wanted(Block("s", 0, 0, (1,), 1, GenerationParams(), 1), [])], SIZE, EOS, True, 2)[0]
    assert told.tokens == (4,)
    assert {token for token, _ in told.runners_up[0]} == {9, 30}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_close_calls_off_the_leading_chain_are_told(dtype: torch.dtype) -> None:
    """Five picks, all with the same two best: a chain of three, then one beside its last token and one beside that."""
    logits = torch.randn(5, SIZE, generator=torch.Generator().manual_seed(4)).clamp(-2, 2)
    logits[:, 7], logits[:, 11] = 8.0, 7.75
    logits[4, 11] = 8.0
    block = Block("s", 0, 0, (0, 1, 2, 3, 4, 5), 5, GenerationParams(), 1, (-1, 0, 1, 2, 2, 2))
    told = choose(logits.to(dtype), [Wanted(block, [])], SIZE, EOS)[0]
    assert told.doubtful == (frozenset({4}) if dtype is torch.float32 else frozenset({3, 4}))
    chain = Block("s", 0, 0, (0, 1, 2, 3, 4, 5), 5, GenerationParams(), 1)
    assert choose(logits.to(dtype), [Wanted(chain, [])], SIZE, EOS)[0].doubtful == frozenset()
    biased = Block("s", 0, 0, block.tokens, 5, GenerationParams(logit_bias=((3, 1.0),)), 1, block.parents)
    assert choose(logits.to(dtype), [Wanted(biased, [])], SIZE, EOS)[0].doubtful == frozenset({3, 4})
    coarse = choose(logits, [Wanted(block, [])], SIZE, EOS, weights={torch.float32, torch.bfloat16})[0]
    assert coarse.doubtful == frozenset({3, 4}), "the coarsest of all types counts"


def test_16_bit_weights_make_close_calls_of_float32_logits(tiny: Any, block: Any) -> None:
    small = tiny("llama", "bfloat16")

    def widen(_module: Any, _given: Any, found: Any) -> None:
        scores = torch.linspace(-2, 2, found.logits.shape[-1])
        scores[7], scores[11] = 8.0, 7.75
        found.logits = scores.expand(found.logits.shape)

    hook = small.net.register_forward_hook(widen)
    told = small.model(1).run(Step(0, (block(0, 0, (5, 6, 8), parents=(-1, -1, 1)),))).picked[0]
    hook.remove()
    assert told.tokens == (7, 7, 7)
    assert told.doubtful == frozenset({1, 2})


def test_the_doubts_of_all_trees_come_with_the_tokens_in_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trees, a chain, and a tree where more than logits bears: together as each by itself."""
    logits = torch.randn(12, SIZE, generator=torch.Generator().manual_seed(4)).clamp(-2, 2)
    logits[:, 7], logits[:, 11] = 8.0, torch.tensor([8.0, 7.0] * 6)
    parents = (-1, -1, 1), (-1, -1, -1), None, (-1, 0, 0)
    biased = GenerationParams(logit_bias=((3, 1.0),))
    wanted = [
        Wanted(Block("s", row, 0, (1, 2, 3), 3, biased if row == 3 else GenerationParams(), 1, tree), [])
        for row, tree in enumerate(parents)
    ]
    alone = [choose(logits[3 * row : 3 * row + 3], [want], SIZE, EOS)[0] for row, want in enumerate(wanted)]
    assert [each.doubtful for each in alone] == [{2}, {1}, set(), {2}]
    copies: list[Tensor] = []
    copy = Tensor.tolist

    def note(tensor: Tensor) -> Any:
        copies.append(tensor)
        return copy(tensor)

    monkeypatch.setattr(Tensor, "tolist", note)
    assert choose(logits, wanted, SIZE, EOS) == alone
    assert len(copies) == 1


def test_nobody_asked_for_logprobs_so_there_are_none(block: Any) -> None:
    assert choose(torch.zeros(1, 5), [Wanted(block(0, 0, (1,)), [])], 5)[0].logprobs is None


PROMPTS = ("Question: Tom has 3 apples and buys 5 more. How many", "def add(a, b):\n", "import os\n\nclass")


@pytest.mark.parametrize(
    ("params", "theirs"),
    [
        (GenerationParams(repetition_penalty=1.3), {"repetition_penalty": 1.3}),
        (GenerationParams(repetition_penalty=1.1, min_tokens=40), {"repetition_penalty": 1.1, "min_new_tokens": 40}),
    ],
)
def test_penalized_greedy_text_is_that_of_transformers_generate(params: GenerationParams, theirs: Any) -> None:
    """Alone, token by token, and as one verified block: per-position histories make no difference."""
    loaded = load(ModelSpec("bundled:verify", dtype="float32", max_sequences=1, max_length=160))
    net: Any = AutoModelForCausalLM.from_pretrained(BUNDLED / "verify", dtype=torch.float32).eval()
    for text in PROMPTS:
        prompt = loaded.tokenizer.encode(text)
        expected = net.generate(
            torch.tensor([prompt]), max_new_tokens=40, do_sample=False, pad_token_id=0, eos_token_id=0, **theirs
        )[0, len(prompt) :].tolist()
        fed, start, out = prompt, 0, []
        while len(out) < len(expected):
            block = Block("s", 0, start, fed, 1, params, len(prompt))
            token = loaded.model.run(Step(0, (block,))).picked[0].tokens[0]
            start, fed = start + len(fed), (token,)
            out.append(token)
        assert out == expected
        whole = Block("s", 0, 0, (*prompt, *out[:-1]), len(out), params, len(prompt))
        assert loaded.model.run(Step(1, (whole,))).picked[0].tokens == tuple(out)


def test_a_drafts_arg_max_is_greedy_under_the_requests_other_parameters() -> None:
    """Draft temperature 0: no noise, the same processors."""
    logits = torch.randn(6, SIZE, generator=torch.Generator().manual_seed(4)) * 3
    block = Block("s", 0, 0, tuple(range(6)), 6, GenerationParams(temperature=0.0, seed=3, top_p=0.5, min_p=0.2), 1)
    assert choose(logits, [Wanted(block, [])], SIZE)[0].tokens == greedy(logits)


def greedy(logits: Tensor) -> tuple[int, ...]:
    return tuple(logits.argmax(-1).tolist())
