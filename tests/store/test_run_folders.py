"""Ids of runs."""

import random
import tempfile
from pathlib import Path

from p2pnet.store.run_folders import new_run_folder
from p2pnet.store.state import State


def test_run_ids_sort_by_time_and_are_nobody_elses():
    with tempfile.TemporaryDirectory() as folder:
        state, rng = State(Path(folder)), random.Random(1)
        names = [new_run_folder(state, 1_795_291_200.0 + i // 20, rng).name for i in range(60)]
    assert names == sorted(set(names))
    assert all(len(name) == len("r-20261121-201530-3f") for name in names)
