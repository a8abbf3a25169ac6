"""The document of a scenario that was made smaller as long as it failed by the same expectation."""

from typing import Any, Literal

import msgspec

from p2pnet.model.scenario_run import StepExpectation


class ScenarioSize(msgspec.Struct, frozen=True, kw_only=True):
    """How large a scenario is."""

    nodes: int
    """At most at the same time."""
    steps: int
    """Leaves: steps in parallel count, `parallel` itself does not."""
    faults: int
    """In the steps and in the Subnet."""
    artifacts: int
    """That its inject steps publish."""
    bytes: int
    """All those artifacts together."""
    lines: int
    """Both documents together."""


class ShrunkScenario(msgspec.Struct, frozen=True, kw_only=True):
    """A failing scenario, made smaller. Keys are a contract; more may follow."""

    schema: str = "p2pnet.io/shrunk/v1"
    scenario: str
    file: str
    """The scenario that was given."""
    seed: int
    expectation: StepExpectation
    """The one that both fail by, as it turned out in the smaller one."""
    before: ScenarioSize
    after: ScenarioSize
    trials: int
    """Simulations that it took."""
    seconds: float
    """By the wall clock."""
    state: Literal["finished", "bounded", "cancelled"]
    """finished: nothing that was tried makes it smaller. bounded: `why` says which bound ended it. cancelled: by Ctrl-C."""
    why: str = ""
    verified: bool
    """Whether the written files were run, and fail by the same expectation."""
    scenario_file: str
    subnet_file: str
    files: list[str] = []
    """Published files that had to be copied beside them."""
    rerun: str
    """The command that runs the smaller one."""
    scenario_document: dict[str, Any]
    subnet_document: dict[str, Any]
