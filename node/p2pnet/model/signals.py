"""What signals are called."""

import signal


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; `signal 40` for one without a name, as real-time signals are."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
