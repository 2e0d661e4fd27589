"""Models of torch.compile: the modules that they wrap, under the names and with the weights that those have alone."""

from __future__ import annotations

from torch import nn

_WRAPPED = "_orig_mod"


def uncompiled(module: nn.Module) -> nn.Module:
    """The module without its compiled wrappers, at any depth; what it holds is changed in place.

    Gradients layer by layer need each layer to run, and compiled code has fused them. The wrapper also puts
    `_orig_mod.` into every name, so that the same weights would have another fingerprint.
    """
    module = _unwrapped(module)
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):  # noqa: SLF001 (named_children skips a second name)
            inner = None if child is None else _unwrapped(child)
            if inner is not child:
                parent._modules[name] = inner  # noqa: SLF001
        # `Module.compile()` leaves the module in its place and sets this; torch has no public way back.
        if getattr(parent, "_compiled_call_impl", None) is not None:
            parent._compiled_call_impl = None  # noqa: SLF001
    return module


def _unwrapped(module: nn.Module) -> nn.Module:
    while _WRAPPED in module._modules:  # noqa: SLF001 (torch has no public name for it)
        module = module._modules[_WRAPPED]  # type: ignore[assignment]  # noqa: SLF001
    return module
