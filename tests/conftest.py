"""What every tier of tests may use."""

from hypothesis import settings

pytest_plugins = ["tests.fixtures.servers", "tests.fixtures.standstill"]

# A busy machine is no failure of an example: the test as a whole has its time.
settings.register_profile("tests", deadline=None)
settings.register_profile("long", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("tests")
