"""What is kept of a scenario beside each of its runs: the document, and how it went."""

import contextlib

import msgspec

from p2pnet.model.scenario_run import ScenarioRecord
from p2pnet.store.archive import pretty
from p2pnet.store.files import write_atomic
from p2pnet.store.state import State

SCENARIO_FILE = "scenario.json"

_record = msgspec.json.Decoder(ScenarioRecord)


def keep_record(state: State, record: ScenarioRecord) -> None:
    """Put it beside each kept run of its trial. A disk that refuses costs the record, not the result."""
    data = pretty(record)
    for step in record.result.steps:
        folder = state.run(step.run) if step.run else None
        if folder is not None and folder.is_dir():
            with contextlib.suppress(OSError):
                write_atomic(folder / SCENARIO_FILE, data)


def read_record(state: State, run: str) -> ScenarioRecord | None:
    """The scenario that a run belongs to; None for any other, and for one whose record is damaged."""
    try:
        return _record.decode((state.run(run) / SCENARIO_FILE).read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError):
        return None


def runs_of_record(record: ScenarioRecord) -> dict[str, str]:
    """Id of each run by the name of its step, in the order of the steps."""
    return {step.name: step.run for step in record.result.steps if step.run}
