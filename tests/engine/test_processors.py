"""Rule: a token is chosen by the scores of transformers' own processors, each position with its own history."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block
from amusd_mp.engine import processors
from amusd_mp.engine.sampling import choose
from amusd_mp.engine.wanted import Wanted

SIZE = 300
EOS = (2, 7)
PROMPT = (5, 9, 9, 40, 41, 5)
OUTPUT = (40, 77, 77, 77, 8, 5)

EACH: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.7},
    "hot": {"temperature": 1.9},
    "top_k": {"temperature": 1.0, "top_k": 12},
    "top_k beyond the vocabulary": {"temperature": 1.0, "top_k": 5000},
    "top_p": {"temperature": 1.0, "top_p": 0.8},
    "top_p, first alone": {"temperature": 0.2, "top_p": 0.01},
    "top_p, nearly all": {"temperature": 3.0, "top_p": 0.999},
    "min_p": {"temperature": 1.0, "min_p": 0.05},
    "min_p 1": {"temperature": 1.0, "min_p": 1.0},
    "repetition": {"repetition_penalty": 1.7},
    "repetition below 1": {"repetition_penalty": 0.6},
    "frequency": {"frequency_penalty": 0.9},
    "presence": {"presence_penalty": -1.5},
    "bias": {"logit_bias": ((3, 4.5), (40, -100.0))},
    "min_tokens": {"min_tokens": 10, "stop_token_ids": (11,)},
    "min_tokens, end ignored": {"min_tokens": 10, "ignore_eos": True},
}


def reference(logits: Tensor, history: list[int], prompt_length: int, params: GenerationParams) -> Tensor:
    """Return one position's scores by transformers' public processors in vLLM's order; what it lacks, spelt out."""
    ids, scores = torch.tensor([history]), logits[None].clone()
    output = history[prompt_length:]
    if len(output) < params.min_tokens:
        scores[:, [*EOS, *params.stop_token_ids]] = -torch.inf
    if params.logit_bias:
        scores = SequenceBiasLogitsProcessor({(token,): bias for token, bias in params.logit_bias})(ids, scores)
    if params.repetition_penalty != 1:
        scores = RepetitionPenaltyLogitsProcessor(params.repetition_penalty)(ids, scores)
    for token in set(output):
        scores[0, token] -= params.frequency_penalty * output.count(token) + params.presence_penalty
    if params.temperature == 0:
        return scores[0]
    scores = TemperatureLogitsWarper(params.temperature)(ids, scores)
    if params.min_p:
        scores = MinPLogitsWarper(params.min_p)(ids, scores)
    if params.top_k:
        scores = TopKLogitsWarper(params.top_k)(ids, scores)
    if params.top_p < 1:
        scores = TopPLogitsWarper(params.top_p)(ids, scores)
    return scores[0]


def wanted(params: GenerationParams, shape: str) -> Wanted:
    """Return a block of several picks: in the middle of an output, at the end of a prompt, or a tree."""
    start, held = len(PROMPT) + len(OUTPUT), [*PROMPT, *OUTPUT, 99]  # 99 was rolled back
    if shape == "chain":
        return Wanted(Block("s", 0, start, (8, 77, 123, 9, 8), 4, params, len(PROMPT)), held)
    if shape == "prompt":
        return Wanted(Block("s", 0, 2, (*PROMPT[2:], 40, 5), 3, params, len(PROMPT)), list(PROMPT[:2]))
    tokens, parents = (8, 77, 9, 8, 123, 77), (-1, 0, 0, 1, 2, 4)
    return Wanted(Block("s", 0, start, tokens, 6, params, len(PROMPT), parents), held)


def check(params: GenerationParams, shape: str, seed: int) -> None:
    want = wanted(params, shape)
    logits = torch.randn(want.block.picks, SIZE, generator=torch.Generator().manual_seed(seed)) * 3
    scores = logits.clone()
    processors.adjust(scores, want, EOS)
    if params.temperature > 0:
        processors.narrow(scores, params)
    for pick in range(want.block.picks):
        expected = reference(logits[pick], want.history(pick), want.block.prompt_length, params)
        assert torch.equal(scores[pick] == -torch.inf, expected == -torch.inf), (params, shape, pick)
        assert torch.allclose(scores[pick].softmax(-1), expected.softmax(-1), rtol=1e-5, atol=1e-7)
    if not processors.adjusts(want) and params.temperature == 0:
        assert torch.equal(scores, logits)


@pytest.mark.parametrize("shape", ["chain", "prompt", "tree"])
@pytest.mark.parametrize("name", EACH)
def test_each_parameter_alone(name: str, shape: str) -> None:
    for seed in range(5):
        check(GenerationParams(**EACH[name]), shape, seed)


@pytest.mark.parametrize("shape", ["chain", "prompt", "tree"])
def test_every_pair_of_parameters_and_all_together(shape: str) -> None:
    for seed, (one, other) in enumerate(itertools.combinations(EACH.values(), 2)):
        check(GenerationParams(**{**one, **other}), shape, seed)
    everything: dict[str, Any] = {}
    for change in EACH.values():
        everything |= change
    everything |= {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.01}
    for seed in range(20):
        check(GenerationParams(**everything), shape, seed)


def test_the_cases_cover_every_parameter_that_acts_on_scores() -> None:
    elsewhere = {"max_tokens", "seed", "stop", "logprobs", "show_rejected"}  # stopping, noise and reports
    acting = {field.name for field in fields(GenerationParams)} - elsewhere
    assert acting == {name for case in EACH.values() for name in case}


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999, 0.999999])
def test_top_p_is_exact_when_its_share_needs_more_than_the_first_look(top_p: float) -> None:
    size = 20 * processors.FIRST_LOOK
    logits = torch.randn(3, size, generator=torch.Generator().manual_seed(3))
    logits[0, 5] = 30.0  # one row is done at once, the others are not
    scores = logits.clone()
    processors.narrow(scores, GenerationParams(temperature=1.0, top_p=top_p))
    # Summed in float64: in float32 the order of 5,000 summands decides who stands at the edge.
    expected = TopPLogitsWarper(top_p)(torch.zeros(3, 1, dtype=torch.long), logits.double())
    assert torch.equal(scores == -torch.inf, expected == -torch.inf)


def test_entries_that_tie_at_an_edge_stay_together() -> None:
    logits = torch.zeros(1, 40)
    logits[0, :3] = 1.0
    for params in (GenerationParams(temperature=1.0, top_k=5), GenerationParams(temperature=1.0, top_p=0.5)):
        scores = logits.clone()
        processors.narrow(scores, params)
        assert bool((scores > -torch.inf).all())


def test_a_position_past_min_tokens_may_end_inside_the_same_block() -> None:
    want = wanted(GenerationParams(min_tokens=10), "chain")  # its picks are outputs 9, 10, 11 and 12, counted from 1
    scores = torch.zeros(4, SIZE)
    processors.adjust(scores, want, EOS)
    assert [bool((row[list(EOS)] == -torch.inf).all()) for row in scores] == [True, True, False, False]


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 5e-324])
def test_next_to_no_temperature_is_greedy_and_finite(temperature: float) -> None:
    logits = torch.randn(20, SIZE, generator=torch.Generator().manual_seed(9)) * 9
    want = Wanted(Block("s", 0, 0, tuple(range(20)), 20, GenerationParams(temperature=temperature, seed=4), 1), ())
    assert choose(logits, [want], SIZE)[0].tokens == tuple(logits.argmax(-1).tolist())
