"""The trials of public reports: each plays one complaint on the engine or a codec, and raises where we do the same."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dugs_stream import Deduplicator, ModelError
from dugs_stream.inputs.image import ImageCodec
from dugs_stream.inputs.settings import ImageCodecSettings
from dugs_stream.records import Verdict
from tests.support.records.pictures import draw
from tests.zoo import uses
from tests.zoo.case import CLASSES, VOCABULARY, WIDTH, Case, Net, pictures, sequences, tokens, vectors
from tests.zoo.judge import judge


def _right(
    build: Callable[[], nn.Module],
    inputs: Callable[[], Tensor] = vectors,
    layers: Any = ("head",),
    **more: Any,
) -> None:
    found = judge(Case("", "", build, inputs, layers, **more))
    assert found.outcome == "right", found


def _head(width: int = WIDTH) -> nn.Linear:
    return nn.Linear(width, CLASSES)


# -- shared weights ------------------------------------------------------------------------------------------------


def tied_embedding() -> None:
    _right(uses.tied_head_as_module, tokens, 2, parameters=["norm.*", "emb.weight"])


def tied_embedding_chosen_by_name() -> None:
    def build() -> nn.Module:
        emb, head = nn.Embedding(VOCABULARY, 5), nn.Linear(5, VOCABULARY)
        head.weight = emb.weight
        return Net(lambda m, x: m.head(m.emb(x).mean(1)), emb=emb, head=head)

    _right(build, tokens, ["emb"])


def siamese() -> None:
    _right(lambda: Net(lambda m, x: m.head(x[:, :3]) + m.head(x[:, 3:]), head=_head(3)))


def norm_at_two_places() -> None:
    _right(
        lambda: Net(lambda m, x: m.head(m.norm(m.norm(x).tanh())), norm=nn.LayerNorm(WIDTH), head=_head()),
        layers=["norm"],
    )


def in_place_and_reused() -> None:
    def build() -> nn.Module:
        step = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(inplace=True))
        return Net(lambda m, x: m.head(m.step(m.step(x))), step=step, head=_head())

    _right(build, layers=["step.0", "head"])


def adapter() -> None:
    _right(uses.lora_modules, layers=2, parameters=["down.*", "up.*"])


# -- layers of every kind ------------------------------------------------------------------------------------------


def class_token() -> None:
    def build() -> nn.Module:
        return Net(
            lambda m, x: m.head(m.block(torch.cat([m.token.expand(len(x), -1, -1), x], 1))[:, 0]),
            token=nn.Parameter(torch.randn(1, 1, WIDTH)),
            block=nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True),
            head=_head(),
        )

    _right(build, sequences, ["token", "head"])


def gru() -> None:
    _right(lambda: Net(lambda m, x: m.head(m.gru(x)[0][:, -1]), gru=nn.GRU(WIDTH, 5, batch_first=True), head=_head(5)),
           sequences, ["gru", "head"])  # fmt: skip


def lstm() -> None:
    _right(lambda: Net(lambda m, x: m.head(m.lstm(x)[0]).mean(1), lstm=nn.LSTM(WIDTH, 5, batch_first=True), head=_head(5)),
           sequences, ["lstm", "head"])  # fmt: skip


def scale_over_many_axes() -> None:
    scale = lambda: Net(lambda m, x: x * m.weight, weight=nn.Parameter(torch.tensor(2.0)))  # noqa: E731 -- made anew each time
    _right(
        lambda: Net(lambda m, x: m.head(m.scale(x).flatten(1)), scale=scale(), head=_head(72)),
        pictures,
        ["scale", "head"],
    )


def data_parallel() -> None:
    _right(uses.data_parallel, layers=["module.2", "module.4"])


def loop_over_a_cell() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 5)
        for step in range(x.shape[1]):
            state = m.cell(x[:, step], state)
        return m.head(state)

    _right(lambda: Net(run, cell=nn.RNNCell(WIDTH, 5), head=_head(5)), sequences, ["cell"])


def layers_that_are_named() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), _head(5))

    _right(build, layers=["2"])


# -- modes and buffers ---------------------------------------------------------------------------------------------


def in_place_relu_behind_a_hook() -> None:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), _head(48))
        model[0].register_full_backward_hook(lambda *_: None)
        return model

    with pytest.raises(RuntimeError, match=r"inplace|in-place"):  # what torch itself says of this model
        build()(pictures())
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), _head(48))
    assert Deduplicator(model, ["0"], dimension=64, tile=4).project(pictures(), [0] * 10).norms.min() > 0


def frozen_backbone() -> None:
    def build() -> nn.Module:
        backbone = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).requires_grad_(False)
        return nn.Sequential(backbone, nn.GroupNorm(1, 3), nn.Flatten(), _head(48))

    _right(build, pictures, 2, parameters=["1.*", "3.*"])


def batch_norm_in_eval_mode() -> None:
    _right(
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), _head(48)),
        pictures,
        ["1", "3"],
    )


def batch_norm_of_the_batch() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), _head(48)
    )
    with pytest.raises(ModelError, match=r"1 \(BatchNorm2d\) mixes samples"):
        Deduplicator(model, dimension=64).project(pictures(), [0] * 10)


def statistics_stay() -> None:
    norm = nn.BatchNorm1d(5)
    Deduplicator(nn.Sequential(nn.Linear(WIDTH, 5), norm, _head(5)).train(), dimension=64).project(
        vectors(), [0] * 10
    )
    assert norm.running_mean is not None
    assert not norm.running_mean.any()


def frozen_first_layer() -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, 5).requires_grad_(False), nn.Tanh(), _head(5)
        )

    _right(build, layers=2, parameters=["0.*", "4.*"])


# -- numbers -------------------------------------------------------------------------------------------------------


def averaging_loss() -> None:
    def loss(outputs: Tensor, _labels: Tensor | None) -> Tensor:
        return outputs.square().mean()

    with pytest.raises(ModelError, match="one loss a sample, nothing summed or averaged"):
        Deduplicator(nn.Sequential(_head()), 1, loss, dimension=64).project(vectors())


def vanishing_gradients() -> None:
    torch.manual_seed(3)
    model = Net(lambda m, x: m.head(x) * 100, head=_head())
    projection = Deduplicator(model, 1, "pseudo", dimension=64, tile=4).project(vectors())
    tiny = (projection.norms > 1e-28) & (projection.norms < 6e-8)  # float16's smallest number
    assert tiny.any()
    assert np.linalg.norm(projection.vectors[tiny], axis=1) == pytest.approx(1, abs=1e-6)


def many_parameters() -> None:
    class Slow(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
            return super().forward(input)

    torch.manual_seed(3)
    fast = nn.Sequential(
        nn.Linear(WIDTH, 700), nn.Tanh(), nn.Linear(700, 6100), nn.Tanh(), nn.Linear(6100, CLASSES)
    )
    slow = nn.Sequential(Slow(WIDTH, 700), nn.Tanh(), Slow(700, 6100), nn.Tanh(), Slow(6100, CLASSES))
    slow.load_state_dict(fast.state_dict())
    found = [
        Deduplicator(model, ["2"], dimension=64, tile=2).project(vectors()[:2], [0, 1])
        for model in (fast, slow)
    ]
    assert found[0].vectors == pytest.approx(found[1].vectors, abs=1e-5)


# -- duplicates and search -----------------------------------------------------------------------------------------


def cosine_of_equals() -> None:
    torch.manual_seed(3)
    deduplicator = Deduplicator(nn.Sequential(_head()), 1, dimension=64, threshold=1.0, tile=4)
    deduplicator.offer(vectors(), [0] * 10)
    again = deduplicator.offer(vectors(), [0] * 10)
    assert {decision.verdict for decision in again} == {Verdict.DUPLICATE}
    assert all(decision.similarity is not None and -1 <= decision.similarity <= 1 for decision in again)


def not_a_number() -> None:
    inputs = vectors()
    inputs[3] = torch.nan
    deduplicator = Deduplicator(nn.Sequential(_head()), 1, dimension=64, tile=4)
    decisions = deduplicator.offer(inputs, [0] * 10)
    assert decisions[3].verdict is Verdict.REJECTED
    assert np.isfinite(deduplicator.vectors).all()


def all_equal() -> None:
    same = vectors()[:1].expand(20, -1).contiguous()
    decisions = Deduplicator(nn.Sequential(_head()), 1, dimension=64, tile=8).offer(same, [1] * 20)
    assert [each.verdict for each in decisions] == [Verdict.UNIQUE] + [Verdict.DUPLICATE] * 19
    assert {each.nearest for each in decisions[1:]} == {0}


# -- pictures ------------------------------------------------------------------------------------------------------


def _decoded(picture: Image.Image, kind: str, mode: str = "L", **options: Any) -> Tensor:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    tensor = ImageCodec(ImageCodecSettings(mode=mode)).decode(buffer.getvalue(), None)
    assert isinstance(tensor, Tensor), tensor
    return tensor


def gif_by_another_name() -> None:
    assert torch.equal(_decoded(draw("disc", 1), "GIF"), _decoded(draw("disc", 1), "PNG"))


def four_channels() -> None:
    opaque = draw("disc", 1).convert("RGBA")
    assert torch.equal(_decoded(opaque, "PNG", "RGB"), _decoded(opaque.convert("RGB"), "PNG", "RGB"))


def sixteen_bits() -> None:
    deep = Image.fromarray(np.array([[0, 1, 257, 65535]], np.uint16))
    assert _decoded(deep, "TIFF").flatten().tolist() == pytest.approx([0, 1 / 65535, 257 / 65535, 1])


def turned_by_exif() -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by 90 degrees to the right
    picture = draw("bar", 2)
    assert torch.equal(_decoded(picture, "PNG", exif=exif), _decoded(picture.rotate(-90, expand=True), "PNG"))


def grey_for_colour() -> None:
    grey = _decoded(draw("square", 3), "JPEG", "RGB")
    assert torch.equal(grey[0], grey[1])
