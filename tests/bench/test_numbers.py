"""Rule: definitions are the field's, a speed-up is of pairs, and its interval comes from the records alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from amusd_mp.bench.bound import completed, verify_cost, with_bound
from amusd_mp.bench.differences import Difference, differences
from amusd_mp.bench.records import Answer, Turn, together, yields
from amusd_mp.bench.statistics import Cost, bootstrap, mean_speed_up, spread, total_speed_up
from amusd_mp.bench.summary import compared, results, row
from amusd_mp.bench.tables import beside, lines
from amusd_mp.cli.columns import columns
from amusd_mp.core.messages import Counts, Origin


def answer(contender: str, prompt: str, seconds: float, ids: tuple[int, ...] = (1, 2, 3, 4), **counts: int) -> Answer:
    found = Counts(2, len(ids), seconds=seconds, overlap=0.5, **counts)
    return Answer(contender, prompt, prompt[0], 0, (Turn("text", ids, 2, seconds, 0.1, (2, 2), found),))


def test_a_step_yields_its_accepted_tokens_and_the_models_own() -> None:
    assert list(yields(Origin(letter) for letter in "-aar" + "b" + "aa")) == [1, 3, 1, 2]


def test_total_and_mean_speed_up_weigh_differently() -> None:
    pairs = [(Cost(10.0, 10), Cost(5.0, 10)), (Cost(1.0, 10), Cost(1.0, 10))]
    assert total_speed_up(pairs) == pytest.approx(11 / 6)
    assert mean_speed_up(pairs) == pytest.approx(1.5)


def test_the_interval_is_the_same_every_time_and_holds_the_value() -> None:
    pairs = [(Cost(2.0 + at % 3, 10), Cost(1.0 + at % 2, 10)) for at in range(12)]
    first, second = bootstrap(pairs, total_speed_up), bootstrap(pairs, total_speed_up)
    assert first == second
    assert first.low < first.value < first.high
    same = bootstrap([(Cost(2.0, 10), Cost(1.0, 10))] * 5, mean_speed_up)
    assert (same.low, same.value, same.high) == (2.0, 2.0, 2.0)


def test_a_spread_has_quartiles() -> None:
    found = spread([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.low, found.median, found.high, found.count) == (2.0, 3.0, 4.0, 5)


def test_a_row_counts_as_the_field_does() -> None:
    given = [answer("c", "p", 1.0, steps=2, proposed=8, accepted=4, drafted=20, histogram=(0, 0, 2))] * 2
    found = row("c", given, [1.0, 1.0])
    assert (found.tokens, found.tokens_per_second) == (8, 4.0)
    assert (found.acceptance_rate, found.mean_acceptance_length) == (0.5, 3.0)
    assert (found.drafted, found.wasted, found.histogram, found.overlap) == (40, 24, (0, 0, 4), 0.5)
    assert found.decode_ms is not None
    assert found.decode_ms.median == pytest.approx(300.0)
    assert found.decode_total_ms == pytest.approx(300.0)


def test_differences_tell_the_first_token_that_departs() -> None:
    texts = {"base": [answer("base", "p", 1.0)], "same": [answer("same", "p", 1.0)]}
    texts |= {"other": [answer("other", "p", 1.0, (1, 2, 9))], "short": [answer("short", "p", 1.0, (1, 2))]}
    found = list(differences(texts, "base"))
    assert found == [Difference("other", "p", 0, 0, 2, 3, 9), Difference("short", "p", 0, 0, 2, 3, None)]


def test_the_main_contender_is_held_against_all_others() -> None:
    assert compared(["a", "k", "m", "p"], "a", "m") == [("k", "a"), ("m", "a"), ("p", "a"), ("m", "k"), ("m", "p")]


def summary(name: str) -> dict[str, object]:
    answers = {
        label: [answer(label, prompt, seconds) for prompt in ("x1", "x2", "y1")]
        for label, seconds in (("autoregressive", 4.0), ("alternating, k=5", 2.0), ("amusd", 1.0))
    }
    walls = {label: [each.seconds for each in given] for label, given in answers.items()}
    models = {
        "verify": {"name": "big (padded by 3 layers)", "dtype": "bfloat16", "device": "cpu"},
        "drafts": [{"model": "small", "device": "cpu"}],
    }
    settings = {"prompts": 3, "max_tokens": 4, "repeats": 1, "concurrency": 1, "delay_ms": 0.0, "sweep_prompts": 2}
    return {
        "format": 1,
        "name": name,
        "baseline": "autoregressive",
        "main": "amusd",
        "models": models,
        "settings": settings,
        "different": {"amusd": 1},
        "sweep": [{"k": 5, "ms_per_token": 500.0}],
        "differences": [{"contender": "amusd", "prompt": "x1", "repeat": 0, "position": 2, "margin": None}],
        "framework": {"rounds": 9, "p50_us": 400.0, "p95_us": 900.0},
        "steps": {"verify_ms": {"0": 29.0}, "draft_ms": 12.0},
        "bounds": {"amusd": {"ms_per_token": 240.0, "share": 0.96}},
        **results(answers, walls, "autoregressive", "amusd"),
    }


def test_the_rate_of_a_category_is_unknown_where_others_were_answered_at_the_same_time() -> None:
    answers = {label: [replace(answer(label, each, 2.0), category=each) for each in "xy"] for label in ("a", "m")}
    walls = {"a": [3.0], "m": [1.5]}
    mixed, single = results(answers, walls, "a", "m", mixed=True), results(answers, walls, "a", "m")
    tokens = sum(each.tokens for each in answers["a"])
    assert [row["tokens_per_second"] for row in mixed["rows"]] == [tokens / 3.0, tokens / 1.5]
    assert [row["tokens_per_second"] for row in mixed["categories"]["x"]["rows"]] == [None, None]
    assert [row["tokens_per_second"] for row in single["rows"]] == [tokens / 4.0] * 2
    assert [row["tokens_per_second"] for row in single["categories"]["x"]["rows"]] == [tokens / 4.0] * 2


def test_a_report_shows_rows_intervals_and_that_a_model_is_padded() -> None:
    text = "\n".join(lines(summary("run"), columns))
    assert "big (padded by 3 layers)" in text
    assert "4.00x" in text
    assert "amusd over alternating, k=5: 2.00x (2.00-2.00)" in text
    assert (
        "another text: amusd, prompt x1, repeat 0, from output token 2 on; margin of the two best there unknown" in text
    )
    assert "400 us (median)" in text
    assert "amusd 240.00, 0.96" in text
    assert "verify step of all contenders with that many proposals takes, in ms: 0: 29.0; a draft step: 12.0 ms" in text
    told = {**summary("run"), "steps": {"contenders": {"amusd": {"verify_ms": {"0": 30.0}, "draft_ms": None}}}}
    assert "a verify step of amusd with that many proposals takes, in ms: 0: 30.0\n" in "\n".join(lines(told, columns))
    assert "\nx:\n" in text


def test_runs_stand_beside_each_other() -> None:
    found = list(beside([summary("one"), summary("two")], columns))
    assert found[0].startswith("[1] one: ")
    assert found[-1].split() == ["amusd", *["250.00", "ms,", "4.0/s,", "4.00x", "(4.00-4.00)"] * 2]


def test_the_cost_of_a_step_weighs_what_was_seen_often() -> None:
    assert verify_cost({"0": 20.0, "2": 22.0, "4": 24.0}, {"0": 50, "2": 30, "4": 20}) == pytest.approx((20.0, 1.0))
    alone, slope = verify_cost({"0": 20.0, "4": 24.0, "9": 90.0}, {"0": 1000, "4": 1000, "9": 1}) or (0.0, 0.0)
    assert alone == 20.0
    assert slope < 1.1, "one step that was disturbed says little"
    assert verify_cost({"3": 25.0}, {"3": 7}) == (25.0, 0.0)
    assert verify_cost({"0": 30.0, "5": 25.0}, {"0": 1, "5": 4}) == (26.0, 0.0), "one step without says little, either"
    assert verify_cost({}, {}) is None


def test_a_contenders_bound_is_of_its_own_step_times_and_of_all_where_they_were_not_kept() -> None:
    labels: dict[str, list[int]] = {"autoregressive": [], "alternating, k=2": [2, 2, 6], "amusd": [1, 1, 8]}
    kept: dict[str, dict[str, Any]] = {
        "autoregressive": {"verify_ms": {"0": 20.0}, "verify_steps": {"0": 40}, "draft_ms": None},
        "amusd": {"verify_ms": {"0": 30.0, "4": 32.0}, "verify_steps": {"0": 9, "4": 9}, "draft_ms": 8.0},
    }
    pooled: dict[str, Any] = {"verify_ms": {"0": 24.0, "4": 28.0}, "verify_steps": {"0": 50, "4": 50}, "draft_ms": 5.0}
    before: dict[str, Any] = {
        "rows": [{"contender": label, "decode_total_ms": 25.0, "histogram": seen} for label, seen in labels.items()],
        "settings": {"concurrency": 1, "delay_ms": 0.0},
        "agreement": ["1101" * 8],
        "steps": {**pooled, "contenders": kept},
    }

    def assumed(summary: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
        bounds = with_bound(summary)["bounds"]
        return {label: (e["verify_ms"], e["verify_ms_per_token"], e["draft_ms"]) for label, e in bounds.items()}

    alone, rounds, main = assumed(before).values()
    assert (alone, rounds, main) == ((20.0, 0.0, 5.0), (24.0, 1.0, 5.0), (30.0, 0.5, 8.0))
    assert with_bound(before)["bounds"]["autoregressive"]["ms_per_token"] == pytest.approx(20.0)
    assert assumed({**before, "steps": pooled}) == dict.fromkeys(labels, (24.0, 1.0, 5.0)), "as runs before kept them"
    assert "bounds" not in with_bound({**before, "steps": {}})
    scaled = assumed({**before, "verify_device": {"amusd": {"steps": 100, "seconds": 3.41}}})
    assert scaled["amusd"] == pytest.approx((33.0, 0.55, 8.8)), "the recorded ones took 31 ms, the measured ones 34.1"
    assert scaled["autoregressive"] == (20.0, 0.0, 5.0)


def test_agreement_is_what_was_seen_and_drawn_only_where_nothing_was() -> None:
    told = completed(["1?2?", "", "?" * 1000], acceptance=0.25, rescued=0.0)
    assert [told[0][0], told[0][2]] == [1, 2]
    assert len(told) == 2
    assert 0.2 < sum(told[1]) / 1000 < 0.3
    assert told == completed(["1?2?", "", "?" * 1000], acceptance=0.25, rescued=0.0)
    beside = completed(["1" + "2" * 100, "x" * 900], acceptance=1.0, rescued=0.4)
    assert beside[0] == [1] + [2] * 100
    assert 0.28 < beside[1].count(2) / 900 < 0.38, "300 more make 400 of all the 1000 that were wrong"


def test_what_a_chain_left_open_a_tree_tells() -> None:
    assert together("1000??", "110?1?") == "12xx1?"
    assert together("?", "0") == "x"
    assert together("10?", "1") == "1x?", "another text, perhaps"
