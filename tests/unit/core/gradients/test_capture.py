"""Capture of the chosen layers' inputs and output gradients."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.capture import Capture, Writes, capture
from dugs_stream.core.gradients.inference import inference
from dugs_stream.core.gradients.layers import parameter_layers
from dugs_stream.core.losses.loss import own_loss
from dugs_stream.core.losses.registry import resolve_loss


def captured(model: nn.Module, names: list[str], inputs: Tensor, writes: Writes | None = None) -> Capture:
    writes = Writes() if writes is None else writes
    layers = parameter_layers(model)
    labels = torch.zeros(len(inputs), dtype=torch.int64)
    with inference(model):
        return capture(model, [layers[name] for name in names], inputs, labels, resolve_loss("label"), writes)


def weight_gradient(found: Capture, call: int = 0) -> Tensor:
    gradient = found.calls[call].gradients[0]
    assert gradient is not None
    inputs: Tensor = found.calls[call].inputs[0]
    return gradient.flatten(0, -2).T @ inputs.flatten(0, -2)


def autograd_weight(model: nn.Module, weight: Tensor, inputs: Tensor) -> Tensor:
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    labels = torch.zeros(len(inputs), dtype=torch.int64)
    loss = nn.functional.cross_entropy(model(inputs).double(), labels, reduction="sum")
    return torch.autograd.grad(loss, weight)[0]


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("inplace", [False, True])
def test_factors_multiply_to_the_weight_gradient(inplace: bool) -> None:
    """Gᵀ·A is autograd's gradient for each chosen Linear, also before in-place activations."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 7), nn.ReLU(inplace), nn.Linear(7, 6), nn.ReLU(inplace), nn.Linear(6, 3)
    )
    inputs = randn(4, 5)
    found = captured(model, ["0", "2", "4"], inputs)

    for call, name in enumerate(("0", "2", "4")):
        expected = autograd_weight(model, model.get_submodule(name).weight, inputs)  # type: ignore[arg-type]
        assert torch.allclose(weight_gradient(found, call), expected, atol=1e-6)


def test_everything_below_the_first_chosen_layer_is_inference() -> None:
    """Nothing is recorded before the first chosen layer's output, which has no history."""
    seen = []
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    model[0].register_forward_hook(lambda _module, _args, output: seen.append(output.requires_grad))
    model[2].register_forward_hook(lambda _module, _args, output: seen.append(output.requires_grad))
    found = captured(model, ["1"], randn(2, 5))

    assert seen == [False, True]
    assert found.calls[0].outputs[0].is_leaf


class WritesIntoInput(nn.Module):
    """A residual written in place into what the Linear layer was given: fine while its weight is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.in_place = True
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs * 2
        outputs = self.inner(hidden)
        hidden = hidden.add_(1.0) if self.in_place else hidden + 1.0
        found: Tensor = self.head(outputs * hidden)
        return found


def test_input_that_is_written_into_later_is_copied_and_the_pass_run_again() -> None:
    """The version counter tells; the layer is marked for the next time too."""
    torch.manual_seed(0)
    model, inputs, writes = WritesIntoInput(), randn(3, 4), Writes()
    found = captured(model, ["inner", "head"], inputs, writes)
    model.in_place = False
    expected = autograd_weight(model, model.inner.weight, inputs)

    assert writes.inputs == {"inner"}
    assert torch.allclose(weight_gradient(found), expected, atol=1e-6)


class WritesForSomeSamples(nn.Module):
    """An activation in place, behind either layer, if a number of the batch says so."""

    def __init__(self, behind: str) -> None:
        super().__init__()
        self.behind = behind
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.inner(inputs)
        if self.behind == "inner":
            outputs = outputs.relu_() if float(inputs[0, 0]) > 0 else outputs.relu()
        found: Tensor = self.head(outputs.tanh())
        if self.behind == "head":
            found = found.relu_() if float(inputs[0, 0]) > 0 else found.relu()
        return found


@pytest.mark.parametrize("behind", ["inner", "head"])
def test_output_that_is_written_into_only_later_is_copied_from_then_on(behind: str) -> None:
    """Torch refuses the write into a leaf, the version counter shows the others; the gradient is right in both cases."""
    torch.manual_seed(0)
    model, writes, inputs = WritesForSomeSamples(behind), Writes(), randn(3, 4)
    inputs[0, 0] = -1
    captured(model, ["inner", "head"], inputs, writes)
    assert writes.outputs == set()

    inputs[0, 0] = 1
    found = captured(model, ["inner", "head"], inputs, writes)
    weights = (model.inner.weight, model.head.weight)
    for call, expected in enumerate([autograd_weight(model, weight, inputs) for weight in weights]):
        assert torch.allclose(weight_gradient(found, call), expected, atol=1e-6)
    assert writes.outputs == {behind}


def test_only_outputs_that_the_model_writes_into_are_copied() -> None:
    """The first pass finds out which: copies of all outputs cost as much as small layers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 3))
    given: list[Tensor] = []
    for place in (1, 3):
        model[place].register_forward_pre_hook(lambda _module, args: given.append(args[0]))
    writes = Writes()
    for _ in range(2):
        given.clear()
        calls = captured(model, ["0", "2", "4"], randn(2, 5), writes).calls

    assert writes.outputs == {"2"}
    same = [leaf.data_ptr() == call.outputs[0].data_ptr() for leaf, call in zip(given, calls, strict=False)]
    assert same == [True, False]


