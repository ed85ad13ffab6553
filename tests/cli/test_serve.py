"""Rule: `serve` adds the gateway that a file lacks, moves the one it has, and says what contradicts that."""

from __future__ import annotations

from pathlib import Path

import pytest

from amusd_mp.cli.serve import with_gateway
from amusd_mp.config import Deployment, load_deployment
from amusd_mp.errors import ConfigError

VERIFY = '[nodes.verify]\nrole = "verify"\nmodel = "bundled:verify"\nhost = "a"\n'


def deployment(tmp_path: Path, more: str = "") -> Deployment:
    file = tmp_path / "file.toml"
    file.write_text(VERIFY + more)
    return load_deployment(file, environ={})


def test_a_gateway_is_added_beside_the_verify_node(tmp_path: Path) -> None:
    node = with_gateway(deployment(tmp_path), None).node("gateway")
    assert (node.dial, node.listen, node.host) == ("verify", "http://127.0.0.1:8000", "a")


def test_the_one_of_the_file_is_kept_or_moved(tmp_path: Path) -> None:
    named = deployment(tmp_path, '[nodes.web]\nrole = "gateway"\ndial = "verify"\napi_key = "k"\n')
    assert with_gateway(named, None) is named
    moved = with_gateway(named, "http://127.0.0.1:9").node("web")
    assert (moved.listen, moved.api_key) == ("http://127.0.0.1:9", "k")


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--listen: nodes\.gateway\.listen: .*ask for an api_key"):
        with_gateway(deployment(tmp_path), "http://0.0.0.0:80")
    for url in ("http://[::1:8000", "http://127.0.0.1", "http://127.0.0.1:99999", "127.0.0.1:8000"):
        with pytest.raises(ConfigError, match="--listen: "):
            with_gateway(deployment(tmp_path), url)
    other = deployment(tmp_path, '[nodes.gateway]\nrole = "draft"\nmodel = "bundled:draft"\ndial = "verify"\n')
    with pytest.raises(ConfigError, match="name it otherwise"):
        with_gateway(other, None)
