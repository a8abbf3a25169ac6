"""What a scenario tells while it runs: renderers listen, and are never asked anything."""

from collections.abc import Callable
from dataclasses import dataclass

from p2pnet.model.scenario_run import ScenarioStep
from p2pnet.scenario.plan import PlannedStep
from p2pnet.scenario.trial import TrialResult


@dataclass(frozen=True, slots=True)
class TrialBegan:
    """A trial begins: its subnet is being started."""

    seed: int
    trial: int
    """From 1."""
    trials: int


@dataclass(frozen=True, slots=True)
class SubnetUp:
    """The subnet is connected. `what`: what it is, in words."""

    what: str


@dataclass(frozen=True, slots=True)
class StepBegan:
    """A step begins."""

    step: PlannedStep


@dataclass(frozen=True, slots=True)
class StepProgress:
    """How far a step, or with None the start of the subnet, is: `done` of `total` of what `text` counts; 0: none counted."""

    step: PlannedStep | None
    text: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step is over, as it stands in the document of the run."""

    step: PlannedStep
    result: ScenarioStep


@dataclass(frozen=True, slots=True)
class Ending:
    """All steps are over, or nothing more is done: the subnet is taken down, or left."""

    interrupted: bool


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial is over."""

    result: TrialResult


ScenarioEvent = TrialBegan | SubnetUp | StepBegan | StepProgress | StepEnded | Ending | TrialEnded
EventListener = Callable[[ScenarioEvent], None]
