"""Rule: prompt files are read as they come, and a line that is none is named with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amusd_mp.bench.prompts import read
from amusd_mp.errors import UsageError

DATA = Path(__file__).parents[1] / "data"


def written(folder: Path, *rows: object) -> str:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return str(file)


def test_humaneval_is_text_to_go_on_with() -> None:
    prompts = read(f"{DATA / 'humaneval.jsonl'}:3")
    assert [prompt.id for prompt in prompts] == ["HumanEval/0", "HumanEval/1", "HumanEval/2"]
    assert prompts[0].turns[0].startswith("from typing import List")
    assert prompts[0].plain
    assert prompts[0].category == "HumanEval"


def test_gsm8k_is_asked_as_the_bundled_pair_saw_it() -> None:
    (prompt,) = read(f"{DATA / 'gsm8k.jsonl'}:1")
    assert prompt.turns[0].startswith("Question: Janet")
    assert prompt.turns[0].endswith("\nAnswer:")
    assert (prompt.id, prompt.category) == ("GSM8K/0", "GSM8K")


def test_spec_bench_has_turns_and_categories(tmp_path: Path) -> None:
    row = {"question_id": 81, "category": "writing", "turns": ["Write.", "Rewrite."], "reference": []}
    (prompt,) = read(written(tmp_path, row))
    assert (prompt.id, prompt.category, prompt.turns, prompt.plain) == ("81", "writing", ("Write.", "Rewrite."), False)


def test_own_lines_have_a_prompt_turns_or_messages(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    rows = {"id": "a", "prompt": "x"}, {"id": "b", "turns": ["y"]}, {"id": 3, "messages": messages}
    one, two, three = read(written(tmp_path, *rows, ""))
    assert (one.turns, one.plain, one.category) == (("x",), True, "rows")
    assert (two.turns, two.plain) == (("y",), False)
    assert (three.id, three.turns, three.before) == ("3", ("Hi",), (("system", "Be brief."),))


@pytest.mark.parametrize(
    "row", [{"id": 1}, {"id": 1, "prompt": ""}, {"id": 1, "messages": []}, {"task_id": "x"}, ["a"], "not json"]
)
def test_another_line_is_an_error_with_its_place(row: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rows.jsonl', line 2: "):
        read(written(tmp_path, {"id": 0, "prompt": "x"}, row))


def test_more_than_there_are_and_no_file_at_all_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has only 1"):
        read(written(tmp_path, {"id": 0, "prompt": "x"}) + ":2")
    with pytest.raises(UsageError, match="cannot be read"):
        read(str(tmp_path / "absent.jsonl"))
