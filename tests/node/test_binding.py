"""A process gets the device that its node names, or an error that says what there is instead."""

from __future__ import annotations

import pytest

from amusd_mp.config import NodeConfig
from amusd_mp.errors import ConfigError
from amusd_mp.node.binding import allowed_cores, bind, pin, visible_device


@pytest.mark.parametrize(
    ("number", "visible", "entry"),
    [(0, None, "0"), (3, None, "3"), (1, "4,7", "7"), (0, " GPU-abc , 2", "GPU-abc"), (0, "2,", "2")],
)
def test_a_number_counts_what_is_visible(number: int, visible: str | None, entry: str) -> None:
    assert visible_device("draft", number, visible) == entry


@pytest.mark.parametrize("visible", ["", "0,1"])
def test_a_gpu_that_is_not_visible_is_refused(visible: str) -> None:
    with pytest.raises(ConfigError, match=r"nodes\.draft\.device: no cuda:2; .* shows (0|2) GPU"):
        visible_device("draft", 2, visible)


def test_threads_are_told_to_the_libraries_by_environment() -> None:
    environ: dict[str, str] = {}
    config = NodeConfig(role="draft", threads=3)
    assert bind("draft", config, environ) == config
    assert environ["OMP_NUM_THREADS"] == environ["MKL_NUM_THREADS"] == "3"


def test_nothing_is_touched_that_is_not_asked_for() -> None:
    environ: dict[str, str] = {}
    bind("draft", NodeConfig(role="draft"), environ)
    assert environ == {}


@pytest.mark.skipif(allowed_cores() is None, reason="the system does not tell")
def test_an_absent_core_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"nodes\.draft\.cores: no core 5000; this process may use \d"):
        pin("draft", (5000,))
