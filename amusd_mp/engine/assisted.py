"""transformers' own generation with two of our models, assisted or alone, as a program: the benchmark's outside peer.

Nothing of this project's cache, masks or attention takes part: models are loaded as anybody would load them (padded
alike where the nodes' are), and `generate` does the rest, with the library's own defaults for the draft's length.

    in:  a line with the two specs, threads, cores and end-of-sequence ids; then one per prompt, {"ids", "known",
         "max_tokens", "assisted"}
    out: {} when loaded; then a line per prompt, {"ids", "seconds", "first", "prompt"}
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedModel
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging as transformers_logging

from amusd_mp.core.model import ModelSpec
from amusd_mp.engine.padding import pad
from amusd_mp.engine.random_init import randomize
from amusd_mp.engine.source import explained, resolve


class FirstToken(BaseStreamer):
    """Notes when the first tokens after the prompt came."""

    def __init__(self) -> None:
        self.at: float | None = None
        self._prompt_seen = False

    def put(self, value: Tensor) -> None:
        if self._prompt_seen and self.at is None:
            self.at = time.perf_counter()
        self._prompt_seen = True

    def end(self) -> None:
        """Nothing is buffered."""


def load_plain(spec: ModelSpec) -> PreTrainedModel:
    """Load a model as transformers does by default. Raises ModelError."""
    source = resolve(spec.model)
    origin: dict[str, Any] = {"revision": spec.revision, "trust_remote_code": spec.trust_remote_code}
    dtype = spec.dtype if spec.dtype == "auto" else getattr(torch, spec.dtype)
    auto: Any = AutoModelForCausalLM
    with explained(source, spec.revision, spec.trust_remote_code):
        net: PreTrainedModel
        if source.seed is None:
            net = auto.from_pretrained(source.where, dtype=dtype, use_safetensors=True, **origin)
        else:
            config = AutoConfig.from_pretrained(source.where, **origin)
            net = randomize(auto.from_config(config, dtype=config.dtype if dtype == "auto" else dtype), source.seed)
        return pad(net.to(spec.device).eval(), spec.pad_layers, spec.model)  # type: ignore[arg-type]


class Pair:
    """Both models, ready to generate."""

    def __init__(self, verify: ModelSpec, draft: ModelSpec, eos_ids: Sequence[int]) -> None:
        """Load. `eos_ids` empty: generation ends at its length alone. Raises ModelError."""
        self._verify = load_plain(verify)
        self._draft = load_plain(draft)
        for net in (self._verify, self._draft):
            generation: Any = net.generation_config
            generation.eos_token_id = list(eos_ids) or None
            generation.pad_token_id = 0

    def generate(self, ids: Sequence[int], max_tokens: int, known: int, assisted: bool) -> dict[str, Any]:
        """Return output ids, seconds, and seconds to the first of them, greedily, with or without the draft.

        `prompt` are the seconds of them that the first `known` tokens of the prompt take.
        """
        prompt = torch.tensor([list(ids)], device=self._verify.device)
        models = (self._verify, self._draft) if assisted else (self._verify,)
        for_prompt = sum(_prompt_seconds(net, prompt[:, :known].to(net.device)) for net in models)
        first = FirstToken()
        generate: Any = self._verify.generate
        began = time.perf_counter()
        with torch.inference_mode():
            out: Tensor = generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=False,
                max_new_tokens=max_tokens,
                streamer=first,
                **({"assistant_model": self._draft} if assisted else {}),
            )
        found = out[0, len(ids) :].tolist()
        ended = time.perf_counter()
        return {"ids": found, "seconds": ended - began, "first": (first.at or ended) - began, "prompt": for_prompt}


def _prompt_seconds(net: PreTrainedModel, prompt: Tensor) -> float:
    """Return what a prompt costs a model that has not seen it: a pass over it, less one over a single token.

    That one comes behind the prompt: a cache with sliding windows does not take its last token back.
    """
    if prompt.shape[1] < 2:
        return 0.0
    cache = DynamicCache(config=net.config)
    whole = _pass_seconds(net, prompt, cache)
    return max(0.0, whole - _pass_seconds(net, prompt[:, -1:], cache))


def _pass_seconds(net: PreTrainedModel, ids: Tensor, cache: DynamicCache) -> float:
    """Return the seconds of a pass that continues a cache, for the next token alone, as `generate` makes it."""
    last: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in signature(type(net).forward).parameters else {}
    began = time.perf_counter()
    with torch.inference_mode():
        net(input_ids=ids, past_key_values=cache, use_cache=True, **last).logits[0, -1].argmax().item()
    return time.perf_counter() - began


def main() -> None:
    """Answer lines until the input ends."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    job: Mapping[str, Any] = json.loads(sys.stdin.readline())
    if job["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job["cores"])
    torch.set_num_threads(job["threads"])
    eos = [] if job["ignore_eos"] else job["eos_ids"]
    pair = Pair(ModelSpec(**job["verify"]), ModelSpec(**job["draft"]), eos)
    _say({})
    with suppress(KeyboardInterrupt):  # Ctrl-C reaches the whole group; whoever started this one says what happened
        for line in sys.stdin:
            _say(pair.generate(**json.loads(line)))


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
