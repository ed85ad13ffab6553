"""Rule: the bundled pair opens like any checkpoint, its two halves share a tokenizer, and it can be remade."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from amusd_mp.engine.bundled import NAMES, folder
from amusd_mp.engine.bundled.data import Corpus, problem_documents, python_documents, train_tokenizer
from amusd_mp.engine.bundled.train import Phase, Setting, learning_rate, main
from amusd_mp.errors import ModelError

QUESTION = {"role": "user", "content": "A robe takes 2 bolts of blue fiber and half that much white fiber. How many?"}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(folder("verify"), local_files_only=True)


def render(tokenizer: Any, messages: list[dict[str, str]], answer: bool = True) -> str:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer)
    assert isinstance(text, str)
    return text


# ------------------------------------------------------------------------------- the files


@pytest.mark.parametrize(("name", "millions"), [("verify", 5.5), ("draft", 0.9)])
def test_each_half_loads_and_continues_text(name: str, millions: float) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder(name), dtype=torch.float32, local_files_only=True).eval()
    assert sum(each.numel() for each in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert model.config.max_position_embeddings == 2048
    tokenizer = AutoTokenizer.from_pretrained(folder(name), local_files_only=True)
    ids = tokenizer("import os\nimport", return_tensors="pt").input_ids
    with torch.inference_mode():
        best = model(ids).logits[0, -1].topk(20).indices
    assert " sys" in tokenizer.batch_decode(best[:, None])


def test_the_pair_shares_tokenizer_template_and_special_ids() -> None:
    halves = [AutoTokenizer.from_pretrained(folder(name), local_files_only=True) for name in NAMES]
    digests = [hashlib.sha256(json.dumps(sorted(each.get_vocab().items())).encode()).hexdigest() for each in halves]
    assert digests[0] == digests[1]
    assert [len(each) for each in halves] == [4096, 4096]
    assert [each.all_special_ids for each in halves] == [[0], [0]]
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (folder("verify") / name).read_bytes() == (folder("draft") / name).read_bytes()


def test_an_unknown_name_is_refused_naming_the_known() -> None:
    with pytest.raises(ModelError, match="bundled:verify and bundled:draft"):
        folder("../verify")


# ------------------------------------------------------------------------------- the chat template


def test_one_question_is_prompted_as_in_training(tokenizer: Any) -> None:
    assert render(tokenizer, [QUESTION]) == f"Question: {QUESTION['content']}\nAnswer:"


def test_system_text_comes_first_as_it_is(tokenizer: Any) -> None:
    system = {"role": "system", "content": "Think in steps."}
    assert render(tokenizer, [system, QUESTION]).startswith("Think in steps.\nQuestion: A robe")


@pytest.mark.parametrize("answer", [" It takes 3.\n#### 3\n", " It takes 3", "3", "", " a {{ x }} <b>\n\n"])
@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Think in steps."}]])
def test_a_longer_conversation_begins_with_the_shorter_and_its_answer(
    tokenizer: Any, answer: str, system: list[dict[str, str]]
) -> None:
    turns = [*system, QUESTION]
    for _ in range(3):
        so_far = render(tokenizer, turns) + answer
        turns = [*turns, {"role": "assistant", "content": answer}, QUESTION]
        assert render(tokenizer, turns).startswith(so_far)
        assert render(tokenizer, turns[:-1], answer=False).startswith(so_far)


def test_a_role_it_does_not_know_is_refused(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="roles system, user and assistant, not 'tool'"):
        render(tokenizer, [{"role": "tool", "content": "4"}])


# ------------------------------------------------------------------------------- remaking it


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    row = {"question": "What is {n} + {n}?", "answer": "It is {n} + {n} = <<{n}+{n}={m}>>{m}.\n#### {m}"}
    rows = [
        {key: text.replace("{n}", str(n)).replace("{m}", str(2 * n)) for key, text in row.items()} for n in range(40)
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    root = tmp_path / "lib"
    for index in range(8):
        (root / "package").mkdir(parents=True, exist_ok=True)
        lines = [f"def function_{index}_{line}(value):\n    return value + {line}\n" for line in range(20)]
        (root / "package" / f"module_{index}.py").write_text("\n\n".join(lines))
    for name in ("test", "site-packages", "__pycache__"):
        (root / name).mkdir()
        (root / name / "left_out.py").write_text("secret = 1\n")
    (root / "empty.py").write_text("\n")
    return root


def test_documents_leave_out_tests_and_calculator_marks(problems: Path, sources: Path) -> None:
    assert len(python_documents(sources)) == 8
    assert not any("secret" in text for text in python_documents(sources))
    assert problem_documents(problems)[3] == "Question: What is 3 + 3?\nAnswer: It is 3 + 3 = 6.\n#### 6\n"


def test_the_standard_library_is_found_by_itself() -> None:
    documents = python_documents()
    assert len(documents) > 300
    assert any("class Decimal" in text for text in documents)


def test_the_tokenizer_splits_digits_and_knows_every_byte(problems: Path) -> None:
    tokenizer = train_tokenizer(problem_documents(problems), vocabulary=400)
    assert tokenizer.token_to_id("<|endoftext|>") == 0
    assert tokenizer.get_vocab_size() <= 400
    coded = tokenizer.encode("2024 ü漢\x00\n")
    assert coded.tokens[:4] == ["2", "0", "2", "4"]
    assert tokenizer.decode(coded.ids) == "2024 ü漢\x00\n"
    corpus = Corpus.of(tokenizer, ["ab"], ["c"])
    assert corpus.problems.tolist() == [*tokenizer.encode("c").ids, 0]


def test_batches_follow_the_seed_and_mix_both_kinds(problems: Path, sources: Path) -> None:
    corpus = Corpus(torch.zeros(1000, dtype=torch.long), torch.ones(1000, dtype=torch.long))
    first, second = (corpus.batch(200, 16, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (200, 17)
    assert torch.equal(first, second)
    assert 0.3 < first.float().mean() < 0.5


def test_the_rate_rises_then_falls_to_a_twentieth() -> None:
    rates = [learning_rate(1.0, step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == 1.0
    assert rates[-1] == pytest.approx(0.05, abs=1e-3)
    assert Setting(steps=3).steps_of(Phase(10**6, 1e-3)) == 3
    assert Setting(batch=10, length=100).steps_of(Phase(10**6, 1e-3)) == 1000


def test_the_pair_can_be_remade(
    problems: Path, sources: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "pair"
    command = ["--gsm8k-train", str(problems), "--out", str(out), "--python-root", str(sources)]
    with caplog.at_level("INFO"):
        main([*command, "--steps", "4", "--batch", "4", "--length", "32"])
    losses = re.findall(r"nats per token", caplog.text)
    assert len(losses) == 2
    trained = [float(each) for each in re.findall(r"loss ([\d.]+)", caplog.text)]
    assert trained[1] < trained[0]
    for name in NAMES:
        assert {each.name for each in folder(name).iterdir()} <= {each.name for each in (out / name).iterdir()}
        model = AutoModelForCausalLM.from_pretrained(out / name, dtype="auto", local_files_only=True)
        assert model.dtype == torch.bfloat16
        shipped = AutoModelForCausalLM.from_pretrained(folder(name), dtype="auto", local_files_only=True).config
        for field in ("num_hidden_layers", "hidden_size", "intermediate_size", "num_key_value_heads", "head_dim"):
            assert getattr(model.config, field) == getattr(shipped, field)
        assert AutoTokenizer.from_pretrained(out / name, local_files_only=True).chat_template
