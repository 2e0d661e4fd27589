"""How many tokens and pictures a second go through the projector on a GPU? GPT-NeoX of the sizes of Pythia, and ResNet-50.

Shapes as in the figures that bergson publishes for one GH200: pythia-160m and pythia-1b, 1 024 tokens a sequence, bf16,
gradients of every Linear layer of the blocks; about 290 000 and 80 000 tokens/s. Here the weights are random, since
nothing is fetched, which changes no shape. The baseline is the same forward and the batched backward that yields the
weight gradients of the same layers. Without a GPU it runs at toy size on the CPU, to see that it runs.

Pictures go all the way from JPEG, with the tile measured (`benchmarks.gpu_pictures`). Of tokens both sides get the same batch, larger by a factor of two until memory ends; the fastest counts. Before anything is timed
the vectors of two sequences are held against those of each alone, bit for bit.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import gpu_pictures
from benchmarks.baseline import forward_and_backward
from benchmarks.command import as_command
from benchmarks.report import Measurement, Report
from dugs_stream import Deduplicator

SEED = 0
_DIMENSION = 4096
_GLOBS = ["gpt_neox.layers.*.attention.*", "gpt_neox.layers.*.mlp.*"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A GPT-NeoX by its sizes; published: tokens/s of bergson on one GH200, None where there is no figure."""

    name: str
    width: int
    layers: int
    heads: int
    vocabulary: int
    length: int
    published: float | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """batches: tried from small to large, until memory ends."""

    shapes: tuple[Shape, ...]
    batches: tuple[int, ...]
    runs: int


FULL = Size(
    shapes=(
        Shape("pythia-160m", 768, 12, 12, 50_304, 1_024, 290e3),
        Shape("pythia-1b", 2_048, 16, 8, 50_304, 1_024, 80e3),
    ),
    batches=(8, 16, 32, 64),
    runs=5,
)
QUICK = Size(shapes=(Shape("toy", 32, 2, 2, 64, 16),), batches=(2,), runs=1)


def measure(is_quick: bool) -> Report:
    """Tokens/s of both sides for each shape; at toy size without a GPU."""
    is_toy = is_quick or not torch.cuda.is_available()
    size = QUICK if is_toy else FULL
    device = torch.device("cpu" if is_toy else "cuda")
    return Report(
        name="gpu_throughput",
        question=f"tokens/s, and pictures/s, through forward, backward and sketch (k = {_DIMENSION}), bf16, on {device.type}",
        spread=f"slowest and fastest of {size.runs} runs",
        seed=SEED,
        is_quick=is_toy,
        measurements=[
            *(line for shape in size.shapes for line in _of_shape(shape, size, device)),
            *gpu_pictures.measure(gpu_pictures.TOY if is_toy else gpu_pictures.FULL, size.runs, device),
        ],
    )


def _of_shape(shape: Shape, size: Size, device: torch.device) -> Iterator[Measurement]:
    torch.manual_seed(SEED)
    model = _neox(shape).to(device, torch.bfloat16).eval()
    _require_one_vector_in_any_company(model, shape, device)
    for title, make in (("this project", _ours), ("forward + batched backward", _baseline)):
        best: list[float] = []
        best_batch = 0
        for batch in size.batches:
            tokens = torch.randint(0, shape.vocabulary, (batch, shape.length), device=device)
            try:
                speeds = _tokens_per_second(make(model, tokens), tokens.numel(), size.runs, device)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
            if not best or statistics.median(speeds) > statistics.median(best):
                best, best_batch = speeds, batch
        published = f"; published for bergson on one GH200: {shape.published:,.0f}" if shape.published else ""
        yield Measurement(
            f"{shape.name}, {title}",
            statistics.median(best),
            min(best),
            max(best),
            facts={
                "tokens_per_second": best,
                "batch": best_batch,
                "published_bergson_gh200": shape.published,
            },
            note=f"{best_batch} sequences of {shape.length} tokens{published if title == 'this project' else ''}",
        )


def _neox(shape: Shape) -> nn.Module:
    import transformers  # noqa: PLC0415 -- it takes seconds

    transformers.utils.logging.set_verbosity_error()
    return transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=4 * shape.width,
            max_position_embeddings=2 * shape.length,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def _ours(model: nn.Module, tokens: Tensor) -> Callable[[], object]:
    engine = _engine(model, tokens.shape[0], tokens.device)
    inputs = {"input_ids": tokens}
    engine.project(inputs)  # the probe
    return lambda: engine.project(inputs)


def _engine(model: nn.Module, tile: int, device: torch.device) -> Deduplicator:
    return Deduplicator(model, _GLOBS, "causal_lm", _DIMENSION, seed=SEED, tile=tile, device=device)


def _baseline(model: nn.Module, tokens: Tensor) -> Callable[[], object]:
    chosen = [
        parameter
        for name, parameter in model.named_parameters()
        if ".layers." in name and (".attention." in name or ".mlp." in name)
    ]

    def summed_loss() -> Tensor:
        logits = model(input_ids=tokens).logits
        losses = functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
        )
        return losses.view(len(tokens), -1).mean(1).sum()

    return forward_and_backward(model, chosen, summed_loss)


def _tokens_per_second(
    run: Callable[[], object], tokens: int, runs: int, device: torch.device
) -> list[float]:
    run()
    speeds = []
    for _ in range(runs):
        _finish(device)
        started = time.perf_counter()
        run()
        _finish(device)
        speeds.append(tokens / (time.perf_counter() - started))
    return speeds


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _require_one_vector_in_any_company(model: nn.Module, shape: Shape, device: torch.device) -> None:
    tokens = torch.randint(0, shape.vocabulary, (2, shape.length), device=device)
    engine = _engine(model, 2, device)
    together = engine.project({"input_ids": tokens}).vectors
    alone = [engine.project({"input_ids": tokens[at : at + 1]}).vectors[0] for at in (0, 1)]
    assert np.array_equal(together, np.stack(alone)), (
        "a vector depends on its company: there is nothing to time"
    )


if __name__ == "__main__":
    as_command([measure], "Tokens a second on a GPU, beside a plain backward and a published figure.")()
