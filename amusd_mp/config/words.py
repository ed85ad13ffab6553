"""What to answer to a key we do not know: the nearest of ours, or our word for what other engines call it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_OURS: dict[str, tuple[str, ...]] = {
    "speculation.lookahead": (
        "num_speculative_tokens",
        "gamma",
        "k",
        "num_draft_tokens",
        "num_assistant_tokens",
        "speculation_length",
        "draft_length",
        "max_draft_len",
        "draft_max",
        "num_steps",
    ),
    "speculation.strategy": ("method", "mode", "algorithm", "speculative_algorithm"),
    'model of the node whose role is "draft"': (
        "draft_model",
        "assistant_model",
        "speculative_model",
        "drafter",
        "model_draft",
    ),
    'model of the node whose role is "verify"': ("target_model", "verify_model", "main_model", "base_model"),
    "nodes.NAME.model": ("model_name", "model_id", "model_path", "model_name_or_path", "checkpoint", "path"),
    "nodes.NAME.dtype": ("torch_dtype", "precision", "data_type"),
    "nodes.NAME.device": ("device_map", "gpu", "gpu_id", "cuda"),
    "nodes.NAME.max_length": (
        "max_model_len",
        "max_seq_len",
        "max_sequence_length",
        "context_length",
        "ctx_size",
        "n_ctx",
    ),
    "nodes.NAME.max_sequences": ("max_num_seqs", "max_batch_size", "batch_size", "max_num_sequences", "slots"),
    "nodes.NAME.threads": ("num_threads", "n_threads", "torch_threads", "omp_num_threads"),
    "nodes.NAME.cores": ("cpus", "affinity", "cpu_affinity", "core"),
    "nodes.NAME.attention": ("attn_implementation", "attention_backend", "attn"),
    "nodes.NAME.listen": ("bind", "port", "endpoint", "url"),
    "nodes.NAME.dial": ("connect", "server", "target", "peer"),
    "nodes.NAME.host": ("hostname", "machine"),
    "nodes.NAME.draft_temperature": ("temperature",),
    "security.insecure": ("allow_insecure", "no_auth"),
    "security.server_key": ("public_key", "serverkey", "curve_serverkey"),
    "security.allow": ("allow_list", "allowlist", "authorized_keys"),
    "nodes.NAME.key": ("secret_key", "private_key"),
}
_ABSENT = {
    "tensor_parallel": "a node is bound to one device; there is no tensor parallelism",
    "tensor_parallel_size": "a node is bound to one device; there is no tensor parallelism",
    "tp": "a node is bound to one device; there is no tensor parallelism",
    "pipeline_parallel_size": "a node is bound to one device; there is no pipeline parallelism",
    "world_size": "nodes have names and no ranks; give each a table [nodes.NAME]",
    "rank": "nodes have names and no ranks; give each a table [nodes.NAME]",
    "seed": "a seed belongs to a request, not to the deployment",
    "quantization": "quantized weights are not supported; choose a smaller model or dtype",
}
_ALIASES = {alias: ours for ours, aliases in _OURS.items() for alias in aliases}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant, or None."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def answer(key: str, known: Iterable[str], prefix: str) -> str:
    """Return the second half of "unknown key ...": what to write instead of `key`.

    `known` are the keys of its table, `prefix` is that table's dotted name with a trailing dot, or "".
    """
    known = tuple(known)
    plain = key.lower().replace("-", "_")
    if plain in known:
        return f"write {prefix}{plain}"
    if plain in _ABSENT:
        return _ABSENT[plain]
    if plain in _ALIASES:
        ours = _ALIASES[plain]
        if prefix.startswith("nodes."):
            ours = ours.replace("nodes.NAME.", prefix)
        return f"here that is {ours}"
    meant = nearest(plain, known)
    return f"did you mean {prefix}{meant}?" if meant else f"known: {', '.join(known)}"
