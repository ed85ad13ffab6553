"""From a `ModelSpec` to a model that is loaded, checked against plain forward passes, and warm.

Order matters: what can be refused from names is refused before weights are read, the numeric check runs before the
cache takes its memory, and the first request finds everything initialised and, on a GPU, the memory of large steps
allocated (on a CPU the cache grows). Only safetensors are read, the dtype is always explicit, and custom code runs only
where the spec says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from amusd_mp.core.model import ModelCard, ModelSpec
from amusd_mp.engine import attention, support
from amusd_mp.engine.check import check
from amusd_mp.engine.linear import suit, suited
from amusd_mp.engine.model import SlotModel
from amusd_mp.engine.padding import pad, padded_name
from amusd_mp.engine.random_init import randomize
from amusd_mp.engine.source import Source, explained, resolve
from amusd_mp.engine.tokenizer import ModelTokenizer
from amusd_mp.errors import ModelError
from amusd_mp.runtime import OnProgress

DEFAULT_LENGTH: Final = 4096
"""Slots per row unless asked for: a GPU's cache is allocated in full, and a 128k context would take all of it."""

DTYPES: Final = ("float32", "bfloat16", "float16", "auto")
ATTENTION: Final = {"slot": attention.NAME, "sdpa": "sdpa"}

NO_MEMORY: Final = ("out of memory", "allocate memory", "not enough memory", "ALLOC_FAILED")
"""How devices say that they have none left; torch has a type of its own for that on some of them only."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with its tokenizer, ready to use."""

    model: SlotModel
    tokenizer: ModelTokenizer


def load(spec: ModelSpec, progress: OnProgress = lambda what, share: None) -> LoadedModel:
    """Load, check and warm up a model. Blocks; `progress` is called on the same thread.

    Raises ModelError, naming the model and the remedy, for everything that is wrong with the spec or the model.
    """
    source = resolve(spec.model)
    device = _device(spec)
    _known(spec, "dtype", spec.dtype, DTYPES)
    _known(spec, "attention", spec.attention, tuple(ATTENTION))
    if spec.max_sequences < 1:
        raise ModelError(f"{spec.model}: max_sequences must be at least 1, not {spec.max_sequences}", model=spec.model)
    if spec.pad_layers < 0:
        raise ModelError(f"{spec.model}: pad_layers must not be negative, as {spec.pad_layers} is", model=spec.model)
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    attention.register()
    origin: dict[str, Any] = {"revision": spec.revision, "trust_remote_code": bool(spec.trust_remote_code)}
    with explained(source, spec.revision, spec.trust_remote_code):
        progress("configuration", 0.0)
        config = AutoConfig.from_pretrained(source.where, **origin)
        _refuse(spec, config, _class_of(config))
        length = _length(spec, config)
        progress("tokenizer", 0.05)
        tokenizer = ModelTokenizer(AutoTokenizer.from_pretrained(source.where, **origin), spec.model)
        progress("weights", 0.1)
        net = _weights(spec, source, config, origin)
        _refuse(spec, config, type(net))
        progress("device", 0.7)
        with _memory(spec, "its weights", "take a smaller model or dtype, or another device"):
            net = net.to(device).eval()  # type: ignore[arg-type]
        net = pad(net, spec.pad_layers, spec.model)
    card = _card(spec, net, tokenizer, length, _attach(spec, net))
    if kind := suited(device, net.dtype):
        suit(net, kind)
    progress("check", 0.8)
    check(net, card)
    progress("cache", 0.9)
    model = SlotModel(net, card, spec.max_sequences, fixed_shapes=spec.fixed_shapes)
    with _memory(spec, f"{spec.max_sequences} rows of {length} tokens", "lower max_sequences or max_length"):
        model.warm_up()
    progress("ready", 1.0)
    return LoadedModel(model, tokenizer)


@contextmanager
def _memory(spec: ModelSpec, what: str, remedy: str) -> Iterator[None]:
    """Turn what a device raises into a ModelError; the remedy is for one that is too small."""
    try:
        yield
    except RuntimeError as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in NO_MEMORY):
            problem = f"no memory for {what} on {spec.device}; {remedy} ({first})"
        else:
            problem = f"{spec.device} failed with {what} ({type(error).__name__}: {first})"
        raise ModelError(f"{spec.model}: {problem}", model=spec.model) from error


def _known(spec: ModelSpec, key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ModelError(f"{spec.model}: {key} {value!r} is unknown; one of {', '.join(known)}", model=spec.model)


def _device(spec: ModelSpec) -> torch.device:
    """Return the device. Raises ModelError when this process has no such device."""
    kind, _, index = spec.device.partition(":")
    if spec.device == "cpu":
        return torch.device("cpu")
    if spec.device == "mps":
        if torch.backends.mps.is_available():
            return torch.device("mps")
        raise ModelError(f"{spec.model}: this machine has no mps device; use cpu or cuda:N", model=spec.model)
    if kind == "cuda" and index.isdecimal():
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index) < count:
            return torch.device("cuda", int(index))
        seen = f"sees cuda:0 to cuda:{count - 1} only" if count else "sees no CUDA device"
        raise ModelError(
            f"{spec.model}: device {spec.device!r}, but this process {seen}; "
            "check the driver, CUDA_VISIBLE_DEVICES and that torch was built with CUDA",
            model=spec.model,
        )
    raise ModelError(f"{spec.model}: device {spec.device!r} is unknown; cpu, mps or cuda:N", model=spec.model)