def test_failing_model_fails_with_its_own_error_after_a_good_pass() -> None:
    """The pass with copies, which a RuntimeError brings, does not hide it."""
    model, writes = nn.Sequential(nn.Linear(4, 3)), Writes()
    captured(model, ["0"], randn(2, 4), writes)

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        captured(model, ["0"], randn(2, 5), writes)


class ParallelBranches(nn.Module):
    """A second chosen layer that does not depend on the first."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(4, 3)
        self.right = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.left(inputs) + self.right(inputs) * 0.5
        return found


def test_layer_on_a_parallel_branch_has_its_gradient() -> None:
    """A chosen output without a gradient path becomes a leaf of its own."""
    torch.manual_seed(0)
    model, inputs = ParallelBranches(), randn(3, 4)
    found = captured(model, ["left", "right"], inputs)

    assert torch.allclose(
        weight_gradient(found, 0), autograd_weight(model, model.left.weight, inputs), atol=1e-6
    )
    assert torch.allclose(
        weight_gradient(found, 1), autograd_weight(model, model.right.weight, inputs), atol=1e-6
    )


class NoGradBackbone(nn.Module):
    """Runs its backbone under no_grad, as people do; leaving the block switches gradients off again."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 4)
        self.neck = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.backbone(inputs)
        found: Tensor = self.head(self.neck(features).relu())
        return found


def test_no_grad_of_the_models_own_cuts_only_what_it_cuts() -> None:
    """A chosen layer inside has no gradient, as in training; those after it have theirs."""
    torch.manual_seed(0)
    model, inputs = NoGradBackbone(), randn(3, 4)
    found = captured(model, ["backbone", "neck", "head"], inputs)

    assert found.calls[0].gradients == [None]
    assert torch.allclose(
        weight_gradient(found, 1), autograd_weight(model, model.neck.weight, inputs), atol=1e-6
    )


def test_owners_hook_that_replaces_an_output_keeps_its_effect_and_our_gradient() -> None:
    """The gradient of what the layer itself returned is meant, and other hooks still run after it."""
    torch.manual_seed(0)
    first = nn.Linear(4, 4)
    model, inputs = nn.Sequential(first, nn.Linear(4, 3)), randn(3, 4)
    first.register_forward_hook(lambda module, args, output: output * 3)
    found = captured(model, ["0", "1"], inputs)

    assert torch.allclose(weight_gradient(found), autograd_weight(model, first.weight, inputs), atol=1e-6)


def test_inputs_by_keyword_are_caught() -> None:
    """A layer may be called with input=…"""

    class ByKeyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            found: Tensor = self.head(input=inputs)
            return found

    torch.manual_seed(0)
    model, inputs = ByKeyword(), randn(3, 4)

    assert torch.allclose(
        weight_gradient(captured(model, ["head"], inputs)),
        autograd_weight(model, model.head.weight, inputs),
        atol=1e-6,
    )


def test_loss_without_a_way_to_the_layers_says_so() -> None:
    """No gradient path is a fact, not a crash."""
    model = nn.Sequential(nn.Linear(4, 3))
    layers = parameter_layers(model)
    detached = own_loss(lambda outputs, labels: outputs.detach().sum(dim=1))
    with inference(model):
        found = capture(model, [layers["0"]], randn(2, 4), None, detached, Writes())

    assert not found.losses.requires_grad
    assert found.calls[0].gradients == [None]


class Raises(nn.Module):
    """Fails in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.BatchNorm1d(3))

    def forward(self, inputs: Tensor) -> Tensor:
        self.inner(inputs)
        raise ArithmeticError("on purpose")


@pytest.mark.parametrize("fails", [False, True])
def test_modes_flags_hooks_and_settings_are_restored(fails: bool) -> None:
    """Each module's own mode, each parameter's own flag and torch's settings come back, also after an error."""
    model = Raises() if fails else nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout())
    modules = list(model.modules())
    modules[-1].eval()
    next(model.parameters()).requires_grad_(False)
    before_modes = [module.training for module in modules]
    before_flags = [parameter.requires_grad for parameter in model.parameters()]
    before_buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    name = "inner.0" if fails else "0"
    if fails:
        with pytest.raises(ArithmeticError):
            captured(model, [name], randn(2, 4))
    else:
        captured(model, [name], randn(2, 4))

    assert [module.training for module in modules] == before_modes
    assert [parameter.requires_grad for parameter in model.parameters()] == before_flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(buffer, before_buffers[name]) for name, buffer in model.named_buffers())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in modules)
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


def test_fused_attention_is_off_during_the_pass() -> None:
    """A fused kernel calls no submodules, so hooks inside would never fire."""
    seen = []
    model = nn.Sequential(nn.Linear(4, 3))
    model.register_forward_hook(lambda *_: seen.append(torch.backends.mha.get_fastpath_enabled()))
    captured(model, ["0"], randn(2, 4))

    assert seen == [False]
    assert torch.backends.mha.get_fastpath_enabled()


def test_passes_in_two_threads_leave_the_process_as_they_found_it() -> None:
    """The flag of fused attention belongs to the process: whichever pass ends last, it is on again."""
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def first() -> None:
        with inference(nn.Linear(4, 3)):
            first_is_in.set()
            assert second_is_in.wait(10)
        first_is_out.set()

    thread = threading.Thread(target=first)
    thread.start()
    assert first_is_in.wait(10)
    with inference(nn.Linear(4, 3)):
        second_is_in.set()
        assert first_is_out.wait(10)
        assert not torch.backends.mha.get_fastpath_enabled()
    thread.join()

    assert torch.backends.mha.get_fastpath_enabled()
