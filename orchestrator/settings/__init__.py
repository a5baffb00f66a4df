"""Settings: the environment becomes each part's options."""

from orchestrator.settings.checks import Need
from orchestrator.settings.load import Settings, load_settings

__all__ = ["Need", "Settings", "load_settings"]
