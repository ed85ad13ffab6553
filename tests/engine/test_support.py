"""Models that the slot cache cannot serve are refused by name, before any weight is read."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from transformers import AutoModelForCausalLM

from amusd_mp.engine.support import length_limit, refusal

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}


def reason(name: str, **settings: Any) -> str | None:
    config = getattr(transformers, name)(**settings)
    return refusal(config, AutoModelForCausalLM._model_mapping[type(config)])


@pytest.mark.parametrize(
    ("name", "settings", "because"),
    [
        ("MambaConfig", {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2}, "mamba|recurrent|linear"),
        ("RecurrentGemmaConfig", SMALL, "recurrent|linear_attention"),
        ("JambaConfig", {**SMALL, "num_key_value_heads": 2}, "mamba|hybrid|linear|recurrent"),
        ("Qwen3NextConfig", {**SMALL, "num_hidden_layers": 4}, "linear_attention"),
        ("Lfm2Config", {**SMALL, "layer_types": ["conv", "full_attention"]}, "conv"),
        ("BloomConfig", {"vocab_size": 97, "hidden_size": 32}, "alibi"),
        ("MptConfig", {"vocab_size": 97, "d_model": 32}, "alibi"),
        ("FalconConfig", {"vocab_size": 97, "hidden_size": 64, "alibi": True}, "alibi"),
        ("RwkvConfig", {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2}, "recurrent|position_ids"),
    ],
)
def test_what_is_not_pure_attention_is_refused(name: str, settings: dict[str, Any], because: str) -> None:
    found = reason(name, **settings)
    assert found is not None
    assert any(word in found.lower() for word in because.split("|")), found


def test_an_encoder_decoder_is_refused() -> None:
    found = refusal(transformers.T5Config(), None)
    assert found is not None
    assert "encoder-decoder" in found


@pytest.mark.parametrize("name", ["LlamaConfig", "Gemma2Config", "GPT2Config", "MixtralConfig", "GptOssConfig"])
def test_attention_models_are_not(name: str) -> None:
    assert reason(name) is None


def test_a_stretched_rope_is_served_up_to_its_original_length() -> None:
    plain = transformers.LlamaConfig(max_position_embeddings=512)
    assert length_limit(plain) == 512
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 128}
    assert length_limit(transformers.LlamaConfig(max_position_embeddings=512, rope_parameters=rope)) == 128
    config = transformers.Phi3Config(max_position_embeddings=512, original_max_position_embeddings=64)
    size = config.hidden_size // config.num_attention_heads // 2
    config.rope_parameters = {"rope_type": "longrope", "short_factor": [1.0] * size, "long_factor": [2.0] * size}
    assert length_limit(config) == 64
