"""`p2pnet`, `kubectl p2pnet`, `python -m p2pnet.cli`, and what kubectl asks for completions."""

import contextlib
import sys
from typing import NoReturn


def main() -> NoReturn:
    """The entry point of the scripts."""
    try:
        from p2pnet.cli.app import main as run

        code = run()
    except KeyboardInterrupt:  # before there was anything to interrupt
        if sys.stderr is not None:
            sys.stderr.write("interrupted: nothing was done\n")
        code = 130
    _end(code)


def _end(code: int) -> NoReturn:
    """End with this code. Where a world was simulated, at once: to take it apart takes seconds, a thread may be at it."""
    if "p2pnet.sim.world" in sys.modules:
        import os

        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def complete_for_kubectl() -> None:
    """`kubectl_complete-p2pnet WORD...`: what kubectl asks for the words after `kubectl p2pnet`, in kubectl's own form.

    A line per word, with its explanation behind a tab; last what the shell is to do: `:4`, no names of files; `:0`, those too.
    """
    import io
    import os
    import shlex

    from p2pnet.cli.app import main as run
    from p2pnet.cli.shell_completion import VARIABLE

    typed = shlex.join(["p2pnet", *sys.argv[1:]]).removesuffix("''")  # nothing typed yet is an empty word
    os.environ |= {VARIABLE: "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_ARGS": typed}
    answer = io.StringIO()
    with contextlib.redirect_stdout(answer):
        run([])
    words = answer.getvalue().strip()
    sys.stdout.write(f"{words}\n:4\n" if words else ":0\n")


if __name__ == "__main__":
    main()
