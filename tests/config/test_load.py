"""A deployment file says what it means, or the error names the source, the key and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from amusd_mp.config import examine, load_deployment
from amusd_mp.config.schema import DEFAULT_LISTEN
from amusd_mp.config.write import tables_of, to_toml
from amusd_mp.core.model import ModelSpec
from amusd_mp.core.params import Speculation, Strategy
from amusd_mp.errors import ConfigError

PAIR = """
[nodes.verify]
role = "verify"
model = "bundled:verify"

[nodes.draft]
role = "draft"
model = "bundled:draft"
dial = "verify"
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a deployment file and return its path."""

    def to_file(text: str) -> Path:
        file = tmp_path / "pair.toml"
        file.write_text(text)
        return file

    return to_file


def refused(file: Path, *sets: str, environ: dict[str, str] | None = None) -> str:
    """Return the message with which a file is refused."""
    with pytest.raises(ConfigError) as caught:
        load_deployment(file, sets, environ or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_short_file_is_complete(write: Write) -> None:
    deployment = load_deployment(write(PAIR), environ={})
    assert deployment.verify() == "verify"
    assert deployment.drafts() == ("draft",)
    assert deployment.dial_url("draft") == deployment.url_for("verify") == DEFAULT_LISTEN
    assert deployment.speculation == Speculation()
    assert deployment.node("verify").spec() == ModelSpec("bundled:verify")
    assert deployment.local_nodes() == ("verify", "draft")


def test_flag_beats_set_beats_environment_beats_file_beats_default(write: Write) -> None:
    file = write(PAIR + "\n[speculation]\nlookahead = 2\n")
    environ = {"AMUSD_MP__SPECULATION__LOOKAHEAD": "3"}
    sets, flags = ["speculation.lookahead=4"], {"speculation.lookahead": 5}
    assert load_deployment(write(PAIR), (), {}).speculation.lookahead == 16
    file = write(PAIR + "\n[speculation]\nlookahead = 2\n")
    assert load_deployment(file, (), {}).speculation.lookahead == 2
    assert load_deployment(file, (), environ).speculation.lookahead == 3
    assert load_deployment(file, sets, environ).speculation.lookahead == 4
    assert load_deployment(file, sets, environ, flags).speculation.lookahead == 5
    assert load_deployment(file, sets, environ, {"speculation.lookahead": None}).speculation.lookahead == 4


def test_values_of_a_command_line_are_toml_or_else_text(write: Write) -> None:
    sets = [
        "nodes.draft.device=cuda:1",
        "nodes.draft.revision=123",
        "nodes.draft.threads = 2",
        "nodes.draft.cores=[0, 1]",
        "nodes.draft.trust_remote_code=true",
        'nodes.draft.host="gpu-b"',
        "nodes.draft.draft_temperature=1",
        "speculation.strategy=alternating",
    ]
    deployment = load_deployment(write(PAIR), sets, {})
    draft = deployment.node("draft")
    assert (draft.device, draft.revision, draft.threads, draft.cores) == ("cuda:1", "123", 2, (0, 1))
    assert (draft.trust_remote_code, draft.host, draft.draft_temperature) == (True, "gpu-b", 1.0)
    assert deployment.speculation.strategy is Strategy.ALTERNATING
    assert deployment.sets == tuple(sets)


def test_the_environment_names_nodes_without_case_and_dashes(write: Write) -> None:
    file = write(PAIR.replace("nodes.draft", "nodes.my-draft"))
    environ = {"AMUSD_MP__NODES__MY_DRAFT__DEVICE": "cuda:3", "AMUSD_MPX": "not ours"}
    assert load_deployment(file, (), environ).node("my-draft").device == "cuda:3"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[nodes.draft]\ndevise = "cpu"', ["nodes.draft.devise", "did you mean nodes.draft.device?"]),
        ('[nodes.draft]\ntorch_dtype = "x"', ["nodes.draft.torch_dtype", "nodes.draft.dtype"]),
        ("[nodes.draft]\nmax_model_len = 5", ["nodes.draft.max_length"]),
        ("[nodes.draft]\nmax_num_seqs = 5", ["nodes.draft.max_sequences"]),
        ("[nodes.draft]\ntensor_parallel_size = 2", ["nodes.draft.tensor_parallel_size", "one device"]),
        ("[speculation]\nnum_speculative_tokens = 5", ["speculation.num_speculative_tokens", "speculation.lookahead"]),
        ("[speculation]\ngamma = 5", ["speculation.lookahead"]),
        ("[speculation]\nk = 5", ["speculation.lookahead"]),
        ("[speculation]\nnum_draft_tokens = 5", ["speculation.lookahead"]),
        ('[speculation]\ndraft_model = "x"', ["model of the node whose role is"]),
        ("[speculation]\nLookahead = 5", ["write speculation.lookahead"]),
        ("lookahead = 5", ["unknown key lookahead", "[speculation]"]),
        ("[node.draft]\na = 1", ["unknown key node.draft", "did you mean nodes.draft"]),
        ("[security]\npassword = 1", ["security.password", "known: insecure"]),
        ("nodes = 1", ["nodes must be a table"]),
        ("[nodes]\ndraft = 1", ["nodes.draft", "[nodes.NAME]"]),
        ("[nodes.draft", ["not TOML", "end of document"]),
        ("[nodes.'Draft 1']\nrole = 'x'", ["nodes.Draft 1", "a-z"]),
        ("[nodes.'prüfer']\nrole = 'x'", ["nodes.prüfer", "a-z"]),
        ("[nodes.draft]\nrole = 'x'\nthreads = '2'", ["nodes.draft.threads", "'2'"]),
        ("[nodes.draft]\nrole = 'x'\nmodel = 5", ["nodes.draft.model", "5"]),
        ("[nodes.draft]\nrole = 'x'\ndevice = 'cuda'", ["nodes.draft.device", "cuda:0"]),
        ("[nodes.draft]\nrole = 'x'\ndevice = 'tpu'", ["nodes.draft.device", "cuda:N"]),
        ("[nodes.draft]\nrole = 'x'\ndtype = 'bf16'", ["'bfloat16'"]),
        ("[nodes.draft]\nrole = 'x'\ncores = [1, 1]", ["nodes.draft.cores"]),
        ("[nodes.draft]\nrole = 'x'\nattention = 'flash'", ["nodes.draft.attention", "'flash'"]),
        ("[nodes.draft]\nlisten = 'localhost:5601'", ["nodes.draft.listen", "://"]),
        ("[nodes.draft]\nlisten = 'tcp://localhost'", ["nodes.draft.listen", "tcp://HOST:PORT"]),
        ("[nodes.draft]\nlisten = 'tcp://localhost:99999'", ["nodes.draft.listen", "99999"]),
        ("[speculation]\nstrategy = 'fast'", ["speculation.strategy", "alternating", "'fast'"]),
        ("[speculation]\nlookahead = 0", ["speculation.lookahead", "0"]),
    ],
)
def test_a_wrong_file_is_answered_with_file_key_and_remedy(write: Write, text: str, parts: list[str]) -> None:
    file = write(text)
    message = refused(file)
    assert message.startswith(str(file))
    for part in parts:
        assert part in message


def test_overrides_are_checked_like_the_file(write: Write) -> None:
    file = write(PAIR)
    assert "did you mean draft?" in refused(file, "nodes.draff.device=cpu")
    assert "did you mean nodes.draft.device?" in refused(file, "nodes.draft.devise=cpu")
    assert "KEY=VALUE" in refused(file, "nodes.draft.device")
    assert "nodes.NAME.KEY" in refused(file, "nodes.draft=1")
    assert "speculation.KEY" in refused(file, "speculation.a.b=1")
    message = refused(file, environ={"AMUSD_MP__NODES__DRAFT__THREADS": "many"})
    assert message.startswith("environment AMUSD_MP__NODES__DRAFT__THREADS: nodes.draft.threads")
    assert "unknown key" in refused(file, environ={"AMUSD_MP__LOOKAHEAD": "1"})


def test_all_problems_are_found_at_once_and_the_first_is_raised(write: Write) -> None:
    file = write('[nodes.draft]\nrole = "draft"\ndevice = "cuda"\nthreads = 0\nfoo = 1\n')
    deployment, problems = examine(file, environ={})
    assert deployment is None
    assert len(problems) == 3
    assert "and 2 more" in refused(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.toml") == f"{tmp_path / 'absent.toml'}: no such file"


def test_relative_paths_resolve_against_the_file_and_those_of_flags_against_here(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "verify").mkdir(parents=True)
    here = tmp_path / "here"
    (here / "other").mkdir(parents=True)
    monkeypatch.chdir(here)
    text = PAIR.replace("bundled:verify", "models/verify").replace("bundled:draft", "owner/name")
    file = write(text + '[nodes.x]\nrole = "observer"\nlisten = "ipc://run/x.sock"\n')
    deployment = load_deployment(file, (), {})
    assert deployment.node("verify").model == str(tmp_path / "models" / "verify")
    assert deployment.node("draft").model == "owner/name"
    assert deployment.url_for("x") == f"ipc://{tmp_path}/run/x.sock"
    assert load_deployment(file, ["nodes.draft.model=other"], {}).node("draft").model == str(here / "other")
    assert load_deployment(file, ["nodes.draft.model=./absent"], {}).node("draft").model == str(here / "absent")


def test_socket_paths_are_per_user_and_not_too_long(write: Write) -> None:
    file = write(PAIR + '[nodes.x]\nrole = "observer"\nlisten = "ipc://{runtime}/x.sock"\n')
    assert (
        load_deployment(file, (), {"XDG_RUNTIME_DIR": "/run/user/7"}).url_for("x")
        == "ipc:///run/user/7/amusd-mp/x.sock"
    )
    assert load_deployment(file, (), {}).url_for("x").endswith("/x.sock")
    assert "{runtime}" in refused(file, f"nodes.x.listen=ipc:///{'long/' * 30}x.sock")


def test_a_deployment_written_back_reads_the_same(write: Write, tmp_path: Path) -> None:
    deployment = load_deployment(write(PAIR), ["nodes.draft.cores=[0]", "nodes.draft.draft_temperature=0.5"], {})
    again = tmp_path / "again.toml"
    again.write_text(to_toml(tables_of(deployment)))
    read = load_deployment(again, (), {})
    assert (read.nodes, read.speculation, read.security) == (
        deployment.nodes,
        deployment.speculation,
        deployment.security,
    )
