"""Rule: a role is found by name, and what cannot be one is refused with the reason."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from amusd_mp.errors import ConfigError
from amusd_mp.node import contract as node


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Entry points as if installed: role -> value."""
    points: dict[str, str] = {}

    def entry_points(group: str) -> list[EntryPoint]:
        return [EntryPoint(name, value, group) for name, value in points.items()]

    monkeypatch.setattr(node, "entry_points", entry_points)
    return points


def test_the_built_in_roles_enter_by_the_same_door() -> None:
    assert {"draft", "verify"} <= set(node.known_roles())
    assert issubclass(node.find_role("verify"), node.Node)


def test_an_unknown_role_is_answered_with_the_known(installed: dict[str, str]) -> None:
    installed.update(b="x:Y", a="x:Y")
    with pytest.raises(ConfigError, match="no node has the role 'c'; installed: a, b"):
        node.find_role("c")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("absent_module:Node", "cannot be imported: No module named 'absent_module'"),
        ("amusd_mp.errors:Absent", "cannot be imported"),
        ("amusd_mp.errors:AmusdError", "is no subclass of amusd_mp.node.Node"),
        ("amusd_mp.errors:__name__", "is no subclass of amusd_mp.node.Node"),
    ],
)
def test_what_is_no_node_is_refused(installed: dict[str, str], value: str, reason: str) -> None:
    installed["odd"] = value
    with pytest.raises(ConfigError, match=reason) as caught:
        node.find_role("odd")
    assert value in str(caught.value)
