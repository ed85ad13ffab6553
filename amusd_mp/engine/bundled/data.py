"""The text the bundled pair learns from: Python's own standard library, and GSM8K's train split.

Both are documents, ended by `<|endoftext|>`. A `Corpus` is their tokens, from which sequences are drawn at random in a
fixed proportion. This module knows no model.
"""

from __future__ import annotations

import json
import re
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
VOCABULARY = 4096
PYTHON_SHARE = 0.6
"""Share of sequences drawn from Python files; the rest are word problems."""

HELD_OUT_FILES = 12
HELD_OUT_PROBLEMS = 100

_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_CALCULATOR = re.compile(r"<<[^<>]*>>")


def python_documents(root: Path | None = None) -> list[str]:
    """Return the text of the `.py` files below `root` (None: the running Python's standard library), tests left out."""
    root = root or Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(root.rglob("*.py")) if not _SKIPPED.intersection(path.relative_to(root).parts)]
    return [text for path in paths if (text := path.read_text("utf-8", errors="ignore")).strip()]


def problem_documents(path: Path) -> list[str]:
    """Return GSM8K's problems as the models see them, without the calculator marks. `path` is its JSONL file."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [f"Question: {row['question']}\nAnswer: {_CALCULATOR.sub('', row['answer'])}\n" for row in rows]


def train_tokenizer(documents: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Return a byte-level BPE tokenizer: no unknown characters, every digit on its own, END is id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


@dataclass(frozen=True)
class Corpus:
    """Two streams of token ids, each one-dimensional, documents ended by END."""

    python: torch.Tensor
    problems: torch.Tensor

    @classmethod
    def of(cls, tokenizer: Tokenizer, python: Sequence[str], problems: Sequence[str]) -> Corpus:
        """Tokenize the documents of both kinds."""
        return cls(_stream(tokenizer, python), _stream(tokenizer, problems))

    def batch(self, size: int, length: int, generator: torch.Generator) -> torch.Tensor:
        """Return ids [size, length + 1] that begin anywhere: all but the last are inputs, all but the first targets."""
        kinds = torch.rand(size, generator=generator) < PYTHON_SHARE
        return torch.stack([self._sequence(kind, length, generator) for kind in kinds.tolist()])

    def _sequence(self, python: bool, length: int, generator: torch.Generator) -> torch.Tensor:
        stream = self.python if python else self.problems
        start = int(torch.randint(len(stream) - length, (1,), generator=generator))
        return stream[start : start + length + 1]


def _stream(tokenizer: Tokenizer, documents: Sequence[str]) -> torch.Tensor:
    end = tokenizer.token_to_id(END)
    return torch.tensor([each for coded in tokenizer.encode_batch(list(documents)) for each in (*coded.ids, end)])
