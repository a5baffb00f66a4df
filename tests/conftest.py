"""What every tier of tests may use."""

pytest_plugins = ["tests.fixtures.servers"]
