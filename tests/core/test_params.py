"""Rule: a refused value is repeated by its beginning alone, however long it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amusd_mp.core.limits import PARAMETER_IDS
from amusd_mp.core.params import SHOWN, GenerationParams, problem
from amusd_mp.errors import Mismatch
from amusd_mp.session.fitness import SHOWN as TOLD
from amusd_mp.session.fitness import compare
from amusd_mp.testing.stub import StubModel, hash_rule


def test_a_parameter_that_is_refused() -> None:
    found = problem(GenerationParams(stop_token_ids=tuple(range(100, 100_000))), vocabulary=97)
    assert found is not None
    name, why = found
    assert name == "stop_token_ids"
    assert why.startswith("stop_token_ids=(100, 101, ")
    assert len(why) < SHOWN + 100
    assert problem(GenerationParams(stop_token_ids=(96,)), 97) is None


@pytest.mark.parametrize("more", [0, 1])
def test_a_parameter_that_would_not_fit_in_a_page(more: int) -> None:
    ids = tuple(range(PARAMETER_IDS + more))
    for params in (GenerationParams(stop_token_ids=ids), GenerationParams(logit_bias=tuple((i, -1.0) for i in ids))):
        found = problem(params, vocabulary=100_000)
        assert (found is not None) == bool(more)
        assert found is None or f"at most {PARAMETER_IDS} ids" in found[1]


def test_a_draft_that_is_refused() -> None:
    card = StubModel(hash_rule(97), 1, 97).card
    special = tuple((f"special {number}", number) for number in range(50_000))
    theirs = replace(card, fingerprint=replace(card.fingerprint, special_ids=special))
    with pytest.raises(Mismatch, match="special_ids") as refused:
        compare(card, theirs)
    assert refused.value.field == "special_ids"
    assert len(refused.value.theirs) == TOLD
    assert len(str(refused.value)) < 3 * TOLD
    compare(card, card)
