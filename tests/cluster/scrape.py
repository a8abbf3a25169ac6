"""What an operator's process costs and counts: its metrics page, memory and processor time."""

import os
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families as families
from tests.cluster.control import Control


def metrics(control: Control, port: int) -> str:
    """The metrics of an operator in the cluster's network."""

    async def ask() -> str:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            return await answer.text()

    return control.inside.do(ask())


def value(page: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels; 0 when there are none."""
    samples = [sample for family in families(page) for sample in family.samples if sample.name == name]
    return sum(one.value for one in samples if labels.items() <= one.labels.items())


def resident_mib(pid: int) -> float:
    """Memory of a process."""
    [line] = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has taken so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
