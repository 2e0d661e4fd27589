"""Libraries that are imported when they are first used: each worker collects all tests, and runs few of those that need them.

transformers = imported_late("transformers")
transformers.BertConfig()                 # now
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class _Late(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith(
            ("_", "pytest")
        ):  # what pytest asks of anything that it finds in a module of tests
            raise AttributeError(name)
        return getattr(import_module(self.__name__), name)


def imported_late(name: str) -> Any:
    """What stands for the module. transformers alone takes four seconds of CPU."""
    return _Late(name)
