"""Tiny models of every supported family with random weights, and plain forward passes of the same weights beside them.

Windows are 8 wide, so sequences of a few dozen tokens cross them; grouped heads, soft caps, shared embeddings and
experts come with the families.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from amusd_mp.core.model import Fingerprint, ModelCard
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block
from amusd_mp.engine import attention
from amusd_mp.engine.model import SlotModel
from amusd_mp.engine.random_init import randomize

VOCABULARY = 97
LENGTH = 64

SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "max_position_embeddings": 128,
    **SPECIAL,
}
GROUPED = {**COMMON, "num_key_value_heads": 2}
GEMMA = {**GROUPED, "num_hidden_layers": 3, "head_dim": 8, "sliding_window": 8}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", GROUPED),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen3": ("Qwen3Config", {**GROUPED, "head_dim": 8}),
    "mistral": ("MistralConfig", {**GROUPED, "sliding_window": 8}),
    "gemma2": ("Gemma2Config", {**GEMMA, "layer_types": MIXED, "attn_logit_softcapping": 2.0}),
    "gemma3": ("Gemma3TextConfig", {**GEMMA, "layer_types": MIXED}),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 128, **SPECIAL},
    ),
    "opt": (
        "OPTConfig",
        {**{k: v for k, v in COMMON.items() if k != "intermediate_size"}, "ffn_dim": 48, "word_embed_proj_dim": 32},
    ),
    "gpt_neox": ("GPTNeoXConfig", COMMON),
    "phi": ("PhiConfig", COMMON),
    "mixtral": ("MixtralConfig", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
}


@dataclass(frozen=True)
class Tiny:
    """A tiny model behind the slot cache, and the same weights behind transformers' own attention and masks."""

    net: PreTrainedModel
    plain: PreTrainedModel
    card: ModelCard

    def model(self, rows: int = 4, bucket: int = 8) -> SlotModel:
        """Return a model of so many rows. A bucket as small as eight lets sequences outgrow it again and again."""
        return SlotModel(self.net, self.card, rows, bucket=bucket)

    def truth(self, ids: tuple[int, ...], count: int) -> Tensor:
        """Return the last `count` logits of a fresh forward pass over `ids`, in float32."""
        with torch.inference_mode():
            return self.plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -count:].float()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Tiny]:
    """Build a family's tiny model; the same one for the same arguments."""
    built: dict[tuple[str, str], Tiny] = {}

    def build(family: str, dtype: str = "float32") -> Tiny:
        if (family, dtype) not in built:
            name, settings = FAMILIES[family]
            config = getattr(transformers, name)(**settings)
            attention.register()
            net = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
            randomize(net, seed=12)
            plain = copy.deepcopy(net)
            plain.set_attn_implementation("eager")
            net.set_attn_implementation(attention.NAME)
            fingerprint = Fingerprint(VOCABULARY, "", ())
            card = ModelCard(family, fingerprint, LENGTH, (2,), net.num_parameters(), "cpu", dtype, "slot")
            built[family, dtype] = Tiny(net, plain, card)
        return built[family, dtype]

    return build


@pytest.fixture(scope="session")
def block() -> Callable[..., Block]:
    """Make a block with greedy parameters."""

    def make(
        row: int,
        start: int,
        tokens: tuple[int, ...],
        picks: int | None = None,
        parents: tuple[int, ...] | None = None,
    ) -> Block:
        wanted = len(tokens) if picks is None else picks
        return Block(f"s{row}", row, start, tuple(tokens), wanted, GenerationParams(), 1, parents)

    return make
