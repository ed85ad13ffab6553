"""Which nodes run here is settled by names and addresses or by --host, and never guessed."""

from __future__ import annotations

import pytest

from amusd_mp.config import Deployment, NodeConfig
from amusd_mp.config.hosts import ThisMachine
from amusd_mp.errors import ConfigError


class Fake:
    """A machine called gpu-a with one address, in a network that knows some names."""

    def names(self) -> frozenset[str]:
        return frozenset({"gpu-a", "gpu-a.lab", "localhost"})

    def addresses_of(self, name: str) -> tuple[str, ...]:
        known = {"alias": "10.0.0.1", "gpu-b": "10.0.0.2", "10.0.0.1": "10.0.0.1"}
        return (known[name],) if name in known else ()

    def owns(self, address: str) -> bool:
        return address == "10.0.0.1"


def local(*hosts: str | None, host: str | None = None) -> tuple[str, ...]:
    """Return which of the nodes n0, n1, ... with these hosts run on the fake machine."""
    nodes = {f"n{number}": NodeConfig(role="observer", host=where) for number, where in enumerate(hosts)}
    return Deployment(nodes).local_nodes(host, Fake())


def test_a_node_without_a_host_runs_here() -> None:
    assert local(None, None) == ("n0", "n1")


@pytest.mark.parametrize("name", ["gpu-a", "GPU-A", "gpu-a.lab", "alias", "10.0.0.1"])
def test_names_and_addresses_settle_it(name: str) -> None:
    assert local(name, "gpu-b", None) == ("n0", "n2")


def test_a_name_that_means_nothing_here_is_elsewhere_if_another_is_here() -> None:
    assert local("gpu-a", "mystery") == ("n0",)


def test_nothing_is_guessed_when_no_name_settles_it() -> None:
    with pytest.raises(ConfigError, match=r"cannot tell .*gpu-a.*--host NAME.*mystery, gpu-b"):
        local("mystery", "gpu-b")


def test_the_flag_settles_it() -> None:
    assert local("mystery", "gpu-b", host="Mystery") == ("n0",)
    with pytest.raises(ConfigError, match=r"--host gpu-c: .*hosts of this file: mystery, gpu-b"):
        local("mystery", "gpu-b", host="gpu-c")


def test_a_file_all_of_whose_nodes_are_elsewhere_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no node is placed on this machine; hosts: gpu-b"):
        local("gpu-b")


def test_the_real_machine_knows_itself() -> None:
    machine = ThisMachine()
    assert "localhost" in machine.names()
    assert machine.owns("127.0.0.1")
    assert not machine.owns("192.0.2.1")  # a documentation address (RFC 5737) belongs to nobody
    assert machine.addresses_of("127.0.0.1") == ("127.0.0.1",)
