"""Fast path of recurrent layers (LSTM, GRU, RNN, and one step of them): the whole tile once more through their recursion.

Every product of the recursion is one of a Linear layer; its output gradients and inputs at each step are the factors
Σ_t g_t ⊗ a_t of its weight. Cost: the recursion of the tile forward and back, then as `core.gradients.kinds.linear`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.kinds.factors import Factors, add_factors, formed_from
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.gradients.vjp import scaled_gradients
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum

_SEQUENCES = (nn.LSTM, nn.GRU, nn.RNN)
_CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def takes(layer: Layer) -> bool:
    """Whether the layer is one of torch's own recurrent ones, with parameters of its own alone."""
    module = layer.module
    kind = next((kind for kind in (*_SEQUENCES, *_CELLS) if isinstance(module, kind)), None)
    return (
        kind is not None
        and type(module).forward is kind.forward
        and "forward" not in vars(module)
        and all(owned.local in dict(module.named_parameters(recurse=False)) for owned in layer.parameters)
        and not any(hasattr(module, f"{owned.local}_g") for owned in layer.parameters)
    )


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of the layer's parameters from one call of it to `total`."""
    factors, scale = _factors(call, axes, total.dtype)
    add_factors(total, call.layer.parameters, factors, scale, sketch)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes."""
    dtype = torch.promote_types(call.layer.parameters[0].parameter.dtype, torch.float32)
    factors, scale = _factors(call, axes, dtype)
    return formed_from(factors, call.layer.parameters, scale, sample)


@dataclass
class _Recorder:
    """The products of one recursion, in their order: name of the weight, inputs (m, a), outputs (m, g)."""

    module: nn.Module
    dtype: torch.dtype
    products: list[tuple[str, str, Tensor, Tensor]] = field(default_factory=list)

    def product(self, values: Tensor, weight: str, bias: str) -> Tensor:
        """Inputs (…, a) → (…, g) = values·Wᵀ + b, with a gradient."""
        offset = self._number(bias)
        found = functional.linear(values, self._number(weight), offset)
        if not found.requires_grad:
            found = found.requires_grad_()
        self.products.append((weight, bias, values.detach(), found))
        return found

    def _number(self, name: str) -> Any:
        parameter = getattr(self.module, name, None)
        return parameter.detach().to(self.dtype) if isinstance(parameter, Tensor) else None


def _factors(call: LayerCall, axes: CallAxes, dtype: torch.dtype) -> tuple[dict[str, Factors], Tensor]:
    """By the name of each weight and bias its factors (m, t, …), and the exponent (m,) of their scale."""
    gradients, scale = scaled_gradients(call, axes)
    if scale is None:
        raise ValueError("no output has a gradient")
    recorder = _Recorder(call.layer.module, dtype)
    with torch.enable_grad():
        run = _cell_outputs if isinstance(call.layer.module, _CELLS) else _sequence_outputs
        outputs = run(recorder, call)
        pairs = [
            (output, gradient.to(dtype).movedim(0, axis))
            for output, gradient, axis in zip(outputs, gradients, axes.outputs, strict=True)
            if gradient is not None and axis is not None
        ]
        wanted = [found for *_, found in recorder.products]
        found = torch.autograd.grad(
            [output for output, _ in pairs],
            wanted,
            [gradient for _, gradient in pairs],
            materialize_grads=True,
        )
    return _by_name(recorder.products, found), scale


def _by_name(
    products: Sequence[tuple[str, str, Tensor, Tensor]], gradients: Sequence[Tensor]
) -> dict[str, Factors]:
    """Steps of one weight one after the other: factors (m, t, …)."""
    steps: dict[str, list[tuple[Tensor, Tensor]]] = {}
    biases = {}
    for (weight, bias, values, _), gradient in zip(products, gradients, strict=True):
        biases[bias] = weight
        # (m, width) of one step, or (t, m, width) of all
        g, a = (
            each.movedim(-2, 0).reshape(each.shape[-2], -1, each.shape[-1]) for each in (gradient, values)
        )
        steps.setdefault(weight, []).append((g, a))
    joined = {
        weight: Factors(torch.cat([g for g, _ in each], dim=1), torch.cat([a for _, a in each], dim=1))
        for weight, each in steps.items()
    }
    return joined | {bias: Factors(joined[weight].g, None) for bias, weight in biases.items()}


State = tuple[Tensor, ...]
"""h, and c of an LSTM: (m, hidden) each."""


def _sequence_outputs(recorder: _Recorder, call: LayerCall) -> list[Tensor]:
    """What the module returned, in its leaves' order: outputs, last h (and c)."""
    module: Any = call.layer.module
    values = call.argument("input", 0)
    if not isinstance(values, Tensor) or values.dim() != 3:  # noqa: PLR2004 -- packed, or without an axis of samples
        raise ValueError("a sequence that is packed or alone")
    values = (values.transpose(0, 1) if module.batch_first else values).to(recorder.dtype)  # (t, m, a)
    first = _first_state(call.argument("hx", 1))
    directions = 2 if module.bidirectional else 1
    last: list[State] = []
    for number in range(module.num_layers):
        outputs = []
        for direction in range(directions):
            suffix = f"_l{number}{'_reverse' if direction else ''}"
            place = number * directions + direction
            state = tuple(part[place].to(recorder.dtype) for part in first) or _zeros(module, values)
            found, end = _recursion(recorder, values, state, suffix, backwards=direction == 1)
            outputs.append(found)
            last.append(end)
        values = torch.cat(outputs, dim=-1)
    ends = [torch.stack(parts) for parts in zip(*last, strict=True)]
    return [values.transpose(0, 1) if module.batch_first else values, *ends]


