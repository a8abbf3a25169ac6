"""What every test of the house lives by."""

from hypothesis import settings

# A busy machine is no failure: examples are bounded in number and size, never in time.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
