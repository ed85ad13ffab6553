"""Loading gives a card that is true, and every wrong spec or broken folder is one clear error."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amusd_mp.core.model import ModelSpec
from amusd_mp.core.step import Step
from amusd_mp.engine.loading import load
from amusd_mp.engine.model import SlotModel
from amusd_mp.engine.source import BUNDLED
from amusd_mp.errors import ModelError

SPEC = ModelSpec("bundled:draft", dtype="float32", max_sequences=2, max_length=64, threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled draft model, to be damaged."""
    return Path(shutil.copytree(BUNDLED / "draft", tmp_path / "model"))


def edit(folder: Path, name: str, **changes: object) -> None:
    path = folder / name
    path.chmod(0o644)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_card_tells_what_was_loaded() -> None:
    told: list[float] = []
    loaded = load(SPEC, lambda what, share: told.append(share))
    card = loaded.model.card
    assert (card.name, card.device, card.dtype, card.attention) == ("bundled:draft", "cpu", "float32", "slot")
    assert (card.max_length, card.eos_ids, card.parameters) == (64, (0,), 918144)
    assert card.fingerprint.vocabulary == 4096
    assert loaded.model.rows == 2
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)


def test_the_checkpoints_own_dtype_and_length_are_the_default() -> None:
    card = load(replace(SPEC, dtype="auto", max_length=None, max_sequences=1)).model.card
    assert (card.dtype, card.max_length) == ("bfloat16", 2048)


def test_a_pair_shares_its_fingerprint() -> None:
    verify = load(replace(SPEC, model="bundled:verify")).model.card.fingerprint
    assert verify == load(SPEC).model.card.fingerprint


def test_random_weights_depend_on_the_seed_alone(block: object) -> None:
    def logits(name: str) -> torch.Tensor:
        model = load(replace(SPEC, model=name)).model
        return model.score(Step(0, (block(0, 0, (5, 6, 7)),)))  # type: ignore[operator]

    same, again, other = (logits(f"random:bundled:draft?seed={seed}") for seed in (7, 7, 8))
    assert torch.equal(same, again)
    assert not torch.allclose(same, other)


def test_eos_ids_are_a_set_from_generation_config_and_tokenizer(folder: Path) -> None:
    edit(folder, "generation_config.json", eos_token_id=[7, 5, 99999])
    assert load(replace(SPEC, model=str(folder))).model.card.eos_ids == (0, 5, 7)


def test_sdpa_is_an_option_and_gives_the_same_logits(block: object) -> None:
    step = Step(0, (block(0, 0, (5, 6, 7)), block(1, 0, (8,))))  # type: ignore[operator]
    ours, theirs = (load(replace(SPEC, attention=name)).model for name in ("slot", "sdpa"))
    assert theirs.card.attention == "sdpa"
    assert torch.allclose(ours.score(step), theirs.score(step), atol=1e-4)


def test_a_model_that_keeps_its_own_sdpa_is_served_and_says_so(folder: Path) -> None:
    falcon = {"model_type": "falcon", "vocab_size": 4096, "hidden_size": 32, "num_hidden_layers": 2}
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**falcon, "num_attention_heads": 4, "alibi": False}))
    assert load(replace(SPEC, model=f"random:{folder}")).model.card.attention == "sdpa"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "cuda:99"}, "cuda:99.*CUDA_VISIBLE_DEVICES"),
        ({"device": "cuda"}, "cuda:N"),
        ({"device": "tpu"}, "cpu, mps or cuda:N"),
        ({"dtype": "int4"}, "one of float32, bfloat16"),
        ({"attention": "flash"}, "one of slot, sdpa"),
        ({"max_length": 4096}, "outside 1 to 2048"),
        ({"max_length": 0}, "outside 1 to 2048"),
        ({"max_sequences": 0}, "at least 1"),
    ],
)
def test_a_wrong_spec_names_value_and_remedy(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load(replace(SPEC, **change))  # type: ignore[arg-type]
    assert caught.value.model == "bundled:draft"


def test_weights_other_than_safetensors_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load(replace(SPEC, model=str(folder)))


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    edit(folder, "config.json", num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"lack .* weights, model\.layers\.2"):
        load(replace(SPEC, model=str(folder)))


def test_a_model_with_its_own_code_needs_a_word(folder: Path) -> None:
    (folder / "own.py").write_text("raise SystemExit('this must not run')")
    edit(folder, "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})
    with pytest.raises(ModelError, match="trust_remote_code = true"):
        load(replace(SPEC, model=str(folder)))


def test_a_recurrent_model_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba", "vocab_size": 97, "hidden_size": 32}))
    with pytest.raises(ModelError, match=r"MambaForCausalLM.*linear_attention"):
        load(replace(SPEC, model=str(tmp_path)))


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (torch.OutOfMemoryError("CUDA: Tried to allocate 2 GiB"), "no memory for 2 rows of 64 tokens on cpu; lower"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1"), "no memory for 2 rows of 64 tokens on cpu"),
        (RuntimeError("CUDA error: an illegal memory access was encountered\nmore"), "cpu failed with 2 rows of 64"),
        (RuntimeError("CUDA error: no kernel image"), r"cpu failed with .*\(RuntimeError: CUDA error: no kernel image"),
        (RuntimeError(), r"cpu failed with 2 rows of 64 tokens \(RuntimeError: RuntimeError\)"),
    ],
)
def test_what_a_device_raises_is_told_as_what_it_is(
    error: RuntimeError, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: SlotModel) -> None:
        raise error

    monkeypatch.setattr(SlotModel, "warm_up", fail)
    with pytest.raises(ModelError, match=f"bundled:draft: {problem}"):
        load(SPEC)


def test_a_closed_model_says_so_and_closes_twice(block: object) -> None:
    model = load(SPEC).model
    model.close()
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        model.run(Step(0, (block(0, 0, (5,)),)))  # type: ignore[operator]


def test_a_hub_model_that_is_not_in_the_cache_is_named_when_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE.*hf download no-such-org/no-such-model"):
        load(replace(SPEC, model="no-such-org/no-such-model"))
