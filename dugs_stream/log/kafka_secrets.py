"""Which passwords does a connection need, and where do they stand? Read anew each time, so that they may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dugs_stream.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from dugs_stream.log.settings import KafkaSettings

__all__ = ["secret"]


def secret(settings: KafkaSettings, name: str) -> str | None:
    """A password, from the setting itself or from the first line of its file; None where there is none."""
    given = getattr(settings, name)
    if given is not None:
        return str(given.get_secret_value())
    file = getattr(settings, f"{name}_file")
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise _refused(name, f"cannot be read: {error}", "Name a file that holds it.") from error
    except UnicodeDecodeError:
        # Its text would quote a byte of the secret, and a chained traceback all of it.
        raise _refused(name, f"{str(file)!r} is not UTF-8 text", "Name a file that holds it.") from None
    if not lines or not lines[0]:
        raise _refused(name, f"{str(file)!r} is empty", "Put the secret on its first line.")
    return str(lines[0])


def _refused(name: str, found: str, hint: str) -> ConfigurationError:
    return ConfigurationError([Problem(f"log.kafka.{name}_file", found, hint)])
