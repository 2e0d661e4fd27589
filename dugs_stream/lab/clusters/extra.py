"""The extra that studies such as `dugs clusters` need: scikit-learn, told before any of it is imported."""

from __future__ import annotations

from importlib.util import find_spec

from dugs_stream.errors import ConfigurationError, Problem


def require_scikit_learn(command: str = "dugs clusters", otherwise: str = "") -> None:
    """Raise ConfigurationError unless scikit-learn is installed; it is not imported.

    otherwise  another way out, for the end of the message
    """
    if find_spec("sklearn") is None:
        problem = Problem(
            command,
            "it needs scikit-learn, which is not installed.",
            f"In a clone of the repository: .venv/bin/pip install -e '.[lab]' -c constraints.txt{otherwise}",
        )
        raise ConfigurationError([problem])


def require_umap() -> None:
    """Raise ConfigurationError unless umap-learn is installed; it is not imported."""
    if find_spec("umap") is None:
        problem = Problem(
            "--map umap",
            "umap-learn is not installed.",
            "Install with: pip install umap-learn, or leave --map out: two principal directions need nothing.",
        )
        raise ConfigurationError([problem])
