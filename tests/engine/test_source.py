"""A model's name leads to one place or to an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from amusd_mp.engine.source import BUNDLED, explained, resolve
from amusd_mp.errors import ModelError


def test_bundled_models_are_folders_of_the_package() -> None:
    found = resolve("bundled:draft")
    assert (found.where, found.local, found.seed) == (str(BUNDLED / "draft"), True, None)


@pytest.mark.parametrize("name", ["bundled:verifier", "bundled:", "bundled:../bundled/draft/.."])
def test_an_unknown_bundled_model_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ModelError, match="bundled:draft, bundled:verify"):
        resolve(name)


def test_random_weights_take_everything_else_from_the_rest() -> None:
    found = resolve("random:bundled:draft?seed=7")
    assert (found.name, found.where, found.seed) == ("random:bundled:draft?seed=7", str(BUNDLED / "draft"), 7)
    assert resolve("random:some/hub-id").seed == 0


@pytest.mark.parametrize("name", ["random:bundled:draft?seed=", "random:bundled:draft?size=3", "random:x/y?seed=-1"])
def test_a_misspelt_seed_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="seed=NUMBER"):
        resolve(name)


def test_a_folder_is_local_and_must_be_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"without config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path)).local


@pytest.mark.parametrize("name", ["/no/such/model", "./nor/this", "a/b/c", "", "not a model"])
def test_a_path_that_is_not_there_is_no_hub_id(name: str) -> None:
    with pytest.raises(ModelError, match="no folder"):
        resolve(name)


def test_a_missing_model_names_the_command_that_fetches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = resolve("some-org/some-model")
    with (
        pytest.raises(ModelError, match=r"HF_HUB_OFFLINE.*hf download some-org/some-model --revision v2") as caught,
        explained(source, "v2", False),
    ):
        raise OSError("no such thing")
    assert caught.value.model == "some-org/some-model"
