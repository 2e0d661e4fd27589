"""The configuration: defaults, a YAML file, the environment and --set become settings, or every problem at once."""

from __future__ import annotations

from dugs_stream.config.load import Loaded, config_schema, differing, effective, load, load_settings, warnings
from dugs_stream.config.settings import Settings

__all__ = [
    "Loaded",
    "Settings",
    "config_schema",
    "differing",
    "effective",
    "load",
    "load_settings",
    "warnings",
]
