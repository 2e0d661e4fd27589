"""Models with weights that learnt something: a minute or two of training the first time, then kept under `.cache/`.

Gradients of an untrained model are all alike; how well a sketch keeps their angles is asked of trained ones.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import models, real_data

_CACHE = Path(__file__).resolve().parents[1] / ".cache" / "benchmarks"
_BATCH = 8
_STEPS = 120
_RATE = 1e-3

Examples = Tensor | tuple[Tensor, Tensor]
"""Token windows (n, t), whose next token is learnt; or inputs (n, …) and classes (n,)."""


def trained(name: str, model: nn.Module, examples: Callable[[], Examples], is_toy: bool) -> nn.Module:
    """The model in eval mode with trained weights; the toy as it was drawn.

    The file is named after the code that makes it: other code, other weights.
    """
    if is_toy:
        return model.eval()
    sources = "".join(inspect.getsource(made) for made in (models, *real_data.LEARNT, _train))
    key = hashlib.sha256(f"{sources}{model}".encode()).hexdigest()[:8]
    path = _CACHE / f"{name}-{key}.safetensors"
    if not path.exists():
        Console(stderr=True).print(f"training {name}, once …", style="dim")
        _train(model, examples())
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(model, path)
    load_model(model, path)
    return model.eval()


def _train(model: nn.Module, examples: Examples) -> None:
    inputs, targets = examples if isinstance(examples, tuple) else (examples, None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE)
    model.train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(_STEPS):
        rows = torch.randint(0, len(inputs), (_BATCH,), generator=generator)
        given = inputs[rows]
        outputs = model(given)
        logits = outputs if isinstance(outputs, Tensor) else outputs.logits
        if targets is None:
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), given[:, 1:].flatten())
        else:
            loss = functional.cross_entropy(logits, targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
