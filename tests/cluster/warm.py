"""Operators at once: a process that has imported everything forks one whenever it is told to.

Run in the cluster's network as `python warm.py`. A line of JSON on stdin asks, a line on stdout answers:

    {"start": {VARIABLE: value}, "set": {"module.NAME": value}, "log": path}   -> {"pid": n}
    {"poll": pid}                         -> {"code": exit code or -signal, null while it runs}
"""

import importlib
import json
import os
import sys
from datetime import timedelta
from typing import Any

from kubernetes.aio.config import kube_config

import p2pnet.operator.__main__ as operator


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if "poll" in asked:
            pid, status = os.waitpid(asked["poll"], os.WNOHANG)
            answer = {"code": os.waitstatus_to_exitcode(status) if pid else None}
        else:
            answer = {"pid": _fork(asked)}
        print(json.dumps(answer), flush=True)


def _fork(asked: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        null, log = os.open(os.devnull, os.O_RDONLY), os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for here, there in ((null, 0), (log, 1), (log, 2)):
            os.dup2(here, there)
        os.environ.update(asked["start"])
        kube_config.KUBE_CONFIG_DEFAULT_LOCATION = asked["start"]["KUBECONFIG"]  # read when it was imported
        change(asked["set"])
        sys.exit(operator.main(["run"]))
    return pid


def change(values: dict[str, Any]) -> None:
    """Set constants of the operator, named without `p2pnet.operator.`; spans are given in seconds."""
    for path, value in values.items():
        module, _, name = path.rpartition(".")
        found = importlib.import_module(f"p2pnet.operator.{module}")
        before = getattr(found, name)
        setattr(found, name, timedelta(seconds=value) if isinstance(before, timedelta) else value)


if __name__ == "__main__":
    main()
