"""Rule: `status` shows what the verify node says of itself and its drafts, and says clearly when nobody answers."""

from __future__ import annotations

import json
from typing import Any

from amusd_mp.cli.columns import columns


def test_the_table_names_the_node_its_model_and_its_draft(tools: Any) -> None:
    done = tools.run("status", "--url", tools.url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("verify")
    assert f"ready at {tools.url}, up " in lines[0]
    assert lines[1].split(maxsplit=1) == ["model", "bundled:verify, 5.5 M parameters, float32 on cpu"]
    head, draft = lines[-2:]
    assert head.split() == ["draft", "model", "device", "windows", "acceptance", "heard"]
    assert draft.split()[:3] == ["draft", "bundled:draft", "cpu"]


def test_json_holds_the_same_for_programs(tools: Any) -> None:
    done = tools.run("status", "--json", AMUSD_MP_URL=tools.url)
    report = json.loads(done.stdout)
    assert (report["url"], report["node"], report["state"]) == (tools.url, "verify", "ready")
    assert [draft["model"] for draft in report["drafts"]] == ["bundled:draft"]
    assert report["model"]["fingerprint"]["vocabulary"] == 4096


def test_nobody_there_ends_with_1_within_the_timeout(tools: Any, nobody: str) -> None:
    done = tools.run("status", "--url", nobody, "--timeout", "0.3")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"tried {nobody}, which comes from --url" in done.stderr


def test_a_free_port_in_a_file_cannot_be_dialled(tools: Any, tmp_path: Any) -> None:
    file = tmp_path / "free.toml"
    file.write_text('[nodes.v]\nrole = "verify"\nmodel = "bundled:verify"\nlisten = "tcp://127.0.0.1:0"\n')
    done = tools.run("status", "--config", str(file))
    assert done.returncode == 2
    assert "free port" in done.stderr


def test_columns_are_aligned() -> None:
    assert columns([("name", "n"), ("a", "10")], numeric=(1,)) == ["name   n", "a     10"]
    assert columns([]) == []
