"""What the verify model alone writes, by transformers, and the one rule for comparing with it.

Shared by the short comparison of every test run and the long one of `make exactness`. The reference is the plain model
under `generate`, one prompt at a time; nothing of this project's engine takes part in it. Two kernels may flip a
near-tie, so a first difference is excused where the two best scores lie closer than 1e-4, and counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from amusd_mp import Client, GenerationResult
from amusd_mp.engine.source import resolve

DATA = Path(__file__).parents[1] / "data"

USE_WITHIN = 120.0
"""Seconds within which the draft's guesses must be of use once."""

NEAR_TIE = 1e-4
"""Difference of the two best scores below which two kernels may pick either."""


def prompts(each: int = 64) -> list[str]:
    """Return the first `each` HumanEval and the first `each` GSM8K prompts."""
    code = [json.loads(line)["prompt"] for line in (DATA / "humaneval.jsonl").read_text("utf-8").splitlines()]
    maths = [json.loads(line)["question"] for line in (DATA / "gsm8k.jsonl").read_text("utf-8").splitlines()]
    return code[:each] + [f"Question: {question}\nAnswer:" for question in maths[:each]]


class Reference:
    """The verify model under transformers' own greedy `generate`, in float32; answers are kept in a temporary file."""

    def __init__(self, model: str = "bundled:verify") -> None:
        self.folder = Path(resolve(model).where)
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def net(self) -> PreTrainedModel:
        torch.set_num_threads(1)
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()

    def encode(self, prompt: str) -> list[int]:
        return list(self.tokenizer(prompt).input_ids)

    def generate(self, prompt: Sequence[int], new_tokens: int) -> tuple[int, ...]:
        """Return the output ids, an end-of-sequence token included."""
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            out = self.net.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens, pad_token_id=0
            )
        return tuple(out[0, ids.shape[1] :].tolist())

    def answers(self, texts: Sequence[str], new_tokens: int) -> list[tuple[int, ...]]:
        """Return what follows each text, from an earlier run where weights, library and texts are the same."""
        digest = hashlib.sha256(f"{transformers.__version__} {torch.__version__} {new_tokens} {list(texts)}".encode())
        for file in sorted(self.folder.iterdir()):
            digest.update(file.read_bytes())
        kept = Path(tempfile.gettempdir()) / f"amusd-mp-reference-{digest.hexdigest()[:16]}.json"
        if kept.is_file():
            return [tuple(ids) for ids in json.loads(kept.read_text("utf-8"))]
        found = [self.generate(self.encode(text), new_tokens) for text in texts]
        draft = kept.with_suffix(f".{time.monotonic_ns()}")
        draft.write_text(json.dumps(found), "utf-8")
        draft.replace(kept)
        return found

    def gap(self, ids: Sequence[int]) -> float:
        """Return how far the two best next scores after `ids` lie apart."""
        with torch.inference_mode():
            best = self.net(input_ids=torch.tensor([list(ids)])).logits[0, -1].float().topk(2).values
        return float(best[0] - best[1])

    def differs(self, text: str, expected: Sequence[int], got: Sequence[int]) -> str | None:
        """Return None where `got` is `expected`, "tie" where the first difference is a near-tie, else what is wrong."""
        if tuple(expected) == tuple(got):
            return None
        at = next((i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), None)
        if at is None:
            return f"{text[:40]!r}: {len(got)} tokens, not {len(expected)}, and equal as far as they go"
        gap = self.gap([*self.encode(text), *expected[:at]])
        if gap < NEAR_TIE:
            return "tie"
        return f"{text[:40]!r}: token {at} is {got[at]}, not {expected[at]} (the two best scores differ by {gap:.2g})"


