"""The phases of a run: what its report notes about nodes."""

from p2pnet.lab.runs.runner import notes_about_nodes
from p2pnet.model.jobs import LogLine


def test_a_report_notes_what_happened_to_nodes_unless_its_run_ordered_it():
    def warned(node: str, text: str) -> LogLine:
        return LogLine(1.0, node, f"2026-11-29T00:20:33.250Z WARNING p2pnet.lab.nodes: {node}: {text}", "WARNING")

    said = [warned("a", "stopped: by SIGSTOP"), warned("b", "killed"), warned("a", "silent for 6 s")]
    assert notes_about_nodes(said, {"b"}, "p2pnet logs demo --run r") == [
        "a: stopped: by SIGSTOP (and 1 more warning: p2pnet logs demo --run r)"
    ]
    many = notes_about_nodes([warned(f"n{index}", "x") for index in range(9)], set(), "LOGS")
    assert len(many) == 6
    assert many[-1] == "4 more nodes had problems: LOGS"
