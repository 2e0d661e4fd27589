"""Error of hooks that do not give a model's whole gradient: what the probe tries next depends on it."""

from collections.abc import Collection, Sequence

from dugs_stream.core.gradients.layers import LayerPathError
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.projector import NoAxisError, UnevenError


class UnfitError(Exception):
    """The hooks do not give the whole gradient; the message begins a remark.

    layers  names of those whose path may be what is wrong
    """

    def __init__(self, message: str, layers: Collection[str] = ()) -> None:
        super().__init__(message)
        self.layers = layers


def not_whole(names: Sequence[str], layers: Collection[str] = ()) -> UnfitError:
    """The calls of the layers are not all that uses these parameters."""
    return UnfitError(
        f"The calls of the chosen layers do not give the whole gradient of {', '.join(names[:5])}", layers
    )


def unfit(error: Exception) -> Exception:
    """The same error as an UnfitError; one that says that memory ran out stays as it is."""
    if is_out_of_memory(error) or isinstance(error, UnfitError):
        return error
    if isinstance(error, UnevenError):
        layers = error.layers if isinstance(error, NoAxisError) else ()
        return UnfitError(f"{str(error)[:1].upper()}{str(error)[1:]}", layers)
    if isinstance(error, LayerPathError):
        return UnfitError(f"Layers do not run alone ({error})", error.layers)
    return UnfitError(f"The chosen layers do not run alone ({error})")
