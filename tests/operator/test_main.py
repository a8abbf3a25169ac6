"""What the operator does before it acts, and what its command line answers."""

import json
import os
import subprocess
import sys

import pytest
from tests.operator.kit import NOW, Api
from tests.patience import PATIENCE_S

from p2pnet.model.errors import TargetError
from p2pnet.operator.__main__ import KINDS, check_crds, main
from p2pnet.operator.kube.api import ApiError, BusyError


async def test_a_missing_crd_ends_the_start_with_a_hint() -> None:
    api = Api(lambda: NOW)
    await check_crds(api, ())

    async def missing(*_: object) -> list[dict[str, object]]:
        raise ApiError(404, "NotFound", "no such resource")

    api.find = missing  # type: ignore[assignment,method-assign]
    with pytest.raises(TargetError, match="subnets") as raised:
        await check_crds(api, ("a",))
    assert "crd" in raised.value.hint


async def test_a_server_that_is_busy_at_the_start_is_asked_again_for_a_while() -> None:
    api, asked = Api(lambda: NOW), 0

    async def busy_twice(*_: object) -> list[dict[str, object]]:
        nonlocal asked
        asked += 1
        if asked > 2:
            return []
        error = BusyError(429, "TooManyRequests", "later")
        error.retry_after_s = 0.001
        raise error

    api.find = busy_twice  # type: ignore[assignment,method-assign]
    await check_crds(api, ())
    assert asked == 2 + len(KINDS)
    asked = 0
    with pytest.raises(TargetError, match="later"):
        await check_crds(api, (), patience_s=0.0)
    assert asked == 1


def test_wrong_arguments_are_answered_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["what"]) == 2
    assert "crd" in capsys.readouterr().err
    assert main(["rbac"]) == 0


@pytest.mark.parametrize("arguments", [["--log-format", "json"], ["run", "--log-format=json"]])
def test_with_a_format_of_objects_the_operator_says_everything_in_them(arguments: list[str]) -> None:
    # Nobody listens there: it ends by itself, and says why.
    environment = {**os.environ, "KUBECONFIG": os.devnull, "P2PNET_WORKERS": "2"}
    command = [sys.executable, "-m", "p2pnet.operator", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode != 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[0]["message"].startswith("p2pnet-operator ")
    assert "serves all namespaces with 2 workers" in lines[0]["message"]
    assert lines[-1]["level"] == "CRITICAL"
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["--log-format", "loud"], ["run", "--log-format"], ["crd", "--log-format=xml"]])
def test_an_unknown_log_format_is_answered_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "--log-format text|json" in capsys.readouterr().err
