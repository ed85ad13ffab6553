"""Rule: `bench --simulate` is the same benchmark without models, and says so; `--virtual` needs no process at all."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from amusd_mp.cli.app import build
from amusd_mp.cli.inspection import inspect
from amusd_mp.config import load_deployment
from amusd_mp.errors import UsageError
from amusd_mp.launcher.cluster import LocalCluster
from amusd_mp.testing.simulation.source import parse

CONFIGS = Path(__file__).parents[2] / "configs"
DEVICES = ("--simulate", "--verify-ms", "8", "--verify-ms-per-token", "0.2", "--draft-ms", "2")
PADDED = """
[nodes.verify]
role = "verify"
model = "owner/large"
device = "cuda:7"
pad_layers = 3

[nodes.draft]
role = "draft"
model = "owner/small"
dial = "verify"
"""


def bench(*arguments: str) -> str:
    done = CliRunner().invoke(build(), ["bench", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_benchmark_of_a_file_without_its_models(tmp_path: Path) -> None:
    (tmp_path / "pair.toml").write_text(PADDED)
    (tmp_path / "mine.jsonl").write_text(json.dumps({"id": "one", "prompt": "once"}) + "\n")
    output = bench(
        *(str(tmp_path / "pair.toml"), *DEVICES, "--acceptance", "0.6", "--prompts", str(tmp_path / "mine.jsonl")),
        *("--max-tokens", "24", "--repeats", "1", "--k", "3", "--sweep", "", "--delay-ms", "1"),
        *("--out", str(tmp_path / "run")),
    )
    assert "\npair, simulated: simulated:verify?step_ms=8&token_ms=0.2 (none, simulated), drafted" in output
    found = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["contender"] for row in found["rows"]] == ["autoregressive", "alternating, k=3", "amusd"]
    assert set(found["different"].values()) == {0}
    assert found["framework"]["rounds"] > 0
    assert set(found["bounds"]) == {row["contender"] for row in found["rows"]}
    for assumed in found["bounds"].values():
        assert (assumed["verify_ms"], assumed["verify_ms_per_token"], assumed["draft_ms"]) == (8.0, 0.2, 2.0)
    assert found["models"]["drafts"][0]["model"] == "simulated:draft?step_ms=2&acceptance=0.6"
    assert min(found["steps"]["verify_ms"].values()) >= 8.0
    assert found["steps"]["draft_ms"] >= 2.0
    assert "simulated:verify?step_ms=8" in (tmp_path / "run" / "timeline.svg").read_text()


def test_virtual_time_needs_no_process_and_compares_the_same_strategies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = bench(*DEVICES, "--virtual", "--sweep", "2,5", "--k", "3", "--max-tokens", "32", "--sequences", "2")
    said, _, *rows = lines.splitlines()
    assert said.startswith("simulated, in virtual time: verify step 8 ms + 0.2 a proposal, draft step 2 ms")
    names = [row.partition("  ")[0] for row in rows]
    assert names == ["autoregressive", "alternating, k=2", "alternating, k=3", "alternating, k=5", "amusd"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "say which deployment FILE to measure, --url URL, or --simulate"),
        (("--url", "tcp://127.0.0.1:1", "--set", "a.b=c"), "--set changes a deployment FILE"),
        (("--url", "tcp://127.0.0.1:1", "--peer", "alone"), "--peer loads the models of a deployment FILE"),
        (("--simulate", "--draft-ms", "2"), "needs both --verify-ms and --draft-ms"),
        (
            ("--verify-ms", "8", "--acceptance", "0.5"),
            "--verify-ms, --acceptance: of simulated devices; say --simulate",
        ),
        ((*DEVICES, "--url", "tcp://127.0.0.1:1", "--temperature", "1"), "--url, --temperature: not with --simulate"),
        ((*DEVICES, "--peer", "assisted"), "--peer: not with --simulate"),
        (("--virtual",), "--virtual is a way to --simulate"),
        ((*DEVICES, "--virtual", "--out", "run", "--set", "a.b=c"), "--set, --out: not with --virtual"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(arguments: tuple[str, ...], problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        bench(*arguments)
    assert problem in str(refused.value)


def test_a_prompt_without_room_for_an_answer_ends_it_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "long.jsonl").write_text(json.dumps({"id": "epic", "prompt": "x" * 9000}) + "\n")
    with pytest.raises(UsageError, match=r"prompt epic has 9000 tokens, and .* takes 4096"):
        bench(
            *DEVICES, "--acceptance", "0.6", "--prompts", str(tmp_path / "long.jsonl"), "--out", str(tmp_path / "run")
        )
    assert not (tmp_path / "run" / "requests.jsonl").exists()


def test_a_deployment_of_two_hosts_is_measured_here_each_contender_computing_its_prompts(tmp_path: Path) -> None:
    output = bench(
        *(
            str(CONFIGS / "two-hosts.toml"),
            *DEVICES,
            "--acceptance",
            "0.6",
            "--max-tokens",
            "8",
            "--repeats",
            "1",
            "--k",
            "0",
        ),
        *("--sweep", "", "--no-timeline", "--no-bound", "--cold", "--out", str(tmp_path / "run")),
    )
    assert "each computes its prompts" in output
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["settings"]["cold"] is True


async def test_nodes_that_run_already_are_measured_without_a_file(tmp_path: Path) -> None:
    device = {"verify": "simulated:verify?step_ms=4", "draft": "simulated:draft?step_ms=1&acceptance=0.6"}
    nodes: dict[str, dict[str, object]] = {name: {"role": name, "model": device[name]} for name in device}
    nodes["verify"]["listen"], nodes["draft"]["dial"] = "tcp://127.0.0.1:0", "verify"
    async with LocalCluster({"nodes": nodes}) as cluster:
        flags = ("--max-tokens", "8", "--repeats", "1", "--k", "0", "--sweep", "", "--no-timeline", "--no-bound")
        output = await asyncio.to_thread(bench, "--url", cluster.url, *flags, "--out", str(tmp_path / "run"))
    assert "simulated:verify?step_ms=4" in output
    found = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["contender"] for row in found["rows"]] == ["autoregressive", "amusd"]


def test_the_peer_is_not_asked_to_load_simulated_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pair.toml").write_text(PADDED.replace("owner/small", "simulated:draft?step_ms=1"))
    with pytest.raises(UsageError, match="has simulated devices"):
        bench("pair.toml", "--peer", "assisted")


def test_a_wrong_name_is_found_by_the_check(tmp_path: Path) -> None:
    file = tmp_path / "pair.toml"
    file.write_text(
        PADDED.replace("owner/large", "simulated:verify").replace("owner/small", "simulated:draft?step_ms=1")
    )
    problems = "\n".join(inspect(load_deployment(file), None).problems)
    assert "nodes.verify: model 'simulated:verify': step_ms is missing" in problems
    assert "nodes.verify.pad_layers: a simulated model has no layers" in problems
    assert "nodes.draft" not in problems


def test_the_ready_made_pair_is_in_order() -> None:
    deployment = load_deployment(CONFIGS / "bench-simulated.toml")
    assert not inspect(deployment, None).problems
    assert {parse(node.model or "").role for node in deployment.nodes.values()} == {"verify", "draft"}
