"""Rule: the noise is the published generator's, bit for bit in every implementation, and cutting changes no choice."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amusd_mp.core import noise as plain
from amusd_mp.engine import noise

# counter, key, output: the philox4x32-10 lines of Random123's tests/kat_vectors (1.09), the authors' own answers.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

# seed, position, token, first output word, noise. A release that changes one of these changes everybody's texts.
GOLDEN = [
    (0x0, 0, 0, 0x6627E8D5, 0.08482025111138775),
    (0x1, 5, 2, 0xF5D6C724, 3.2064362367045147),
    (0x2A, 128, 4095, 0x8C3A92AD, 0.5076605284797585),
    (0xFFFFFFFF, 17, 50256, 0x5F773AFA, 0.013683223622666253),
    (0x100000000, 17, 50256, 0x3FCE451A, -0.3288246821806097),
    (0x123456789ABCDEF0, 100000, 128255, 0xD9D842A8, 1.8239022823363222),
    (0xFFFFFFFFFFFFFFFF, 1, 1, 0x8B1CC081, 0.4944670992087588),
]

SEEDS = (0, 1, 0xFFFFFFFF, 1 << 32, 0x123456789ABCDEF0, (1 << 64) - 1)
POSITIONS = (0, 1, 17, 4095, 131071)


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN)
def test_the_reference_gives_the_published_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], output: tuple[int, int, int, int]
) -> None:
    assert plain.philox(counter, key) == output


@pytest.mark.parametrize(("seed", "position", "token", "word", "value"), GOLDEN)
def test_golden_vectors(seed: int, position: int, token: int, word: int, value: float) -> None:
    key = plain.key_words(seed)
    assert plain.philox((token, position, 0, 0), key)[0] == word
    assert plain.gumbel(seed, position, token) == pytest.approx(value, rel=1e-14)
    ids, at = torch.tensor([token]), torch.tensor([position])
    assert noise.words(ids, at, key).tolist() == [word]
    assert noise.gumbel(ids, at, key).tolist() == [pytest.approx(value, rel=1e-14)]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**31), st.integers(0, 2**20))
@settings(max_examples=200)
def test_tensors_hold_the_references_bits(seed: int, position: int, token: int) -> None:
    key = plain.key_words(seed)
    expected = plain.philox((token, position, 0, 0), key)[0]
    assert noise.words(torch.tensor([token]), torch.tensor([position]), key).tolist() == [expected]


def test_keys_may_differ_per_row() -> None:
    ids = torch.arange(40)
    key = tuple(torch.tensor([plain.key_words(seed)[half] for seed in SEEDS])[:, None] for half in (0, 1))
    for position in POSITIONS:
        got = noise.words(ids, torch.tensor(position), (key[0], key[1])).tolist()
        assert got == [
            [plain.philox((token, position, 0, 0), plain.key_words(seed))[0] for token in range(40)] for seed in SEEDS
        ]


def test_the_bounds_are_those_of_the_extreme_words() -> None:
    def of(word: int) -> float:
        return -math.log(-math.log((word + 0.5) / 2**32))

    assert pytest.approx(of(0), abs=1e-12) == plain.LOWEST
    assert pytest.approx(of(0xFFFFFFFF), abs=1e-6) == plain.HIGHEST
    assert plain.HIGHEST - plain.LOWEST < 26.05


def test_it_is_gumbel_noise() -> None:
    draws = noise.gumbel(torch.arange(200_000), torch.tensor(3), plain.key_words(99))
    assert abs(float(draws.mean()) - 0.5772) < 0.01  # Euler's constant; standard error 0.003
    assert abs(float(draws.var()) - math.pi**2 / 6) < 0.03
    # Kolmogorov-Smirnov against the Gumbel distribution; 1.95 is the 0.1 % point.
    ordered = torch.exp(-torch.exp(-draws.sort().values))
    steps = torch.arange(1, len(draws) + 1, dtype=torch.float64) / len(draws)
    assert float((ordered - steps).abs().max()) * math.sqrt(len(draws)) < 1.95


def everything(scores: torch.Tensor, seeds: list[int], positions: list[int]) -> list[int]:
    """Return the arg-max with noise for every entry of every row."""
    ids = torch.arange(scores.shape[1])
    rows = zip(scores.double(), seeds, positions, strict=True)
    return [int((row + noise.gumbel(ids, torch.tensor(at), plain.key_words(seed))).argmax()) for row, seed, at in rows]


@pytest.mark.parametrize("size", [1, 7, 97, 4096, noise.LARGE + 5, 2 * noise.CHUNK + 3])
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0, 9.0, 300.0])
def test_leaving_out_what_cannot_win_changes_nothing(size: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(size)
    scores = torch.randn(24, size, generator=generator) * spread
    scores[3, size // 2 :] = -torch.inf
    seeds, positions = [(at // 4) * 0x9E3779B97F4A7C15 % 2**64 for at in range(24)], [at % 9 for at in range(24)]
    assert noise.noisy_argmax(scores, seeds, positions).tolist() == everything(scores, seeds, positions)
    same = [5] * 24
    assert noise.noisy_argmax(scores, same, positions).tolist() == everything(scores, same, positions)


def test_a_row_of_nan_yields_an_id_and_spoils_no_other() -> None:
    scores = torch.randn(3, 500, generator=torch.Generator().manual_seed(1)) * 20
    expected = everything(scores, [1, 1, 1], [0, 1, 2])
    scores[1] = torch.nan
    chosen = noise.noisy_argmax(scores, [1, 1, 1], [0, 1, 2]).tolist()
    assert [chosen[0], chosen[2]] == [expected[0], expected[2]]
    assert 0 <= chosen[1] < 500


def test_an_entry_at_the_very_edge_of_the_cut_is_kept() -> None:
    """The lowest noise for the best entry and the highest for another: the cut must not reach such a pair."""
    gap = plain.HIGHEST - plain.LOWEST
    scores = torch.tensor([[0.0, -gap, -gap - 1e-3]], dtype=torch.float64)
    best = scores.max(dim=-1).values
    edge = best + (plain.LOWEST - plain.HIGHEST) - noise.SLACK
    assert (scores >= edge[:, None]).tolist() == [[True, True, False]]


def test_on_a_large_vocabulary_unlikely_entries_do_win() -> None:
    """Flat scores under one peak: the tail's share of the choices is its share of the probability."""
    size, rows = noise.LARGE, 400
    scores = torch.zeros(1, size)
    scores[0, 11] = math.log(size)  # about one half
    chosen = noise.noisy_argmax(scores.expand(rows, -1), [random.Random(1).getrandbits(64)] * rows, list(range(rows)))
    share = float((chosen == 11).double().mean())
    assert abs(share - 0.5) < 4 * math.sqrt(0.25 / rows)


def test_ties_go_to_the_lowest_id_only_by_noise() -> None:
    """Equal scores are decided by noise alone, -inf everywhere by the id."""
    assert noise.noisy_argmax(torch.full((2, 5), -torch.inf), [1, 2], [0, 0]).tolist() == [0, 0]
    chosen = noise.noisy_argmax(torch.zeros(500, 5), [7] * 500, list(range(500)))
    assert set(chosen.tolist()) == {0, 1, 2, 3, 4}
