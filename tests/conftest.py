"""What every test of the house lives by."""

import signal

from hypothesis import settings

# A busy machine is no failure: examples are bounded in number and size, never in time.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

# A shell starts background jobs with Ctrl-C ignored, and so would every process be that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
