"""The real nodes and the real client in virtual time: one seed is one exact run.

`loop` is the clock that jumps, `surroundings` what a node takes from its surroundings, `model` an engine that costs
virtual time and writes deterministic tokens, `network` the links and the lives of those who use them. On these stand
two uses: `pair` answers what a pair of models would do at a delay, and `run` throws everything at a deployment that can
go wrong (`scenario` draws it, `story` plays it, `watch` knows what must hold, `report` shows it).

Nothing here is part of a node: the code that runs is the code that ships.
"""

from amusd_mp.testing.simulation.pair import PairResult, simulate_pair
from amusd_mp.testing.simulation.run import Run, run_scenario, run_seed
from amusd_mp.testing.simulation.scenario import Scenario, draw

__all__ = ["PairResult", "Run", "Scenario", "draw", "run_scenario", "run_seed", "simulate_pair"]
