"""Settings: the environment becomes each part's options."""

from orchestrator.settings.checks import Need
from orchestrator.settings.load import Examined, Settings, examine_settings, load_settings

__all__ = ["Examined", "Need", "Settings", "examine_settings", "load_settings"]