@dataclass(frozen=True, slots=True)
class Run:
    """One pass over all prompts and what came of it."""

    what: str
    at_once: int
    results: tuple[GenerationResult, ...]
    ties: int
    wrong: tuple[str, ...]
    seconds: float

    @property
    def accepted(self) -> int:
        return sum(result.stats.accepted for result in self.results)

    @property
    def proposed(self) -> int:
        return sum(result.stats.proposed for result in self.results)

    def shows_use(self, draft: str, strategy: str, lookahead: int) -> bool:
        """Return whether the draft had the part that its kind can have: a dead one would pass everything else.

        A trained one's guesses are accepted, except under amusd with a lookahead of one: that pays so seldom that the
        policy may do without. A random one's are sure to be scored only where each round is awaited.
        """
        if strategy == "amusd" and (lookahead == 1 or draft.startswith("random:")):
            return True
        return self.proposed > 0 if draft.startswith("random:") else self.accepted > 0

    @property
    def row(self) -> str:
        """One line of the final table."""
        tokens = sum(len(result.tokens) for result in self.results)
        exact = len(self.results) - self.ties - len(self.wrong)
        return (
            f"{self.what:<34} {self.at_once:>7} {len(self.results):>7} {tokens:>7} {exact:>6} {self.ties:>5} "
            f"{len(self.wrong):>5} {self.accepted:>8} {self.proposed:>8} {self.seconds:>7.1f}"
        )


HEADER = (
    f"{'draft, strategy, lookahead':<34} {'at once':>7} {'prompts':>7} {'tokens':>7} {'exact':>6} {'ties':>5} "
    f"{'wrong':>5} {'accepted':>8} {'verified':>8} {'seconds':>7}"
)


async def compare(
    client: Client,
    reference: Reference,
    texts: Sequence[str],
    new_tokens: int,
    at_once: int,
    **options: Any,
) -> Run:
    """Generate all texts, `at_once` at a time, and compare each with the reference. `options` go to `generate`."""
    draft = next((draft.model for draft in (await client.status()).drafts), "none")
    what = ", ".join(str(each) for each in (draft, *options.values()))
    expected = await asyncio.to_thread(reference.answers, texts, new_tokens)
    room = asyncio.Semaphore(at_once)

    async def one(text: str) -> GenerationResult:
        async with room:
            return await client.generate(text, max_tokens=new_tokens, timeout=120, **options)

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(text)) for text in texts]
    seconds = time.monotonic() - began
    results = tuple(task.result() for task in running)
    found = [
        reference.differs(text, ids, result.token_ids)
        for text, ids, result in zip(texts, expected, results, strict=True)
    ]
    wrong = tuple(each for each in found if each is not None and each != "tie")
    return Run(what, at_once, results, found.count("tie"), wrong, seconds)


async def compare_until_used(
    client: Client,
    reference: Reference,
    texts: Sequence[str],
    new_tokens: int,
    at_once: int,
    strategy: str,
    lookahead: int,
) -> Run:
    """Compare, and again until the draft had its part in a run or one was wrong.

    A machine busy with something else may leave the draft no time at all, and the texts must be right all the same;
    that its guesses are used when it has time is awaited. Raises TimeoutError after USE_WITHIN seconds without.
    """
    draft = (await client.status()).drafts[0].model
    async with asyncio.timeout(USE_WITHIN):
        while True:
            run = await compare(client, reference, texts, new_tokens, at_once, strategy=strategy, lookahead=lookahead)
            if run.wrong or run.shows_use(draft, strategy, lookahead):
                return run


def deployment(draft: str | None, **verify: object) -> dict[str, object]:
    """Return a local deployment of the bundled verify model and a draft.

    They have no cores of their own: two test files run at a time, whose nodes would all share the first two.
    """
    nodes: dict[str, object] = {
        "verify": {
            "role": "verify",
            "model": "bundled:verify",
            "dtype": "float32",
            "threads": 1,
            "listen": "tcp://127.0.0.1:0",
            **verify,
        }
    }
    if draft is not None:
        nodes["draft"] = {
            "role": "draft",
            "model": draft,
            "dtype": "float32",
            "threads": 1,
            "dial": "verify",
        }
    return {"nodes": nodes}
