"""Rule: one command measures, compares and writes it all, with real nodes; another prints it again from the folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOYMENT = """
[nodes.verify]
role = "verify"
model = "bundled:verify"
dtype = "float32"
threads = 1
max_length = 256
pad_layers = 2
listen = "tcp://127.0.0.1:0"

[nodes.draft]
role = "draft"
model = "bundled:draft"
dtype = "float32"
threads = 1
max_length = 256
dial = "verify"
"""


def amusd_mp(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "amusd_mp", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )


@pytest.mark.slow
def test_a_benchmark_from_nodes_to_report(tmp_path: Path) -> None:
    (tmp_path / "pair.toml").write_text(DEPLOYMENT)
    prompts = [{"id": "one", "prompt": "def add(a, b):"}, {"id": "two", "turns": ["Question: 1 + 1?", "And 2 + 2?"]}]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, prompts)) + "\n")
    done = amusd_mp(
        *("bench", "pair.toml", "--prompts", "mine.jsonl", "--max-tokens", "12", "--repeats", "1", "--out", "run"),
        *("--k", "3", "--sweep", "2", "--sweep-prompts", "1", "--delay-ms", "2", "--peer", "assisted,alone"),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    names = ["acceptance.svg", "config.toml", "environment.json", "requests.jsonl", "summary.json"]
    names += ["timeline.svg", "tokens.svg", "trace.json"]
    assert sorted(each.name for each in run.iterdir()) == names

    labels = ["autoregressive", "alternating, k=3", "alternating, k=2", "amusd"]
    labels += ["transformers assisted, 1 thread", "transformers alone, 1 thread"]
    lines = [json.loads(line) for line in (run / "requests.jsonl").read_text().splitlines()]
    assert sorted(line["contender"] for line in lines) == sorted(labels * 2)
    (choice,) = lines[0]["choices"]
    assert sum(choice["accept_lengths"]) == sum(choice["new_tokens"])
    assert choice["decoding_steps"] == [len(choice["accept_lengths"])] or len(choice["turns"]) == 2

    summary = json.loads((run / "summary.json").read_text())
    assert [row["contender"] for row in summary["rows"]] == labels
    assert [row["responses"] for row in summary["rows"]] == [3] * 6
    assert summary["models"]["verify"]["name"] == "bundled:verify (padded by 2 layers)"
    assert summary["different"] == dict.fromkeys(labels, 0)
    assert summary["framework"]["rounds"] > 0
    assert set(summary["bounds"]) == set(labels[:4])
    assert 'dial = "delay://2/ipc://' in (run / "config.toml").read_text()
    assert "bundled:verify (padded by 2 layers)" in (run / "timeline.svg").read_text()

    again = amusd_mp("report", "run", folder=tmp_path)
    assert again.returncode == 0
    assert again.stdout.strip() == done.stdout.partition("\nin run: ")[0].strip()
    beside = amusd_mp("report", "run", "run/summary.json", folder=tmp_path)
    assert "[2]" in beside.stdout

    refused = amusd_mp("bench", "pair.toml", "--out", "run", folder=tmp_path)
    assert refused.returncode == 2
    assert "already holds a run" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--sweep", "2,x"), "--sweep '2,x': write positive numbers"),
        (("--peer", "other"), "there are: assisted, alone"),
        (("--peer", "assisted", "--concurrency", "8"), "one prompt at a time, not --concurrency 8"),
        (("--peer", "assisted", "--cold"), "nodes have computed, not --cold"),
        (("--peer", "alone", "--temperature", "1"), "greedy decoding alone"),
        (("--prompts", "absent.jsonl"), "cannot be read"),
        (("--prompts", "twice.jsonl"), "2 prompts have the id 'one'"),
        (("--url", "tcp://127.0.0.1:1", "--delay-ms", "3"), "needs nodes that are started here"),
    ],
)
def test_a_wrong_call_is_one_line_and_starts_nothing(arguments: tuple[str, ...], problem: str, tmp_path: Path) -> None:
    (tmp_path / "pair.toml").write_text(DEPLOYMENT)
    (tmp_path / "twice.jsonl").write_text('{"id": "one", "prompt": "a"}\n' * 2)
    done = amusd_mp("bench", "pair.toml", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert problem in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_report_of_no_run_says_so(tmp_path: Path) -> None:
    done = amusd_mp("report", ".", folder=tmp_path)
    assert done.returncode == 2
    assert "no finished run" in done.stderr
