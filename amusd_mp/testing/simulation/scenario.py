"""What happens in one simulation, all of it drawn from one seed before anything runs.

A scenario is plain data: the weather on the links, the models, what each client asks for and how it behaves, and the
incidents. It is printed at the head of a replay. Sizes are chosen so that one run takes about a tenth of a real second:
small answers, few parties, but everything that can happen to them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from amusd_mp.core import limits
from amusd_mp.core.params import Strategy
from amusd_mp.session.tries import ATTEMPT
from amusd_mp.testing.simulation.model import VOCABULARY
from amusd_mp.testing.simulation.network import Weather

HORIZON = 6.0
"""Virtual seconds in which incidents begin, most of them in the first third: that is when clients ask."""

STRICT_LOSS = 0.1
"""Up to this share of lost messages no relation falls silent for the liveness time by bad luck alone."""


class Kind(StrEnum):
    """Kinds of incidents."""

    CRASH = "crash"  # falls silent at once, is torn down, and comes back `lasts` seconds later as another life
    DRAIN = "drain"  # is asked to end gracefully, and is started again `lasts` seconds after it has
    CUT = "cut"  # nothing reaches it and nothing leaves it, for `lasts` seconds
    STOP = "stop"  # its process stands still for `lasts` seconds; what arrives waits
    HANG = "hang"  # its next device step takes `lasts` seconds more
    STORM = "storm"  # the weather is much worse, for `lasts` seconds


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens to a party, or (`who` "") to the weather."""

    at: float
    kind: Kind
    who: str
    lasts: float


@dataclass(frozen=True, slots=True)
class Ask:
    """One request and how its reader behaves.

    pause:        seconds before it
    pace:         seconds the reader takes over each chunk
    leave_after:  chunks after which the reader leaves; None: never
    cancel_after: seconds after which its task is cancelled, wherever it is; None: never
    resubmit:     whether another life of the verify node may go on with it
    """

    prompt: tuple[int, ...]
    max_tokens: int
    strategy: Strategy | None = None
    lookahead: int | None = None
    timeout: float | None = None
    pause: float = 0.0
    pace: float = 0.0
    leave_after: int | None = None
    cancel_after: float | None = None
    resubmit: bool = False

    def __repr__(self) -> str:
        parts = [f"{len(self.prompt)}+{self.max_tokens} tokens"]
        parts += [f"{name} {value}" for name in self.__slots__[2:] if (value := getattr(self, name))]
        return f"<{', '.join(parts)}>"


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """One client: its requests in order, `width` of them at a time."""

    name: str
    width: int
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One model: how often it agrees with the truth, and seconds of a step and of each further token."""

    agrees: float
    step: float
    per_token: float
    shaken: float = 0.0  # share by which steps vary


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that is decided before a run. `drafts` holds, per draft, the models of its lives in turn."""

    seed: int
    weather: Weather
    storm: Weather
    rows: int
    draft_rows: int
    lookahead: int
    verify: ModelPlan
    drafts: tuple[tuple[ModelPlan, ...], ...]
    clients: tuple[ClientPlan, ...]
    incidents: tuple[Incident, ...]

    @property
    def strict(self) -> bool:
        """True if no silence is bad luck, so that every lost sequence must have a reason."""
        return self.weather.drop <= STRICT_LOSS and not self.stormy

    @property
    def rough(self) -> bool:
        """True if any single try of a request may fail by the weather alone."""
        late = self.weather.reorder > 0 and self.weather.hold > ATTEMPT
        return self.weather.drop > 0 or late or self.stormy

    @property
    def stormy(self) -> bool:
        """True if there is a storm."""
        return any(incident.kind is Kind.STORM for incident in self.incidents)

    @property
    def hangs(self) -> bool:
        """True if a device hangs for longer than a node puts up with."""
        return any(incident.kind is Kind.HANG and incident.lasts > limits.STEP_LIMIT for incident in self.incidents)