def _refuse(spec: ModelSpec, config: PreTrainedConfig, kind: type | None) -> None:
    reason = support.refusal(config, kind)
    if reason:
        name = kind.__name__ if kind else config.model_type
        raise ModelError(f"{spec.model} ({name}) cannot be served: {reason}", model=spec.model)


def _class_of(config: PreTrainedConfig) -> type | None:
    """Return the class transformers would load, None when it comes with the model's own code."""
    known = AutoModelForCausalLM._model_mapping.get(type(config), None)
    return known[0] if isinstance(known, tuple) else known


def _length(spec: ModelSpec, config: PreTrainedConfig) -> int:
    """Return the slots per row. Raises ModelError when more are asked for than the model is exact for."""
    limit = support.length_limit(config)
    if spec.max_length is None:
        return min(limit or DEFAULT_LENGTH, DEFAULT_LENGTH)
    if spec.max_length < 1 or (limit is not None and spec.max_length > limit):
        raise ModelError(
            f"{spec.model}: max_length {spec.max_length} is outside 1 to {limit}, what the model is exact for",
            model=spec.model,
        )
    return spec.max_length


def _weights(spec: ModelSpec, source: Source, config: PreTrainedConfig, origin: dict[str, Any]) -> PreTrainedModel:
    dtype = spec.dtype if spec.dtype == "auto" else getattr(torch, spec.dtype)
    if source.seed is not None:
        resolved = config.dtype or torch.float32 if dtype == "auto" else dtype
        auto: Any = AutoModelForCausalLM
        drawn: PreTrainedModel = auto.from_config(config, dtype=resolved, trust_remote_code=origin["trust_remote_code"])
        return randomize(drawn, source.seed)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        source.where, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **origin
    )
    net: PreTrainedModel = loaded[0]
    info: dict[str, Any] = loaded[1]
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            f"{spec.model}: its files lack {len(missing)} weights, {missing[0]} among them; they would be random",
            model=spec.model,
        )
    return net


def _attach(spec: ModelSpec, net: PreTrainedModel) -> str:
    """Switch the model to the asked-for attention and return the one it really has: some ignore the request.

    Staying with sdpa is fine, it selects with boolean masks too. Raises ModelError for anything else.
    """
    text = net.config.get_text_config(decoder=True)
    if spec.attention == "sdpa" and getattr(text, "attn_logit_softcapping", None):
        raise ModelError(f"{spec.model}: sdpa leaves out its soft cap; use attention = 'slot'", model=spec.model)
    try:
        net.set_attn_implementation(ATTENTION[spec.attention])
    except ValueError as error:
        raise ModelError(f"{spec.model}: cannot use {spec.attention} attention: {error}", model=spec.model) from error
    for name, implementation in ATTENTION.items():
        if text._attn_implementation == implementation:
            return name
    raise ModelError(
        f"{spec.model} ({type(net).__name__}) cannot be served: its attention stays {text._attn_implementation}",
        model=spec.model,
    )


def _card(spec: ModelSpec, net: PreTrainedModel, tokenizer: ModelTokenizer, length: int, attends: str) -> ModelCard:
    embedding: Any = net.get_input_embeddings()
    fingerprint = tokenizer.fingerprint(int(embedding.weight.shape[0]))
    generation = getattr(net, "generation_config", None)
    stated = getattr(generation, "eos_token_id", None)
    eos = set(stated if isinstance(stated, list) else [stated]) | {tokenizer.eos_id}
    return ModelCard(
        name=padded_name(spec.model, spec.pad_layers),
        fingerprint=fingerprint,
        max_length=length,
        eos_ids=tuple(sorted(at for at in eos if isinstance(at, int) and 0 <= at < fingerprint.vocabulary)),
        parameters=net.num_parameters(),
        device=spec.device,
        dtype=str(net.dtype).removeprefix("torch."),
        attention=attends,
        defaults=sampling_defaults(generation),
    )


def sampling_defaults(generation: Any) -> tuple[tuple[str, int | float], ...]:
    """Return the sampling parameters a `generation_config` asks for; a model that does not ask to sample is greedy."""
    stated: dict[str, int | float | None] = {"repetition_penalty": getattr(generation, "repetition_penalty", None)}
    if getattr(generation, "do_sample", None):
        temperature = getattr(generation, "temperature", None)
        stated["temperature"] = 1.0 if temperature is None else temperature
        stated |= {name: getattr(generation, name, None) for name in ("top_p", "top_k", "min_p")}
    return tuple((name, value) for name, value in stated.items() if value is not None)
