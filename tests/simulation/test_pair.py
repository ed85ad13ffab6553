"""Rule: a simulated pair obeys what can be computed by hand, and asynchronous speculation keeps its promises."""

from __future__ import annotations

import pytest

from amusd_mp.testing.simulation import simulate_pair


def test_the_verify_model_alone_takes_its_step_for_each_token_whatever_the_delay() -> None:
    for delay_ms in (0, 30):
        result = simulate_pair(
            verify_ms=20, draft_ms=5, acceptance=0.8, delay_ms=delay_ms, strategy="autoregressive", tokens=100
        )
        assert result.ms_per_token == pytest.approx(20)
        assert result.overlap == 0


def test_a_perfect_draft_under_alternating_makes_exactly_k_more_tokens_a_round() -> None:
    result = simulate_pair(
        verify_ms=20, draft_ms=5, acceptance=1.0, delay_ms=3, strategy="alternating", lookahead=4, tokens=201
    )
    # its first round it drafts beside the prefill
    assert result.ms_per_token == pytest.approx((20 + 4 * 5 + 2 * 3) / 5, rel=0.01)
    assert result.mean_acceptance_length == pytest.approx(5)


def test_both_devices_at_once_beat_taking_turns_and_more_so_over_a_network() -> None:
    gains = []
    for delay_ms in (0, 20):
        pair = {"verify_ms": 20.0, "draft_ms": 5.0, "acceptance": 0.85, "delay_ms": float(delay_ms), "tokens": 300}
        turns = min(simulate_pair(**pair, strategy="alternating", lookahead=k).ms_per_token for k in (2, 3, 5))
        both = simulate_pair(**pair)
        assert both.ms_per_token < min(turns, 20)
        assert both.overlap > 0.5
        gains.append(turns / both.ms_per_token)
    assert gains[0] < gains[1]


@pytest.mark.parametrize("draft_ms", [5, 50])
def test_a_useless_draft_costs_next_to_nothing(draft_ms: float) -> None:
    result = simulate_pair(verify_ms=20, draft_ms=draft_ms, acceptance=0.02, verify_ms_per_token=0.4, tokens=300)
    assert result.ms_per_token < 20 * 1.05


def test_the_same_seed_gives_the_same_answer() -> None:
    once, again = (
        simulate_pair(verify_ms=20, draft_ms=5, acceptance=0.7, delay_ms=2, sequences=2, tokens=80) for _ in range(2)
    )
    assert once == again


def test_a_recorded_agreement_is_what_the_draft_guesses() -> None:
    """Two of three tokens are guessed: with k = 2 each round is a draft's two steps, and yields three tokens."""
    recorded = [[True, True, False] * 20] * 2
    result = simulate_pair(
        verify_ms=20, draft_ms=5, acceptance=0.0, strategy="alternating", lookahead=2, agreement=recorded
    )
    assert result.mean_acceptance_length == pytest.approx(3, rel=0.05)
    assert result.ms_per_token == pytest.approx((20 + 2 * 5) / 3, rel=0.1)