def draw(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    dice = random.Random(f"scenario {seed}")
    drafts = dice.choice((0, 1, 1, 1, 2, 2, 3))
    clients = tuple(_client(dice, number) for number in range(dice.choice((1, 1, 2, 2, 3))))
    verify = ModelPlan(1.0, dice.choice((0.01, 0.02, 0.04)), dice.choice((0.0, 0.001)), dice.choice((0.0, 0.3)))
    return Scenario(
        seed=seed,
        weather=_weather(dice, worst=dice.choice((0.0, 0.03, STRICT_LOSS, 0.25))),
        storm=_weather(dice, worst=0.5),
        rows=dice.choice((1, 2, 4)),
        draft_rows=dice.choice((1, 2, 4)),
        lookahead=dice.choice((1, 4, 16)),
        verify=verify,
        drafts=tuple(tuple(_draft(dice, verify.step) for _ in range(2)) for _ in range(drafts)),
        clients=clients,
        incidents=_incidents(dice, drafts, clients),
    )


def _weather(dice: random.Random, worst: float) -> Weather:
    least = dice.choice((0.0, 0.0, 0.002, 0.02))
    return Weather(
        drop=dice.choice((0.0, worst)),
        duplicate=dice.choice((0.0, 0.0, 0.1, 0.4)),
        delay=(least, least + dice.choice((0.0, 0.001, 0.02))),
        reorder=dice.choice((0.0, 0.0, 0.1, 0.4)),
        hold=dice.choice((0.01, 0.1, 1.5)),
    )


def _draft(dice: random.Random, verify_step: float) -> ModelPlan:
    step = verify_step * dice.choice((0.1, 0.2, 0.5, 0.5, 2.0))
    return ModelPlan(dice.choice((0.0, 0.3, 0.7, 0.7, 0.9, 1.0)), step, 0.0, dice.choice((0.0, 0.5)))


def _client(dice: random.Random, number: int) -> ClientPlan:
    asks = tuple(_ask(dice) for _ in range(dice.randint(1, 5)))
    return ClientPlan(f"client-{number}", dice.choice((1, 1, 2, 3)), asks)


def _ask(dice: random.Random) -> Ask:
    prompt = tuple(dice.randrange(VOCABULARY) for _ in range(dice.choice((1, 3, 20, 20, 300))))
    return Ask(
        prompt=prompt,
        max_tokens=dice.choice((1, 2, 8, 20, 40, 90, 160, 300)),
        strategy=dice.choice((None, None, None, *Strategy)),
        lookahead=dice.choice((None, None, None, 1, 3, 32)),
        timeout=dice.choice((None, None, None, 0.2, 1.0, 6.0)),
        pause=dice.choice((0.0, 0.0, dice.uniform(0.0, 3.0))),
        pace=dice.choice((0.0, 0.0, 0.0, 0.1)),
        leave_after=dice.choice((None, None, None, None, 1, 3)),
        cancel_after=dice.choice((None, None, None, None, dice.uniform(0.0, 0.1), dice.uniform(0.0, 2.0))),
        resubmit=dice.random() < 0.5,
    )


def _incidents(dice: random.Random, drafts: int, clients: tuple[ClientPlan, ...]) -> tuple[Incident, ...]:
    parties = ["verify", "verify", *(f"draft-{number}" for number in range(drafts)), *(plan.name for plan in clients)]
    found = []
    for _ in range(dice.choice((0, 1, 1, 2, 3, 4, 6))):
        who = dice.choice(parties)
        kinds = [Kind.CRASH, Kind.CUT, Kind.CUT, Kind.STOP, Kind.STORM]
        if not who.startswith("client"):
            kinds += [Kind.CRASH, Kind.DRAIN, Kind.HANG]
        kind = dice.choice(kinds)
        lasts = dice.choice((dice.uniform(0.0, 0.3), dice.uniform(0.3, 2.0), dice.uniform(2.0, 4.0)))
        if kind is Kind.HANG and dice.random() < 0.1:
            lasts = 100.0
        found.append(Incident(0.1 + HORIZON * dice.random() ** 2, kind, "" if kind is Kind.STORM else who, lasts))
    return tuple(sorted(found, key=lambda incident: incident.at))
