"""Settings of all tests."""

from hypothesis import settings

# The same examples each time, wherever it runs: a red build is red for everyone.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")
