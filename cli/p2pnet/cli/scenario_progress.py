"""How a scenario goes, on stderr: a live line on a terminal, and a line for each step that is over, everywhere."""

from p2pnet.cli.session import Session
from p2pnet.measure.wording import turned_out
from p2pnet.model.scenario_run import ScenarioStep
from p2pnet.model.units import format_duration
from p2pnet.scenario.events import (
    Ending,
    ScenarioEvent,
    StepBegan,
    StepEnded,
    StepProgress,
    SubnetUp,
    TrialBegan,
    TrialEnded,
)
from p2pnet.scenario.plan import ScenarioPlan

GROUPS = ("parallel", "steps")
"""Kinds of steps that are told of by what is in them."""


class ScenarioProgress:
    """A listener of one command's trials. `brief`: a line per trial in the place of one per step."""

    def __init__(self, plan: ScenarioPlan, session: Session, *, brief: bool = False) -> None:
        self._session = session
        self._steps = len(plan.steps)
        self._name = plan.subnet.name
        self._brief = brief
        self._going: dict[str, str] = {}
        """Steps that go on, by number, in words."""

    def hear(self, event: ScenarioEvent) -> None:
        """See `scenario.EventListener`."""
        match event:
            case TrialBegan():
                self._going.clear()
                if event.trials > 1:
                    self._say(f"trial {event.trial} of {event.trials}, seed {event.seed}")
                self._session.listener.waiting(f"{self._name} to be up")
            case SubnetUp():
                self._say(f"up       {event.what}")
            case StepBegan():
                if event.step.kind not in GROUPS:
                    self._going[event.step.number] = (
                        f"{event.step.number}/{self._steps} {event.step.kind} {event.step.what}"
                    )
                    self._wait()
            case StepProgress():
                self._progress(event)
            case StepEnded():
                self._going.pop(event.step.number, None)
                if event.step.kind not in GROUPS:
                    self._ended(event.result)
            case Ending():
                why = "interrupted: " if event.interrupted else ""
                self._session.listener.waiting(f"{why}{self._name} to be taken down; Ctrl-C again waits for nothing")
            case TrialEnded():
                if self._brief:
                    result = event.result
                    self._session.remark(f"seed {result.seed}: {result.verdict}, {result.seconds:.1f} s")

    def _progress(self, event: StepProgress) -> None:
        listener = self._session.listener
        name = "" if event.step is None else f"{event.step.number}/{self._steps} {event.step.name}: "
        if event.total:
            listener.progress(f"{name}{event.text}", event.done, event.total)
        else:
            listener.waiting(f"{name}{event.text}")

    def _wait(self) -> None:
        if self._going:
            self._session.listener.waiting("; ".join(self._going.values()))

    def _ended(self, step: ScenarioStep) -> None:
        if step.state == "not run":
            return
        mark = _mark(step)
        took = "" if not step.seconds else f"  {format_duration(step.seconds)}"
        run = f"  {step.run}" if step.run else ""
        detail = f"  {step.detail}" if step.detail else ""
        self._say(f"{step.number:<5} {mark:<7} {step.name}  {step.kind} {step.what}{detail}{run}{took}")
        for one in step.expectations:
            if not one.ok:
                self._say(f"      MISS    {one.expr}  ({turned_out(one)})")
        self._wait()

    def _say(self, line: str) -> None:
        if not self._brief:
            self._session.remark(line)


def _mark(step: ScenarioStep) -> str:
    """How a step went, in a word."""
    if step.state == "skipped":
        return "skipped"
    if step.state != "done":
        return "FAILED"
    judged = all(one.judged for one in step.expectations)
    return "ok" if step.ok else "MISS" if judged else "INVALID"
