"""What a Subnet says while cert-manager's own controllers can issue nothing."""

from collections.abc import Iterator

import pytest
from tests.cluster.control import Control, Place, Twin
from tests.cluster.issuing import CertManager
from tests.cluster.kit import conditions, until

IDENTITY = {"issuer": "certManager", "issuerRef": {"name": "ours"}}
SOON = {"subnet.plan.certmanager.ISSUED_WITHIN": 3}
"""A test cannot wait for the minute that an Issuer may take."""


@pytest.fixture
def place(control: Control) -> Iterator[Place]:
    with control.place() as made:
        yield made


@pytest.fixture
def cert_manager(control: Control, place: Place) -> Iterator[CertManager]:
    made = CertManager(control.cluster, place.name)
    made.define()
    yield made
    made.forget()


def degraded(demo: Twin) -> dict[str, str]:
    """The condition."""
    found = (demo.thing().get("status") or {}).get("conditions", [])
    return next((one for one in found if one["type"] == "Degraded"), {})


def test_an_issuer_that_is_not_there_is_named_and_once_it_is_the_leaves_come(
    control: Control, place: Place, cert_manager: CertManager
) -> None:
    with cert_manager.running(), control.operator(values=SOON, watch_namespaces=place.name):
        demo = place.subnet("demo", {"nodes": 3, "identity": IDENTITY})
        told = until(
            lambda: found if (found := degraded(demo)).get("reason") == "CertificateNotIssued" else None,
            "the Subnet says what it waits for",
        )
        assert "Issuer ours" in told["message"]
        cert_manager.issuer("ours")
        until(lambda: conditions(demo.thing()).get("CertificatesReady") == "True", "the leaves are there")
        until(lambda: degraded(demo)["status"] == "False", "nothing is wrong any more")
