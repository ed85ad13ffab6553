"""What spans nodes: one verify node, everybody dials somebody, and nobody listens off loopback unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from amusd_mp.config import Deployment, load_deployment
from amusd_mp.config.write import to_toml
from amusd_mp.errors import ConfigError


def deployment(tmp_path: Path, *sets: str, **nodes: dict[str, object]) -> Deployment:
    """Return a deployment of a verify and a draft node with changes and additions."""
    tables: dict[str, dict[str, object]] = {
        "verify": {"role": "verify", "model": "bundled:verify"},
        "draft": {"role": "draft", "model": "bundled:draft", "dial": "verify"},
    }
    for name, changes in nodes.items():
        tables[name] = {key: value for key, value in (tables.get(name, {}) | changes).items() if value is not None}
    file = tmp_path / "file.toml"
    file.write_text(to_toml({"nodes": tables}))
    return load_deployment(file, sets, {})


def test_two_verify_nodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nodes\.second\.role: only one verify node .*verify, second"):
        deployment(tmp_path, second={"role": "verify", "model": "bundled:verify"})


@pytest.mark.parametrize(
    ("node", "changes", "message"),
    [
        ("draft", {"dial": "verfy"}, r"nodes\.draft\.dial: no node is named 'verfy'.*did you mean verify\?"),
        ("draft", {"dial": "draft"}, r"nodes\.draft\.dial: a node cannot dial itself"),
        ("draft", {"dial": "other"}, r"nodes\.draft\.dial: other listens nowhere"),
        ("draft", {"dial": None}, r"nodes\.draft\.dial: is missing"),
        ("draft", {"model": None}, r"nodes\.draft\.model: is missing"),
        ("verify", {"draft_temperature": 0.5}, r"nodes\.verify\.draft_temperature: belongs to draft nodes"),
    ],
)
def test_what_a_role_needs(tmp_path: Path, node: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        deployment(tmp_path, **{node: changes}, other={"role": "observer"})


def test_a_draft_may_dial_a_url_and_be_alone(tmp_path: Path) -> None:
    alone = deployment(tmp_path, draft={"dial": "tcp://gpu-a:5601"})
    assert alone.dial_url("draft") == "tcp://gpu-a:5601"
    assert alone.dialled("draft") is None


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:1", "tcp://127.9.9.9:0", "tcp://localhost:1", "tcp://[::1]:1"])
def test_loopback_needs_no_permission(tmp_path: Path, url: str) -> None:
    assert deployment(tmp_path, verify={"listen": url}).url_for("verify") == url


@pytest.mark.parametrize("url", ["tcp://0.0.0.0:1", "tcp://*:1", "tcp://[::]:1", "tcp://10.0.0.1:1", "tcp://gpu-a:1"])
def test_listening_off_loopback_needs_insecure(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"nodes\.verify\.listen: .*insecure = true"):
        deployment(tmp_path, verify={"listen": url})
    assert deployment(tmp_path, "security.insecure=true", verify={"listen": url}).security.insecure


def test_a_wildcard_is_dialled_at_loopback_unless_an_address_is_given(tmp_path: Path) -> None:
    everywhere = {"listen": "tcp://0.0.0.0:7"}
    assert deployment(tmp_path, "security.insecure=true", verify=everywhere).dial_url("draft") == "tcp://127.0.0.1:7"
    known = everywhere | {"address": "tcp://gpu-a:7"}
    assert deployment(tmp_path, "security.insecure=true", verify=known).dial_url("draft") == "tcp://gpu-a:7"


@pytest.mark.parametrize("listen", [None, "tcp://0.0.0.0:5601", "ipc://verify.sock"])
def test_a_node_on_another_host_must_be_able_to_dial(tmp_path: Path, listen: str | None) -> None:
    apart = {"verify": {"host": "gpu-a", "listen": listen}, "draft": {"host": "gpu-b"}}
    with pytest.raises(ConfigError, match=r"nodes\.verify\.listen: .*from host gpu-b"):
        deployment(tmp_path, "security.insecure=true", **apart)
    apart["verify"]["address"] = "tcp://tunnel:1"  # somebody forwards it
    assert deployment(tmp_path, "security.insecure=true", **apart).dial_url("draft") == "tcp://tunnel:1"


def test_a_free_port_is_known_only_once_it_is_bound(tmp_path: Path) -> None:
    assert deployment(tmp_path, verify={"listen": "tcp://127.0.0.1:0"}).has_free_port("verify")
    assert not deployment(tmp_path).has_free_port("verify")


def test_unknown_names_are_answered_with_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no node is named 'x'; nodes: verify, draft"):
        deployment(tmp_path).node("x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dial": None}, r"nodes\.web\.dial: is missing"),
        ({"listen": "tcp://127.0.0.1:1"}, r"nodes\.web\.listen: a gateway speaks HTTP; .*http://127\.0\.0\.1:8000"),
        ({"listen": "http://127.0.0.1"}, r"nodes\.web\.listen: .*is not http://HOST:PORT"),
        ({"listen": "http://0.0.0.0:8000"}, r"nodes\.web\.listen: .*ask for an api_key, or .*insecure = true"),
        ({"api_key": "a", "api_key_from": "B"}, r"nodes\.web\.api_key: give either api_key or api_key_from"),
    ],
)
def test_what_a_gateway_needs(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        deployment(tmp_path, web={"role": "gateway", "dial": "verify", **changes})


def test_a_gateway_binds_loopback_unless_told_and_may_leave_it_with_a_key(tmp_path: Path) -> None:
    web = {"role": "gateway", "dial": "verify"}
    assert deployment(tmp_path, web=web).node("web").listen == "http://127.0.0.1:8000"
    free = deployment(tmp_path, web={**web, "listen": "http://0.0.0.0:0", "api_key_from": "KEY"})
    assert free.has_free_port("web")
    assert free.url_for("web") == "http://127.0.0.1:0"
    secret = deployment(tmp_path, web={**web, "api_key": "hush"}).node("web")
    assert "hush" not in repr(secret)


@pytest.mark.parametrize("changes", [{"api_key": "x"}, {"resubmit": True}, {"listen": "http://127.0.0.1:1"}])
def test_what_belongs_to_a_gateway_alone(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="gateway"):
        deployment(tmp_path, verify=changes)


KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


def test_keys_satisfy_the_rule_for_listening_and_their_files_resolve(tmp_path: Path) -> None:
    keys = (f"security.server_key={KEY}", "security.allow=allow.toml", "security.client_key=c.key")
    verify: dict[str, object] = {"listen": "tcp://10.0.0.1:1", "key": "v.key"}
    made = deployment(tmp_path, *keys, verify=verify, draft={"key": "sub/d.key"})
    here, set_from = str(tmp_path / "v.key"), Path.cwd()
    assert made.node("verify").key == here
    assert made.keys("draft") == {"key": str(tmp_path / "sub" / "d.key"), "server_key": KEY}
    assert made.keys() == {"key": str(set_from / "c.key"), "server_key": KEY}
    assert deployment(tmp_path, *keys, verify=verify).keys("draft") == made.keys()


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["security.allow=a.toml"], r"security\.server_key: is missing, and security\.allow has no effect"),
        (["nodes.draft.key=d.key"], r"security\.server_key: is missing, and nodes\.draft\.key has no effect"),
        ([f"security.server_key={KEY}", "security.allow=a", "nodes.draft.key=d"], r"nodes\.verify\.key: is missing"),
        ([f"security.server_key={KEY}", "security.allow=a", "nodes.verify.key=v"], r"nodes\.draft\.key: is missing"),
        (
            [f"security.server_key={KEY}", "nodes.draft.key=d", "nodes.verify.key=v"],
            r"security\.allow: is missing; write a file of the public keys",
        ),
        (["security.server_key=short"], r"security\.server_key: 'short' is no public key; it has 40 characters"),
    ],
)
def test_half_a_lock_is_none(tmp_path: Path, sets: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        deployment(tmp_path, *sets)


def test_keys_do_not_cover_a_gateways_http(tmp_path: Path) -> None:
    keys = (f"security.server_key={KEY}", "security.allow=a", "security.client_key=c", "nodes.verify.key=v")
    with pytest.raises(ConfigError, match=r"nodes\.web\.listen: .*ask for an api_key, or accept"):
        deployment(tmp_path, *keys, web={"role": "gateway", "dial": "verify", "listen": "http://0.0.0.0:1"})
