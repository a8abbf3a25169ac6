"""What `make bench-sim` says of the simulator is what happened, and one run for every hash seed."""

from tests.bench import simulator


def test_a_run_is_the_same_under_any_hash_seed_and_its_figures_are_of_all_nodes():
    first, second = (simulator.one(60, 700, hash_seed=seed) for seed in (1, 2))
    assert first["digest"] == second["digest"]
    assert first["inputs"] == second["inputs"] > 300
    assert first["reached"] == 59
    assert 0.05 <= first["last_s"] < 2
    assert first["run_s"] > 0
    assert first["bare"] > 1_000
    assert "60 " in simulator.line(first)
