"""Weights as they lie around: what torch's strict load takes, checkpoints and prefixes, or the setting that takes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dugs_stream.errors import ConfigurationError, DugsError, ModelError
from dugs_stream.models.loading import LoadedModel, digest, load_model
from tests.support.models import odd as odd_models

HERE = "tests.support.models.odd"
STATE = {"0.weight": torch.arange(6.0).reshape(2, 3), "0.bias": torch.tensor([1.0, -1.0])}
OTHER = {name: -tensor for name, tensor in STATE.items()}


def load(function: str, path: Path, **settings: str) -> LoadedModel:
    """The model of a factory of tests/support/models/odd.py, filled from the file."""
    return load_model(f"{HERE}:{function}", {}, path, 0, **settings)


def refusal(kind: type[DugsError], function: str, path: Path, **settings: str) -> str:
    """The message that the file is refused with."""
    with pytest.raises(kind) as caught:
        load(function, path, **settings)
    return str(caught.value)


def saved(content: Mapping[str, Any], folder: Path) -> Path:
    """A file of torch.save."""
    path = folder / "weights.pt"
    torch.save(content, path)
    return path


def prefixed(prefix: str, state: Mapping[str, Any] = STATE) -> dict[str, Any]:
    """The same entries below a prefix."""
    return {prefix + name: entry for name, entry in state.items()}


def is_filled(loaded: LoadedModel, state: Mapping[str, torch.Tensor] = STATE) -> bool:
    """Whether the model holds exactly these weights, and is hashed like a model filled with the plain file."""
    plain = odd_models.small()
    plain.load_state_dict(state)
    return digest(plain) == loaded.weights_digest


# -- what torch's strict load accepts ----------------------------------------------------------------------


def without_counts(state: Mapping[str, Any]) -> dict[str, Any]:
    """As before torch 0.4.1, and without its metadata, as any dict comprehension leaves it."""
    return {name: entry for name, entry in state.items() if "num_batches" not in name}


def old_weight_norm(_state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Under the names of before parametrisations."""
    return OrderedDict(weight_g=torch.tensor([[2.0], [3.0]]), weight_v=torch.ones(2, 3), bias=torch.zeros(2))


