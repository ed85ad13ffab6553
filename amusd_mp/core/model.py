"""What the core and the nodes need from a model, as data and protocols; `amusd_mp.engine` provides the real one.

The simulator and the tests provide others. Nothing here knows torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from amusd_mp.core.step import Step, StepResult

SIMULATED: Final = "simulated:"
"""How the name of a model begins that has no weights and only takes its time (`testing.simulation.source`)."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What two models must share before one may draft for the other: the tokenizer, not the padded table size."""

    vocabulary: int
    vocabulary_hash: str
    special_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a node tells about its model. `max_length` is the longest sequence in tokens, prompt included.

    `defaults` are the sampling parameters its `generation_config` asks for, by our names; none: greedy.
    """

    name: str
    fingerprint: Fingerprint
    max_length: int
    eos_ids: tuple[int, ...]
    parameters: int
    device: str
    dtype: str
    attention: str
    defaults: tuple[tuple[str, int | float], ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model to load and where. One node, one spec.

    model:          hub id, local path, or "bundled:verify" / "bundled:draft"; "random:MODEL?seed=N" draws the
                    weights and takes all else from MODEL; "simulated:..." is no model, but a device's time
    device:         "cpu", "mps" or "cuda:N" (N as the process sees it)
    dtype:          "float32", "bfloat16", "float16" or "auto" (the checkpoint's own)
    max_sequences:  cache rows, each of `max_length` slots
    max_length:     longest sequence in tokens; None: the model's own limit, at most 4096 unless asked for
    threads:        CPU threads of the device, None: torch's default
    attention:      "slot" (our own) or "sdpa"
    fixed_shapes:   pad every pass to one of few shapes, so that low precision rounds the same whatever else is served
    pad_layers:     layers added that change nothing and cost what a layer costs (benchmarks; the card's name tells)
    """

    model: str
    device: str = "cpu"
    dtype: str = "auto"
    max_sequences: int = 8
    max_length: int | None = None
    threads: int | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    attention: str = "slot"
    fixed_shapes: bool = False
    pad_layers: int = 0


class Model(Protocol):
    """A causal language model on one device with `rows` cache rows. One thread calls `run`, always the same."""

    @property
    def card(self) -> ModelCard: ...

    @property
    def rows(self) -> int: ...

    @property
    def padding(self) -> float:
        """What a place takes that a shorter block leaves empty beside a longer one, as part of what a token does.

        0: a step takes what its tokens take. 1: every block takes what the longest one does.
        """

    def run(self, step: Step) -> StepResult:
        """Run one forward pass. Blocks. Raises whatever the device raises; the node then ends."""

    def close(self) -> None:
        """Release the device's memory. Idempotent."""


class Detokenizer(Protocol):
    """Turns one sequence's output ids into text, one at a time, never splitting a character."""

    def feed(self, token: int) -> str:
        """Return the text that `token` completes ("" while a character is unfinished)."""

    def flush(self) -> str:
        """Return what is left when no token follows (an unfinished character becomes U+FFFD)."""


class Tokenizer(Protocol):
    """The verify node's tokenizer. Safe to call beside a running step."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a plain prompt, with the special tokens the model expects in front."""

    def encode_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        """Return the ids of a conversation of (role, content), ready for the assistant's answer.

        Raises RequestError when the model has no chat template or the template refuses the messages.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""

    def detokenizer(self, prompt: Sequence[int]) -> Detokenizer:
        """Return a fresh incremental decoder for the output that follows `prompt`."""


class Loaded(Protocol):
    """A model with its tokenizer, ready to use."""

    @property
    def model(self) -> Model: ...

    @property
    def tokenizer(self) -> Tokenizer: ...
