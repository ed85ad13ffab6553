"""Every key is documented, the page says what the schema says, and no default is written twice differently."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from amusd_mp.config import load_deployment
from amusd_mp.config.document import table
from amusd_mp.config.schema import SECTIONS, NodeConfig, SpeculationConfig, known_keys
from amusd_mp.core.model import ModelSpec
from amusd_mp.core.params import Speculation

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))

KEYS = {
    "nodes": {
        *("role", "model", "device", "dtype", "host", "listen", "address", "dial", "threads", "cores"),
        *("max_sequences", "max_length", "revision", "trust_remote_code", "attention", "fixed_shapes", "pad_layers"),
        *("draft_temperature", "api_key", "api_key_from", "resubmit", "key", "restart"),
    },
    "speculation": {"strategy", "lookahead"},
    "security": {"insecure", "server_key", "allow", "client_key"},
}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_keys_are_these_and_each_has_its_row(section: str) -> None:
    assert set(known_keys(section)) == KEYS[section]
    assert table(section) in PAGE, "put amusd_mp.config.document.table(...) into docs/configuration.md"
    assert all(field.description for field in SECTIONS[section].model_fields.values())


def test_defaults_are_those_of_the_core() -> None:
    spec = {field.name: field.default for field in dataclasses.fields(ModelSpec) if field.name != "model"}
    assert {name: NodeConfig.model_fields[name].default for name in spec} == spec
    assert SpeculationConfig().rule() == Speculation()


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_the_configs_that_come_with_the_project_are_right(file: Path) -> None:
    deployment = load_deployment(file, environ={})
    assert deployment.dial_url("draft") == deployment.url_for(deployment.verify())
    assert file.read_text(encoding="utf-8").startswith("# ")


def test_the_configs_are_these() -> None:
    bench = [f"bench-{regime}" for regime in ("fast-draft", "paper", "random-draft", "simulated", "slow-draft")]
    assert [file.stem for file in CONFIGS] == [*bench, "cpu-draft", "demo", "one-gpu", "serve", "two-gpus", "two-hosts"]
