"""What every tier of tests may use."""

from hypothesis import settings

pytest_plugins = ["tests.fixtures.servers"]

# A busy machine is no failure of an example: the test as a whole has its time.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
