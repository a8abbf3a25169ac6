"""When a ttl ends: counted on the clock that does not jump, warned of, stretched by a run."""

from datetime import UTC, datetime, timedelta

import pytest

from p2pnet.subnet.document import load_subnet
from p2pnet.subnet.expiry import RUN_GRACE, ExpiryTimer, expires_at, is_expired, is_expiring

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Clocks:
    def __init__(self) -> None:
        self.steady, self.wall = 1_000.0, 1_795_292_000.0
        self.timer = ExpiryTimer(lambda: self.steady, lambda: self.wall)

    def pass_(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds


def subnet(**spec):
    document = {"apiVersion": "p2pnet.io/v1alpha1", "kind": "Subnet", "metadata": {"name": "demo"}, "spec": spec}
    return load_subnet(document)


def test_a_ttl_counts_from_creation() -> None:
    assert expires_at(subnet(ttl="1h"), NOW) == NOW + timedelta(hours=1)
    assert expires_at(subnet(), NOW) is None
    assert expires_at(subnet(ttl="1h"), None) is None


def test_the_warning_comes_ten_minutes_before_the_end() -> None:
    assert not is_expiring(timedelta(minutes=10, seconds=1))
    assert is_expiring(timedelta(minutes=10))


def test_an_open_run_has_half_an_hour_more() -> None:
    assert not is_expired(timedelta(seconds=1), busy=False)
    assert is_expired(timedelta(), busy=False)
    assert not is_expired(timedelta(seconds=1) - RUN_GRACE, busy=True)
    assert is_expired(-RUN_GRACE, busy=True)


def test_a_wall_clock_that_jumps_neither_ends_a_subnet_nor_keeps_it() -> None:
    clocks = Clocks()
    for jump in (+86_400.0, -2 * 86_400.0):
        clocks.wall += jump
        assert clocks.timer.left(3600) == timedelta(hours=1)
    clocks.steady += 3600
    assert is_expired(clocks.timer.left(3600), busy=False)


def test_the_end_is_given_by_the_wall_clock_of_now() -> None:
    clocks = Clocks()
    assert clocks.timer.ends_at(3600) == clocks.timer.since + 3600
    clocks.pass_(60.3)
    assert clocks.timer.ends_at(3600) == clocks.timer.since + 3600
    clocks.wall += 86_400
    assert clocks.timer.ends_at(3600) == pytest.approx(clocks.wall + 3600 - 60.3)
