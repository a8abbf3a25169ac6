"""The operator's settings are read from its environment."""

import pytest

from p2pnet.model.errors import SpecError
from p2pnet.operator.settings import OperatorSettings


def test_settings_come_from_the_environment_and_say_what_is_wrong() -> None:
    found = OperatorSettings.read(
        {"P2PNET_WATCH_NAMESPACES": "a, b", "P2PNET_WORKERS": "7", "P2PNET_LEADER_ELECTION": "true",
         "P2PNET_IMAGE_PULL_SECRETS": "login,mirror"}
    )  # fmt: skip
    assert found.pull_secrets == ("login", "mirror")
    assert OperatorSettings.read({}).pull_secrets == ()
    assert (found.namespaces, found.workers, found.leader_election) == (("a", "b"), 7, True)
    assert OperatorSettings.read({}).node_image.startswith("p2pnet/p2pnet-node:")
    with pytest.raises(SpecError, match="P2PNET_WORKERS"):
        OperatorSettings.read({"P2PNET_WORKERS": "many"})
    assert OperatorSettings.read({"P2PNET_LOG_FORMAT": "JSON", "P2PNET_LOG_LEVEL": "debug"}).log_format == "json"
    for wrong in ("LOG_FORMAT", "LOG_LEVEL"):
        with pytest.raises(SpecError, match=f"P2PNET_{wrong}='loud': one of "):
            OperatorSettings.read({f"P2PNET_{wrong}": "loud"})