def _cell_outputs(recorder: _Recorder, call: LayerCall) -> list[Tensor]:
    values = call.argument("input", 0).to(recorder.dtype)
    if values.dim() != 2:  # noqa: PLR2004 -- without an axis of samples
        raise ValueError("a step of one sample alone")
    state = tuple(part.to(recorder.dtype) for part in _first_state(call.argument("hx", 1)))
    state = state or _zeros(call.layer.module, values)
    _, end = _recursion(recorder, values[None], state, "", backwards=False)
    return list(end)


def _recursion(
    recorder: _Recorder, values: Tensor, state: State, suffix: str, *, backwards: bool
) -> tuple[Tensor, State]:
    """Values (t, m, a) → outputs (t, m, hidden), and the last state."""
    step = _step_of(recorder.module)
    given = recorder.product(
        values, f"weight_ih{suffix}", f"bias_ih{suffix}"
    )  # all steps at once: (t, m, gates)
    outputs: list[Tensor] = []
    for at in reversed(range(len(values))) if backwards else range(len(values)):
        own = recorder.product(state[0], f"weight_hh{suffix}", f"bias_hh{suffix}")
        state = step(given[at], own, state)
        if getattr(recorder.module, "proj_size", 0):
            state = (recorder.product(state[0], f"weight_hr{suffix}", ""), *state[1:])
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs), state


def _step_of(module: nn.Module) -> Callable[[Tensor, Tensor, State], State]:
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return _lstm_step
    if isinstance(module, nn.GRU | nn.GRUCell):
        return _gru_step
    nonlinearity: Any = module.nonlinearity
    return lambda given, own, _state: (getattr(torch, nonlinearity)(given + own),)


def _lstm_step(given: Tensor, own: Tensor, state: State) -> State:
    enter, keep, new, out = (given + own).chunk(4, dim=-1)
    c = keep.sigmoid() * state[1] + enter.sigmoid() * new.tanh()
    return out.sigmoid() * c.tanh(), c


def _gru_step(given: Tensor, own: Tensor, state: State) -> State:
    (reset, keep, new), (own_reset, own_keep, own_new) = given.chunk(3, dim=-1), own.chunk(3, dim=-1)
    kept = (keep + own_keep).sigmoid()
    proposed = (new + (reset + own_reset).sigmoid() * own_new).tanh()
    return ((1 - kept) * proposed + kept * state[0],)


def _first_state(hx: Any) -> State:
    if hx is None:
        return ()
    return (hx,) if isinstance(hx, Tensor) else tuple(hx)


def _zeros(module: Any, values: Tensor) -> State:
    m, hidden = values.shape[-2], module.hidden_size
    shown = values.new_zeros(m, getattr(module, "proj_size", 0) or hidden)
    return (shown, values.new_zeros(m, hidden)) if isinstance(module, nn.LSTM | nn.LSTMCell) else (shown,)
