"""How often the bundled pair agrees: the chance that a proposal is accepted, per temperature of request and draft.

    python -m amusd_mp.engine.bundled.agreement tests/data/humaneval.jsonl tests/data/gsm8k.jsonl

Teacher-forced: the verify model samples each answer alone by the rule of `sampling.choose`, then the draft chooses at
every position of it, with the same noise. Beside that stand 1 - TV, the most that any rule could reach at the
request's own temperature, and what a draft with noise of its own would get. A second table sorts the draft's choices by
how sure it was of them. docs/sampling.md has its tables from here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from amusd_mp.core.calibration import BINS
from amusd_mp.core.model import ModelSpec
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block, Step
from amusd_mp.engine.loading import LoadedModel, load
from amusd_mp.engine.sampling import choose
from amusd_mp.engine.wanted import Wanted

TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
SCALES = (1.2, 1.0, 0.85, 0.7, 0.5, 0.25, 0.0)
"""Draft temperatures, as shares of the request's own."""


def main() -> None:
    """Measure and print one table per file."""
    parser = argparse.ArgumentParser(description="agreement of the bundled pair by temperature")
    parser.add_argument("files", nargs="+", type=Path, help="JSONL with a `prompt` or `question` per line")
    parser.add_argument("--prompts", type=int, default=5, help="prompts of each file")
    parser.add_argument("--tokens", type=int, default=128, help="output tokens of each prompt")
    parser.add_argument("--seeds", type=int, default=4, help="answers sampled for each prompt")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    verify, draft = (
        load(ModelSpec(f"bundled:{name}", dtype="float32", max_sequences=1)) for name in ("verify", "draft")
    )
    for file in asked.files:
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()[: asked.prompts]]
        prompts = [encode(verify, line) for line in lines]
        _say(f"{file.name}: {asked.prompts} prompts, {asked.tokens} tokens, {asked.seeds} seeds, float32")
        _say("| temperature | " + " | ".join(f"{scale:g}x" for scale in SCALES) + " | 1 - TV | own noise |")
        _say("|---" * (len(SCALES) + 3) + "|")
        bins: dict[float, list[list[bool]]] = {}
        for temperature in TEMPERATURES:
            bins[temperature] = [[] for _ in range(BINS)]
            seeds = range(asked.seeds if temperature else 1)
            rows = [
                measure(verify, draft, prompt, temperature, seed, asked.tokens, bins[temperature])
                for prompt in prompts
                for seed in seeds
            ]
            _say(f"| {temperature:g} | " + " | ".join(f"{x:.3f}" for x in torch.tensor(rows).mean(0).tolist()) + " |")
        _say("\n| temperature | " + " | ".join(f"to {(at + 1) / BINS:.0%}" for at in range(BINS)) + " |")
        _say("|---" * (BINS + 1) + "|")
        for temperature, found in bins.items():
            cells = (f"{sum(right) / len(right):.2f} ({len(right)})" if right else "-" for right in found)
            _say(f"| {temperature:g} | " + " | ".join(cells) + " |")


def encode(side: LoadedModel, line: dict[str, str]) -> tuple[int, ...]:
    """Return the ids of a code prompt, or of a question as a conversation's first turn."""
    if "prompt" in line:
        return side.tokenizer.encode(line["prompt"])
    return side.tokenizer.encode_chat([("user", line["question"])])


def measure(
    verify: LoadedModel,
    draft: LoadedModel,
    prompt: Sequence[int],
    temperature: float,
    seed: int,
    tokens: int,
    bins: Sequence[list[bool]],
) -> list[float]:
    """Return the agreement per draft temperature, 1 - TV, and the agreement with independent noise.

    Adds to `bins`, by the draft's confidence at the request's own temperature, whether it was right.
    """
    params = GenerationParams(temperature=temperature, seed=seed)
    output = generate(verify, prompt, params, tokens)
    block = Block("s", 0, 0, (*prompt, *output[:-1]), len(output), params, len(prompt))
    p, q = (
        side.model.score(Step(0, (block,)))[:, : side.model.card.fingerprint.vocabulary] for side in (verify, draft)
    )
    found = [share(q, block, GenerationParams(temperature=scale * temperature, seed=seed), output) for scale in SCALES]
    told = choose(q, [Wanted(block, ())], q.shape[1], confidence=True)[0]
    for token, confidence, own in zip(told.tokens, told.confidence, output, strict=True):
        bins[min(len(bins) - 1, int(confidence * len(bins)))].append(token == own)
    if temperature == 0:
        return [*found, found[0], found[0]]
    chances = [(logits / temperature).softmax(-1) for logits in (p, q)]
    distance = 0.5 * (chances[0] - chances[1]).abs().sum(-1)
    return [*found, float(1 - distance.mean()), float((chances[0] * chances[1]).sum(-1).mean())]


def share(logits: Tensor, block: Block, params: GenerationParams, output: Sequence[int]) -> float:
    """Return the share of `output` that a side with these logits and parameters would have chosen."""
    mine = Block(block.sequence, 0, block.start, block.tokens, block.picks, params, block.prompt_length)
    ids = choose(logits, [Wanted(mine, ())], logits.shape[1])[0].tokens
    return sum(a == b for a, b in zip(ids, output, strict=True)) / len(output)


def generate(side: LoadedModel, prompt: Sequence[int], params: GenerationParams, tokens: int) -> list[int]:
    """Return the model's own output, alone, one token at a time; the end of the text is passed over."""
    output: list[int] = []
    fed, start = tuple(prompt), 0
    for _ in range(tokens):
        block = Block("s", 0, start, fed, 1, params, len(prompt))
        token = side.model.run(Step(0, (block,))).picked[0].tokens[0]
        start, fed = start + len(fed), (token,)
        output.append(token)
    return output


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