def with_axis(_state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A single number as torch 0.3 wrote it."""
    return {"scale": torch.tensor([5.0])}


def unchanged(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """As torch writes it today."""
    return state


@pytest.mark.parametrize(
    ("function", "older"),
    [
        ("normalised", unchanged),
        ("normalised", without_counts),
        ("weight_normed", unchanged),
        ("weight_normed", old_weight_norm),
        ("counting", unchanged),
        ("single", with_axis),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_torchs_strict_load_accepts_is_loaded(
    tmp_path: Path, function: str, older: Any, prefix: str
) -> None:
    """Older forms and extra state too: the model is the one that torch alone makes of the file."""
    reference: nn.Module = getattr(odd_models, function)()
    state = older(reference.state_dict())
    reference.load_state_dict(state, strict=True)

    loaded = load(function, saved(prefixed(prefix, state), tmp_path))

    assert loaded.weights_digest == digest(reference)


def test_metadata_of_the_file_is_heard_below_a_prefix(tmp_path: Path) -> None:
    """The version beside each module says that its counts cannot be missing, so torch refuses, and so do we."""
    state = nn.DataParallel(odd_models.normalised()).state_dict()
    del state["module.1.num_batches_tracked"]

    assert "1 missing in the file: 1.num_batches_tracked" in refusal(
        ModelError, "normalised", saved(state, tmp_path), weights_prefix="module."
    )


def test_lazy_layers_take_their_shapes_from_the_file(tmp_path: Path) -> None:
    """As torch's own load gives them."""
    loaded = load("lazy", saved({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, tmp_path))

    assert loaded.module.weight.shape == (2, 3)


# -- prefixes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "model._orig_mod."]
)
def test_prefix_of_a_wrapper_is_taken_off_with_a_remark(tmp_path: Path, prefix: str) -> None:
    """DataParallel, a trainer and torch.compile put them there; every name fits without."""
    loaded = load("small", saved(prefixed(prefix), tmp_path))

    assert is_filled(loaded)
    (remark,) = loaded.remarks
    assert all(repr(f"{part}.") in remark for part in prefix.split(".") if part)


def test_name_of_a_compiled_layer_inside_is_read(tmp_path: Path) -> None:
    """Compiling one block puts the prefix into the middle of names."""
    state = {name.replace("0.", "0._orig_mod."): entry for name, entry in STATE.items()}

    assert is_filled(load("small", saved(state, tmp_path)))


def test_prefix_that_the_model_has_and_the_file_lacks_is_put_on(tmp_path: Path) -> None:
    """A factory may wrap what was saved bare."""
    loaded = load("wrapped", saved(STATE, tmp_path))

    assert torch.equal(loaded.module.state_dict()["model.0.weight"], STATE["0.weight"])
    assert "'model.' is put before them" in loaded.remarks[0]


def test_plain_weights_bring_no_remark(tmp_path: Path) -> None:
    """Nothing was done to them."""
    assert load("small", saved(STATE, tmp_path)).remarks == ()


@pytest.mark.parametrize("beside", [{}, {"loss.weight": torch.ones(4)}])
def test_other_prefix_is_refused_with_the_setting_that_takes_it(
    tmp_path: Path, beside: Mapping[str, Any]
) -> None:
    """Which part of a larger network is meant is not guessed; set as told, it loads."""
    path = saved({**prefixed("backbone."), **beside}, tmp_path)

    message = refusal(ModelError, "small", path)

    assert "2 missing in the file: 0.weight, 0.bias" in message
    assert message.endswith(
        "Set model.weights_prefix: backbone. to take the weights whose names begin with it."
    )
    loaded = load("small", path, weights_prefix="backbone.")
    assert is_filled(loaded)
    assert [f"{len(beside)} of {len(beside) + 2} entries" in remark for remark in loaded.remarks] == [
        True
    ] * len(beside)


def test_known_prefix_with_other_names_beside_it_is_refused_with_the_setting(tmp_path: Path) -> None:
    """A trainer's file that holds a loss with weights of its own."""
    path = saved({**prefixed("model."), "criterion.weight": torch.ones(4)}, tmp_path)

    assert "Set model.weights_prefix: model. to take" in refusal(ModelError, "small", path)
    assert is_filled(load("small", path, weights_prefix="model."))


def test_every_prefix_that_would_fit_is_named(tmp_path: Path) -> None:
    """Student and teacher fit alike, and only the user knows."""
    path = saved({**prefixed("student."), **prefixed("teacher.", OTHER)}, tmp_path)

    assert "Set model.weights_prefix: student. or teacher. to take" in refusal(ModelError, "small", path)
    assert is_filled(load("small", path, weights_prefix="teacher."), OTHER)


def test_prefix_of_translated_names_is_found_too(tmp_path: Path) -> None:
    """Only torch's own hooks know what weight_g becomes."""
    path = saved(prefixed("net.", old_weight_norm({})), tmp_path)

    assert "Set model.weights_prefix: net. to take" in refusal(ModelError, "weight_normed", path)


def test_prefix_that_no_name_has_is_refused_with_the_names(tmp_path: Path) -> None:
    """The setting is wrong, not the file."""
    path = saved(STATE, tmp_path)

    assert refusal(ConfigurationError, "small", path, weights_prefix="net.") == (
        f"model.weights_prefix: found 'net.', but no name in {str(path)!r} has it: its names are 0.weight, 0.bias."
    )


def test_weights_that_no_prefix_makes_fit_say_so(tmp_path: Path) -> None:
    """No hint that would not work."""
    path = saved({"net.0.weight": torch.ones(5, 3), "net.0.bias": torch.ones(2)}, tmp_path)

    assert refusal(ModelError, "small", path).endswith(
        "Give the factory and model.kwargs that the weights were trained with."
    )


# -- checkpoints -------------------------------------------------------------------------------------------

OPTIMIZER = {
    "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}},
    "param_groups": [{"lr": 0.1}],
}
CHECKPOINTS: list[tuple[Mapping[str, Any], str]] = [
    ({"epoch": 3, "state_dict": STATE, "optimizer": OPTIMIZER}, "state_dict"),
    ({"model_state_dict": STATE, "loss": 0.5}, "model_state_dict"),
    ({"model": {"state_dict": STATE, "version": 2}}, "model.state_dict"),
    ({"ema": STATE, "decay": 0.99}, "ema"),
    ({"module": {"a.b": STATE}}, "module.a.b"),
]


@pytest.mark.parametrize(("content", "key"), CHECKPOINTS, ids=[key for _, key in CHECKPOINTS])
def test_checkpoint_is_refused_with_the_setting_that_takes_it(
    tmp_path: Path, content: Mapping[str, Any], key: str
) -> None:
    """Set as told, it loads."""
    path = saved(content, tmp_path)

    assert refusal(ModelError, "small", path).endswith(f"Set model.weights_key: {key}.")
    loaded = load("small", path, weights_key=key)
    assert is_filled(loaded)
    assert loaded.remarks == ()


def test_every_state_dict_of_a_checkpoint_is_named(tmp_path: Path) -> None:
    """The weights and their moving average are two models."""
    path = saved({"model": STATE, "ema": OTHER, "epoch": 1}, tmp_path)

    assert refusal(ModelError, "small", path).endswith("Set model.weights_key: model or ema.")
    assert is_filled(load("small", path, weights_key="ema"), OTHER)


def test_checkpoint_of_a_trainer_has_key_and_prefix(tmp_path: Path) -> None:
    """PyTorch Lightning's form."""
    path = saved(
        {"state_dict": prefixed("model."), "global_step": 7, "hyper_parameters": {"lr": 0.1}}, tmp_path
    )

    assert is_filled(load("small", path, weights_key="state_dict"))


@pytest.mark.parametrize(
    ("content", "key", "found"),
    [
        (
            STATE,
            "state_dict",
            "has no such key. The file is a state_dict itself: leave model.weights_key out.",
        ),
        ({"ema": STATE, "epoch": 1}, "state_dict", "has no such key. It has state_dicts under ema."),
        (
            {"ema": STATE, "epoch": 1},
            "epoch",
            "holds an int there, not a state_dict. It has state_dicts under ema.",
        ),
        ({"ema": STATE, "epoch": 1}, "ema.x", "has no such key. It has state_dicts under ema."),
        ({"epoch": 1}, "ema", "has no such key. It holds a mapping with the keys epoch."),
    ],
)
def test_key_that_leads_nowhere_is_refused_with_those_that_lead(
    tmp_path: Path, content: Mapping[str, Any], key: str, found: str
) -> None:
    """The setting is wrong, not the file."""
    path = saved(content, tmp_path)

    assert refusal(ConfigurationError, "small", path, weights_key=key).startswith(
        f"model.weights_key: found {key!r}, but {str(path)!r} {found}"
    )


def test_key_for_a_file_of_safetensors_is_refused(tmp_path: Path) -> None:
    """Such a file is flat."""
    save_file(STATE, tmp_path / "weights.safetensors")

    message = refusal(ConfigurationError, "small", tmp_path / "weights.safetensors", weights_key="ema")

    assert message.endswith("leave model.weights_key out.")


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_torchscript_archive_for_weights_is_refused_by_what_it_is(tmp_path: Path) -> None:
    """It is not damaged; the way out works."""
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(odd_models.small()), path)

    assert refusal(ModelError, "small", path) == (
        f"model.weights: {str(path)!r} is a TorchScript archive, which is a program and not only weights. Save its weights "
        "from Python: torch.save(torch.jit.load(path).state_dict(), 'weights.pt')."
    )
    torch.save(torch.jit.load(path).state_dict(), tmp_path / "weights.pt")
    load("small", tmp_path / "weights.pt")


# -- damage and whole numbers ------------------------------------------------------------------------------


def test_flipped_bit_in_a_tensor_is_noticed(tmp_path: Path) -> None:
    """Torch loads such a file without a word, and every vector would be another."""
    path = saved(STATE, tmp_path)
    content = bytearray(path.read_bytes())
    at = content.find(STATE["0.weight"].numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)

    assert "data/0 do not have the checksum" in refusal(ModelError, "small", path)


def test_file_saved_without_checksums_is_loaded(tmp_path: Path) -> None:
    """None of its entries has a true one, so they say nothing."""
    computes = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(STATE, tmp_path)
    finally:
        torch.serialization.set_crc32_options(computes)

    assert is_filled(load("small", path))


def test_whole_numbers_for_a_float_parameter_bring_a_remark(tmp_path: Path) -> None:
    """Torch converts them in silence; quantised weights without their scales look like that."""
    state = {**STATE, "0.weight": STATE["0.weight"].to(torch.int8)}

    (remark,) = load("small", saved(state, tmp_path)).remarks

    assert "torch.int8" in remark
    assert "0.weight" in remark
