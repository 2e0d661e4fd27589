"""Paths by which layers' gradients are computed: for each layer a ladder, the quickest first, the surest last.

Which rung a layer stands on is found at the probe: a kind that claims a layer wrongly is left for the next one, for
that layer alone.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType

from dugs_stream.core.gradients import vjp, vjp_batched, vjp_unscaled
from dugs_stream.core.gradients.kinds import expanded, recorded_everywhere
from dugs_stream.core.gradients.kinds.registry import FAST_PATHS, fast_paths
from dugs_stream.core.gradients.layers import GradientPath, Layer

_OUTSIDE: tuple[ModuleType, ...] = (expanded, recorded_everywhere)
"""Paths that do not look at calls alone."""


@dataclass(frozen=True)
class LayerPaths:
    """For each layer's name the paths that are left to it, the first of them in use."""

    ladders: Mapping[str, tuple[ModuleType, ...]]

    @classmethod
    def quickest(cls, layers: Iterable[Layer], outside: Collection[str] = ()) -> "LayerPaths":
        """Every layer at the top: the kinds that claim it, then the local re-run, of many samples or of one.

        outside: names of parameters that are used outside of their layers' calls; nothing that looks at calls sees that.
        Such a layer may have no path at all.
        """
        seen = set(outside)
        ladders = {}
        for layer in layers:
            paths = fast_paths(layer)
            if any(owned.name in seen for owned in layer.parameters):
                ladders[layer.name] = tuple(path for path in _OUTSIDE if path.takes(layer))
            else:
                ladders[layer.name] = (*paths, vjp_batched, vjp, vjp_unscaled)
        return cls(ladders)

    @property
    def is_complete(self) -> bool:
        """Whether every layer has a path."""
        return all(self.ladders.values())

    def of(self, layer: Layer) -> ModuleType:
        """The path in use: a module with `add_terms` and `formed`."""
        return self.ladders[layer.name][0]

    def using(self, path: ModuleType) -> frozenset[str]:
        """Names of the layers that stand on this rung."""
        return frozenset(name for name, ladder in self.ladders.items() if ladder[0] is path)

    def label(self, layer: Layer) -> GradientPath:
        """What a user is told of it."""
        return "fast" if self.of(layer) in {*FAST_PATHS, recorded_everywhere} else "slow"

    def without_first(self, names: Collection[str]) -> "LayerPaths | None":
        """These layers one rung down where there is one; None if there is none for any of them."""
        lower = {name: self.ladders[name][1:] for name in names if len(self.ladders[name]) > 1}
        return LayerPaths({**self.ladders, **lower}) if lower else None

    def without_batches(self) -> "LayerPaths | None":
        """The layers that are re-run for many samples at once re-run for one at a time; None if there are none."""
        return self.without_first(self.using(vjp_batched))
