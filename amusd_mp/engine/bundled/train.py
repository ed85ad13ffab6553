"""Remake the bundled pair: `python -m amusd_mp.engine.bundled.train --gsm8k-train train.jsonl --out DIR`.

Trains the tokenizer, the verify model, the draft model on the same text, and then the draft on the verify model's own
distribution (distillation: what makes a draft agree, Zhou et al., arXiv 2310.08461). The plan is the model card's;
it takes about three hours on two CPU cores.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from amusd_mp.engine.bundled import folder
from amusd_mp.engine.bundled.data import (
    END,
    HELD_OUT_FILES,
    HELD_OUT_PROBLEMS,
    Corpus,
    problem_documents,
    python_documents,
    train_tokenizer,
)

CONTEXT = 2048
"""Positions the models accept."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shape:
    """Size of a Llama model."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one learning rate, which falls to 5 % of it along a cosine."""

    tokens: int
    rate: float


VERIFY = Shape(layers=6, hidden=256, feed_forward=704, heads=4, kv_heads=2)
DRAFT = Shape(layers=2, hidden=128, feed_forward=384, heads=2, kv_heads=1)
VERIFY_PLAN = (Phase(6_700_000, 2.5e-3), Phase(11_500_000, 1.5e-3))
DRAFT_PLAN = (Phase(13_900_000, 3e-3),)
DISTILLATION_PLAN = (Phase(2_900_000, 1.5e-3),)


@dataclass(frozen=True)
class Setting:
    """How to train. `batch` sequences of `length` tokens per step; `steps` caps every phase, for a trial run."""

    batch: int = 32
    length: int = 256
    steps: int | None = None
    device: str = "cpu"
    seed: int = 0

    def steps_of(self, phase: Phase) -> int:
        """Return how many optimizer steps a phase takes."""
        planned = max(1, round(phase.tokens / (self.batch * self.length)))
        return planned if self.steps is None else min(self.steps, planned)


def build(shape: Shape, vocabulary: int) -> LlamaForCausalLM:
    """Return a freshly initialised model whose input and output embeddings are one matrix."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.hidden // shape.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config)


def fit(
    model: nn.Module, corpus: Corpus, plan: Sequence[Phase], setting: Setting, teacher: nn.Module | None = None
) -> None:
    """Train `model` in place on the text, or, given a teacher, on the teacher's distribution over the same text."""
    generator = torch.Generator().manual_seed(setting.seed)
    model.to(setting.device)
    model.train()
    for phase in plan:
        optimizer = torch.optim.AdamW(model.parameters(), lr=phase.rate, betas=(0.9, 0.95), weight_decay=0.1)
        steps = setting.steps_of(phase)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(phase.rate, step, steps)
            ids = corpus.batch(setting.batch, setting.length, generator).to(setting.device)
            loss = loss_of(model, ids, teacher)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % 50 == 0 or step == steps - 1:
                logger.info("step %d of %d, rate %.1e: loss %.3f", step + 1, steps, phase.rate, loss.item())
    model.eval()


def learning_rate(peak: float, step: int, steps: int) -> float:
    """Return the rate of a step: linear warm-up over the first 2 %, then a cosine down to 5 % of the peak."""
    warm = max(1, steps // 50)
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))


def loss_of(model: nn.Module, ids: torch.Tensor, teacher: nn.Module | None) -> torch.Tensor:
    """Return nats per token of ids [rows, length + 1]: cross-entropy, or the divergence from the teacher."""
    inputs, targets = ids[:, :-1], ids[:, 1:]
    with torch.autocast(ids.device.type, dtype=torch.bfloat16):
        logits = model(inputs, use_cache=False).logits
    logprobs = functional.log_softmax(logits.float().flatten(0, 1), dim=-1)
    if teacher is None:
        return functional.nll_loss(logprobs, targets.flatten())
    with torch.no_grad(), torch.autocast(ids.device.type, dtype=torch.bfloat16):
        wanted = teacher(inputs, use_cache=False).logits
    wanted = functional.log_softmax(wanted.float().flatten(0, 1), dim=-1)
    return functional.kl_div(logprobs, wanted, log_target=True, reduction="batchmean")


@torch.no_grad()
def report(name: str, model: nn.Module, held_out: Corpus, setting: Setting) -> None:
    """Log the loss on text that was not trained on, each kind apart."""
    losses = []
    for stream in (held_out.python, held_out.problems):
        count = min(64, (len(stream) - 1) // setting.length)
        rows = torch.stack([stream[i * setting.length : (i + 1) * setting.length + 1] for i in range(count)])
        losses.append(loss_of(model, rows.to(setting.device), None).item())
    logger.info("%s: %.2f nats per token on held-out Python, %.2f on held-out problems", name, *losses)


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, target: Path) -> None:
    """Write a checkpoint in bfloat16 with its tokenizer and chat template."""
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = (folder("verify") / "chat_template.jinja").read_text("utf-8")
    wrapped.save_pretrained(target)
    nn.Module.to(model, "cpu", torch.bfloat16)  # in place
    model.save_pretrained(target)


def make_pair(problems_file: Path, out: Path, setting: Setting, python_root: Path | None = None) -> None:
    """Train tokenizer and both models, and write `out`/verify and `out`/draft."""
    torch.manual_seed(setting.seed)
    python, problems = python_documents(python_root), problem_documents(problems_file)
    aside, apart = max(1, min(HELD_OUT_FILES, len(python) // 4)), max(1, min(HELD_OUT_PROBLEMS, len(problems) // 4))
    stride = len(python) // aside
    held_out = set(range(0, stride * aside, stride))  # spread over the library, not one package of it
    learned = [text for index, text in enumerate(python) if index not in held_out]
    logger.info("%d Python files, %d problems; held out: %d and %d", len(python), len(problems), aside, apart)
    tokenizer = train_tokenizer([*learned, *problems[:-apart]])
    corpus = Corpus.of(tokenizer, learned, problems[:-apart])
    unseen = Corpus.of(tokenizer, [python[index] for index in sorted(held_out)], problems[-apart:])

    verify = build(VERIFY, tokenizer.get_vocab_size())
    fit(verify, corpus, VERIFY_PLAN, setting)
    report("verify", verify, unseen, setting)
    draft = build(DRAFT, tokenizer.get_vocab_size())
    fit(draft, corpus, DRAFT_PLAN, replace(setting, seed=setting.seed + 1))
    fit(draft, corpus, DISTILLATION_PLAN, replace(setting, seed=setting.seed + 2), teacher=verify)
    report("draft", draft, unseen, setting)
    save(verify, tokenizer, out / "verify")
    save(draft, tokenizer, out / "draft")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m amusd_mp.engine.bundled.train", description="Remake the bundled pair."
    )
    parser.add_argument("--gsm8k-train", type=Path, required=True, help="GSM8K's train split, a JSONL file")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets verify/ and draft/")
    parser.add_argument("--python-root", type=Path, help="Python files to learn from (default: the standard library)")
    parser.add_argument("--steps", type=int, help="at most this many steps per phase, for a trial run")
    parser.add_argument("--batch", type=int, default=Setting.batch, help="sequences per step")
    parser.add_argument("--length", type=int, default=Setting.length, help="tokens per sequence")
    parser.add_argument("--device", default=Setting.device, help="torch device")
    parser.add_argument("--seed", type=int, default=Setting.seed)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    setting = Setting(given.batch, given.length, given.steps, given.device, given.seed)
    make_pair(given.gsm8k_train, given.out, setting, given.python_root)


if __name__ == "__main__":
    main()
