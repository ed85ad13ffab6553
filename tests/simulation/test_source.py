"""Rule: a simulated model's name says all of it, and a name that does not is refused with the remedy."""

from __future__ import annotations

import pytest

from amusd_mp.core.model import ModelSpec
from amusd_mp.core.params import GenerationParams
from amusd_mp.core.step import Block, Step
from amusd_mp.errors import ModelError
from amusd_mp.node.lifecycle import load_model
from amusd_mp.testing.simulation.source import SimulatedSource, parse


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("simulated:verify?step_ms=30&token_ms=0.8", SimulatedSource("verify", 30.0, 0.8)),
        ("simulated:draft?step_ms=1.5&acceptance=0.7", SimulatedSource("draft", 1.5, acceptance=0.7)),
        ("simulated:draft?step_ms=0&token_ms=1&acceptance=0&seed=7", SimulatedSource("draft", 0.0, 1.0, 0.0, 7)),
    ],
)
def test_a_name_is_read_and_written(name: str, source: SimulatedSource) -> None:
    assert parse(name) == source
    assert parse(str(source)) == source
    assert str(source) == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("simulated:", "write simulated:verify?step_ms=30"),
        ("simulated:other?step_ms=1", "write simulated:verify?step_ms=30"),
        ("simulated:verify", "step_ms is missing"),
        ("simulated:verify?step_ms=x", "step_ms must be a number from 0 to 1e+06, not 'x'"),
        ("simulated:verify?step_ms=nan", "step_ms must be a number"),
        ("simulated:verify?step_ms=-1", "step_ms must be a number"),
        ("simulated:verify?step_ms=1&step_ms=2", "step_ms is given twice"),
        ("simulated:verify?step_ms=1&acceptance=0.5", "'acceptance' is unknown for a verify; there are step_ms"),
        ("simulated:draft?step_ms=1&acceptance=1.5", "acceptance must be a number from 0 to 1"),
        ("simulated:draft?step_ms=1&seed=-2", "seed must be a number from 0 to 4294967295"),
        ("simulated:draft?step_ms=1&", "'' is unknown for a draft"),
    ],
)
def test_a_wrong_name_is_refused_with_the_remedy(name: str, problem: str) -> None:
    with pytest.raises(ModelError) as refused:
        parse(name)
    assert str(refused.value).startswith(f"model {name!r}: ")
    assert problem in str(refused.value)


def test_a_node_loads_it_and_its_steps_take_their_time() -> None:
    spec = ModelSpec("simulated:verify?step_ms=3&token_ms=2", max_sequences=2, max_length=64)
    model = load_model(spec, lambda what, share: None).model
    assert (model.card.name, model.card.device, model.card.max_length) == (spec.model, "simulated", 64)
    assert model.rows == 2
    block = Block("one", 0, 0, (1, 2, 3), 1, GenerationParams(), 3)
    result = model.run(Step(1, (block,)))
    assert result.seconds >= 0.007
    draft = load_model(ModelSpec("simulated:draft?step_ms=0"), lambda what, share: None).model
    assert draft.card.fingerprint == model.card.fingerprint
    assert draft.run(Step(1, (block,))).picked == result.picked


def test_there_is_nothing_to_pad() -> None:
    with pytest.raises(ModelError, match="remove pad_layers"):
        load_model(ModelSpec("simulated:verify?step_ms=1", pad_layers=2), lambda what, share: None)
