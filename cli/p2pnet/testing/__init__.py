"""A subnet for the length of a test: what a person does with `p2pnet up`, `inject`, `fault` and `down`, from Python.

    import p2pnet.testing

    def test_blocks_reach_everybody():
        with p2pnet.testing.subnet(nodes=10) as net:
            net.inject(size=64 * 1024, count=20, rate=10).expect("p95 <= 800ms")

As a fixture, so that a module's tests share one:

    @pytest.fixture(scope="module")
    def net():
        with p2pnet.testing.subnet(nodes=10) as net:
            yield net

The commands run in processes of their own, with a state directory of their own, which is removed together with the subnet at the
end, whatever the test did. `on="sim"` simulates instead: each injection is a run in a world of its own.
"""

from p2pnet.testing.net import CommandFailedError, MeasuredRun, Net, subnet

__all__ = ["CommandFailedError", "MeasuredRun", "Net", "subnet"]
