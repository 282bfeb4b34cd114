"""The platform team's settings: `load` reads and checks them once, at the operator's start."""

from vllm_operator.settings.load import SettingsError, load
from vllm_operator.settings.types import NodeCache, Policy, Profile, Settings, Toleration

__all__ = ["NodeCache", "Policy", "Profile", "Settings", "SettingsError", "Toleration", "load"]
