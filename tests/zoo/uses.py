"""Weights that are used elsewhere than in their module's own call, hooks, wrappers and checkpointing."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own habit
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from tests.zoo.case import CLASSES, VOCABULARY, WIDTH, Case, Net, pictures, tokens


def _head(width: int = WIDTH) -> nn.Linear:
    return nn.Linear(width, CLASSES)


def _mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh())


def tied_head_as_function() -> nn.Module:
    return Net(lambda m, x: F.linear(m.emb(x).mean(1).tanh(), m.emb.weight), emb=nn.Embedding(VOCABULARY, 5))


def tied_head_as_module() -> nn.Module:
    emb, head = nn.Embedding(VOCABULARY, 5), nn.Linear(5, VOCABULARY, bias=False)
    head.weight = emb.weight
    return Net(lambda m, x: m.head(m.norm(m.emb(x).mean(1).tanh())), emb=emb, norm=nn.LayerNorm(5), head=head)


def forward_called_directly() -> nn.Module:
    return Net(lambda m, x: m.head.forward(m.body(x)), body=_mlp(), head=_head(5))


def arc_face() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        return 4.0 * F.linear(F.normalize(m.body(x)), F.normalize(m.head.weight))

    return Net(run, body=_mlp(), head=nn.Linear(5, CLASSES, bias=False))


def arc_face_in_its_module() -> nn.Module:
    head = Net(
        lambda m, x: 4.0 * F.linear(F.normalize(x), F.normalize(m.weight)),
        weight=nn.Parameter(torch.randn(CLASSES, 5)),
    )
    return Net(lambda m, x: m.head(m.body(x)), body=_mlp(), head=head)


def bias_used_twice() -> nn.Module:
    return Net(lambda m, x: m.head(x) * (1 + m.head.bias), head=_head())


def weight_in_a_penalty() -> nn.Module:
    return Net(lambda m, x: m.head(x) / (1 + m.head.weight.square().sum()), head=_head())


def transposed_decoder() -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        code = m.encode(x).tanh()
        return m.head(F.linear(code, m.encode.weight.t()).tanh())

    return Net(run, encode=nn.Linear(WIDTH, 4), head=_head())


def module_called_twice() -> nn.Module:
    return Net(
        lambda m, x: m.head(m.step(m.step(x).tanh()).tanh()), step=nn.Linear(WIDTH, WIDTH), head=_head()
    )


def two_names_of_one_module() -> nn.Module:
    step = nn.Linear(WIDTH, WIDTH)
    return Net(lambda m, x: m.head(m.again(m.step(x).tanh()).tanh()), step=step, again=step, head=_head())


def parameter_list() -> nn.Module:
    weights = nn.ParameterList([torch.randn(WIDTH, 5), torch.randn(5, CLASSES)])
    return Net(lambda m, x: (x @ m.weights[0]).tanh() @ m.weights[1], weights=weights)


def bare_parameter() -> nn.Module:
    return Net(
        lambda m, x: m.head(m.prompt.expand(len(x), -1) * x),
        prompt=nn.Parameter(torch.randn(1, WIDTH)),
        head=_head(),
    )


def checkpointed(*, reentrant: bool) -> nn.Module:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(checkpoint(m.body, x.requires_grad_(reentrant), use_reentrant=reentrant))

    return Net(run, body=_mlp(), head=_head(5))


def compiled() -> nn.Module:
    return torch.compile(nn.Sequential(*_mlp(), _head(5)), backend="eager")  # type: ignore[return-value]


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(*_mlp(), _head(5)))  # type: ignore[no-any-return]


def traced_by_fx() -> nn.Module:
    return torch.fx.symbolic_trace(nn.Sequential(*_mlp(), _head(5)))


def data_parallel() -> nn.Module:
    return nn.DataParallel(nn.Sequential(*_mlp(), _head(5)))


def patched_forward() -> nn.Module:
    """As libraries that offload or adapt layers do it: on the instance."""
    model = Net(lambda m, x: m.head(m.body(x)), body=_mlp(), head=_head(5))
    own = model.head.forward
    model.head.forward = lambda x: own(x) * 2  # type: ignore[method-assign]
    return model


def hooked(**hooks: Any) -> nn.Module:
    """Hooks of the owner on a slow layer: what they return counts."""
    model = Net(lambda m, x: m.head(m.norm(m.body(x))), body=_mlp(), norm=nn.LayerNorm(5), head=_head(5))
    if "after" in hooks:
        model.norm.register_forward_hook(hooks["after"])
    if "before" in hooks:
        model.norm.register_forward_pre_hook(hooks["before"])
    if "backward" in hooks:
        model.norm.register_full_backward_hook(hooks["backward"])
    return model


def hook_on_a_fast_layer() -> nn.Module:
    model = Net(lambda m, x: m.head(m.body(x)), body=_mlp(), head=_head(5))
    model.head.register_forward_pre_hook(lambda _module, args: (args[0] * 3,))
    model.head.register_forward_hook(lambda _module, _args, output: output * 3)
    return model


def masked_gradient() -> nn.Module:
    model = Net(lambda m, x: m.head(m.body(x)), body=_mlp(), head=_head(5))
    model.head.weight.register_hook(lambda gradient: gradient * 0.5)
    return model


def pruned() -> nn.Module:
    model = Net(lambda m, x: m.head(m.body(x)), body=_mlp(), head=_head(5))
    prune.l1_unstructured(model.head, "weight", amount=0.4)
    return model


def spectrally_normalised() -> nn.Module:
    head = parametrizations.spectral_norm(_head(5))
    return Net(lambda m, x: m.head(m.body(x)), body=_mlp(), head=head)


def standardised_weight() -> nn.Module:
    class Standardised(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
            mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
            return self._conv_forward(input, (self.weight - mean) / 2, self.bias)

    return Net(lambda m, x: m.head(m.conv(x).relu().mean((2, 3))), conv=Standardised(2, 4, 3), head=_head(4))


def lora_modules() -> nn.Module:
    base = nn.Linear(WIDTH, 5).requires_grad_(False)
    return Net(
        lambda m, x: m.out(m.base(x) + m.up(m.down(x))),
        base=base, down=nn.Linear(WIDTH, 2, bias=False), up=nn.Linear(2, 5, bias=False),
        out=_head(5).requires_grad_(False),
    )  # fmt: skip


def lora_parameters() -> nn.Module:
    class Adapted(nn.Linear):
        def __init__(self) -> None:
            super().__init__(WIDTH, 5)
            self.requires_grad_(False)
            self.lora_A = nn.Parameter(torch.randn(2, WIDTH))
            self.lora_B = nn.Parameter(torch.randn(5, 2))

        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
            return super().forward(input) + input @ self.lora_A.t() @ self.lora_B.t()

    return Net(lambda m, x: m.head(m.o(x).tanh()), o=Adapted(), head=_head(5).requires_grad_(False))


USES = [
    Case("embedding as a functional head", "weight outside its module", tied_head_as_function, tokens, ["emb"], may_refuse="emb"),
    Case("tied language model, last 2", "weight outside its module", tied_head_as_module, tokens, 2,
         ["norm.*", "emb.weight"], may_refuse="head"),
    Case("forward called directly", "weight outside its module", forward_called_directly, may_refuse="head"),
    Case("ArcFace on a Linear's weight", "weight outside its module", arc_face, may_refuse="head"),
    Case("ArcFace in a module of its own", "weight outside its module", arc_face_in_its_module),
    Case("bias used twice", "weight outside its module", bias_used_twice, may_refuse="head"),
    Case("weight in a penalty", "weight outside its module", weight_in_a_penalty, may_refuse="head"),
    Case("decoder of the encoder's transposed weight", "weight outside its module", transposed_decoder,
         layers=["encode"], may_refuse="encode"),
    Case("parameter list", "weight outside its module", parameter_list, layers=["weights"], may_refuse="weights"),
    Case("prompt as a bare parameter", "weight outside its module", bare_parameter, layers=["prompt"]),
    Case("module called twice", "several uses", module_called_twice, layers=["step"]),
    Case("module under two names", "several uses", two_names_of_one_module, layers=["step"]),
    Case("checkpoint, re-entrant", "checkpointing", lambda: checkpointed(reentrant=True), layers=["body.2", "head"],
         may_refuse="checkpoint|body"),
    Case("checkpoint", "checkpointing", lambda: checkpointed(reentrant=False), layers=["body.2", "head"]),
    Case("compiled", "wrapper", compiled, layers=2, parameters=["2.*", "4.*"], may_refuse="compile"),
    Case("TorchScript", "wrapper", scripted, layers=["4"], may_refuse="Script"),
    Case("traced by fx", "wrapper", traced_by_fx, layers=["2", "4"]),
    Case("DataParallel", "wrapper", data_parallel, layers=["module.2", "module.4"]),
    Case("forward replaced on the instance", "wrapper", patched_forward, may_refuse="head"),
    Case("owner's forward hook on a slow layer", "hook",
         lambda: hooked(after=lambda _module, _args, output: output * 3), layers=["norm", "head"]),
    Case("owner's forward pre-hook on a slow layer", "hook",
         lambda: hooked(before=lambda _module, args: (args[0] * 3 + 1,)), layers=["norm", "head"]),
    Case("owner's backward hook", "hook",
         lambda: hooked(backward=lambda _module, inputs, _outputs: (inputs[0] * 2,)), layers=["body.2", "norm"],
         may_refuse="norm|hook"),
    Case("owner's hooks on a fast layer", "hook", hook_on_a_fast_layer),
    Case("hook on the weight's gradient", "hook", masked_gradient, may_refuse="head|hook"),
    Case("pruned", "computed weight", pruned, may_refuse="head"),
    Case("spectral norm", "computed weight", spectrally_normalised),
    Case("weight standardisation", "computed weight", standardised_weight, pictures, ["conv"]),
    Case("adapter beside a frozen base, last 2", "frozen parameters", lora_modules, layers=2, parameters=["down.*", "up.*"]),
    Case("adapter as bare parameters", "frozen parameters", lora_parameters, layers=["o.lora_A", "o.lora_B"]),
]  # fmt: skip
