"""A model from its factory and weights: the same on every start, or refused with a reason."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from dugs_stream.errors import ConfigurationError, DugsError, ModelError
from dugs_stream.models.loading import LoadedModel, digest, load_model
from dugs_stream.models.weights_file import read_weights
from tests.support.models import odd as odd_models

HERE = "tests.support.models.odd"


def load(function: str, weights: Path | None = None, seed: int = 0, **kwargs: Any) -> LoadedModel:
    """The model of one of the factories of tests/support/models/odd.py."""
    return load_model(f"{HERE}:{function}", kwargs, weights, seed)


def refusal(kind: type[DugsError], function: str, weights: Path | None = None, **kwargs: Any) -> str:
    """The message a model is refused with."""
    with pytest.raises(kind) as caught:
        load(function, weights, **kwargs)
    return str(caught.value)


def state(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Weights that fit `small`, but for the changes."""
    return {"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2), **changes}


def test_model_without_weights_is_built_under_the_seed() -> None:
    """The same seed is the same model, and another seed another one."""
    first, again, other = (load("small", seed=seed) for seed in (1, 1, 2))

    assert first.weights_digest == again.weights_digest != other.weights_digest
    assert len(first.weights_digest) == 64


def test_building_leaves_the_callers_random_state_as_it_was() -> None:
    """A library does not reseed its user's program."""
    torch.manual_seed(5)
    expected = torch.rand(3)

    torch.manual_seed(5)
    load("small", seed=1)

    assert torch.equal(torch.rand(3), expected)


def test_model_may_say_what_texts_it_takes() -> None:
    """As numbers; attributes of these names that are something else mean something else."""
    loaded = load("of_texts", vocabulary_size=100, max_tokens=64)
    assert (loaded.vocabulary, loaded.max_tokens) == (100, 64)

    loaded = load("of_texts", vocabulary_size="many", max_tokens=True)
    assert (loaded.vocabulary, loaded.max_tokens) == (None, None)


def test_keyword_arguments_reach_the_factory() -> None:
    """`model.kwargs` are the function's own."""
    assert load("small", width=5, classes=7).module[0].weight.shape == (7, 5)  # type: ignore[index]  # a Sequential


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_weights_are_filled_in_from_either_kind_of_file(tmp_path: Path, suffix: str) -> None:
    """The digest depends on the weights, not on the kind of file."""
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state(), path)
    else:
        torch.save(state(), path)

    loaded = load("small", path)

    assert torch.equal(loaded.module.state_dict()["0.weight"], torch.ones(2, 3))
    reference = odd_models.small()
    reference.load_state_dict(state())
    assert loaded.weights_digest == digest(reference)


def test_tied_weight_may_stand_in_the_file_under_one_name(tmp_path: Path) -> None:
    """Safetensors writes shared tensors once."""
    path = tmp_path / "tied.safetensors"
    save_model(odd_models.tied(), str(path))

    loaded = load("tied", path)

    first, second = loaded.module.state_dict().values()
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "change",
    [
        {"0.weight": torch.full((2, 3), 2.0)},
        {"0.weight": torch.tensor([[1.0, 1, 1], [1, 1, -0.0]])},
        {"0.bias": torch.tensor([0.0, -0.0])},
    ],
)
def test_digest_changes_with_any_number(change: Mapping[str, torch.Tensor]) -> None:
    """Down to the sign of a zero."""
    reference, changed = odd_models.small(), odd_models.small()
    reference.load_state_dict(state())
    changed.load_state_dict(state(**change))

    assert digest(reference) != digest(changed)


def test_digest_changes_with_names_dtypes_and_shapes() -> None:
    """The same bytes under another name, of another type or shape are another model."""
    models = [nn.Linear(2, 2, bias=False), nn.Linear(4, 1, bias=False), nn.Linear(2, 2, bias=False).half()]
    named = nn.ModuleDict({"x": nn.Linear(2, 2, bias=False)})
    for model in [*models, named]:
        for parameter in model.parameters():
            nn.init.zeros_(parameter)

    assert len({digest(model) for model in [*models, named]}) == 4


def test_model_of_a_dtype_that_numpy_does_not_have_is_hashed() -> None:
    """bfloat16 has bytes like any other."""
    assert load("bfloat16").weights_digest == load("bfloat16").weights_digest


def test_name_is_the_function_or_its_module() -> None:
    """The name that people use for the model: resnet18, alexnet."""
    assert load("small").name == "small"
    assert load("build").name == "odd"


def test_model_of_a_librarys_one_factory_has_its_own_name() -> None:
    """Every model of timm comes from create_model; the name changes nothing that the fingerprint holds."""
    kwargs = {"model_name": "mobilenetv3_small_050", "num_classes": 2}

    loaded = load_model("timm:create_model", kwargs, None, 0)

    assert (loaded.name, loaded.kwargs) == ("mobilenetv3_small_050", kwargs)


def test_input_shape_is_the_modules_own() -> None:
    """A list of whole numbers becomes a tuple; most models know none."""
    assert load("build").input_shape == (3,)
    assert load("small").input_shape is None
    assert refusal(ModelError, "odd_shape").startswith(
        f"model.factory: {HERE}:odd_shape returned a model whose input_shape is (3, 'x'), expected positive whole numbers"
    )


def test_factory_that_returns_no_model_is_refused_by_type() -> None:
    """A dictionary is not a model."""
    assert refusal(ConfigurationError, "no_model") == (
        f"model.factory: {HERE}:no_model returned a dict, expected a torch.nn.Module. Return the model itself."
    )


def test_factory_that_fails_is_named_with_its_arguments() -> None:
    """Its own error is the cause."""
    with pytest.raises(ModelError, match="vocabulary") as caught:
        load("breaks")

    assert str(caught.value) == (
        f"model.factory: {HERE}:breaks failed with RuntimeError: no such file: vocabulary.txt "
        "It was called with model.kwargs {}."
    )
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_arguments_that_do_not_fit_are_refused_with_the_signature() -> None:
    """Before the factory runs."""
    assert refusal(ConfigurationError, "small", klasses=3) == (
        f"model.kwargs: they do not fit {HERE}:small: got an unexpected keyword argument 'klasses'. "
        "It takes small(width: 'int' = 3, classes: 'int' = 2) -> 'nn.Module'."
    )


def test_model_without_shapes_yet_is_refused() -> None:
    """A lazy layer has no gradient to compare."""
    assert refusal(ModelError, "lazy").endswith(
        "Run it once on an example inside the factory, before returning it."
    )


def test_model_of_nan_is_refused() -> None:
    """Every record would be rejected because of the model."""
    assert refusal(ModelError, "diverged") == (
        "the model of model.factory holds NaN or infinite numbers in weight: every gradient would be NaN. "
        "Give weights of a training run that did not diverge."
    )


def test_missing_weights_are_refused_with_where_they_were_looked_for(tmp_path: Path) -> None:
    """The message has the absolute path too."""
    path = tmp_path / "none.safetensors"

    assert refusal(ConfigurationError, "small", path) == (
        f"model.weights: {str(path)!r} does not exist (looked for it as {str(path)!r}). "
        "Give the file of weights, or null for an untrained model."
    )
    (tmp_path / "folder.pt").mkdir()
    assert "is a folder" in refusal(ConfigurationError, "small", tmp_path / "folder.pt")


def test_weights_are_looked_for_before_the_model_is_built(tmp_path: Path) -> None:
    """A misspelt path is reported at once, not after a minute of building."""
    assert "does not exist" in refusal(ConfigurationError, "breaks", tmp_path / "none.pt")


def test_weights_of_another_kind_of_file_are_refused(tmp_path: Path) -> None:
    """Only what is read without running code."""
    assert refusal(ConfigurationError, "small", tmp_path / "weights.bin").startswith(
        f"model.weights: found {str(tmp_path / 'weights.bin')!r}, expected a file ending in .safetensors, .pt, .pth. Save it"
    )


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("content", ["bomb", "module"])
def test_file_that_needs_pickle_is_refused_and_never_run(tmp_path: Path, content: str) -> None:
    """A whole pickled model is code; the way out is to save its tensors."""
    path = tmp_path / "model.pt"
    torch.save({"0.weight": Bomb(tmp_path / "ran")} if content == "bomb" else odd_models.small(), path)

    message = refusal(ModelError, "small", path)

    assert message == (
        f"model.weights: {str(path)!r} holds pickled Python objects beside tensors, and reading those would run code from "
        "the file. Save it again from Python: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "start", "words"),
    [
        ("w.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("w.pt", b"\n<!DOCTYPE html><html>404", "web page"),
        ("w.safetensors", b"PK\x03\x04" + bytes(60), "end in .pt"),
        ("w.pth", (60).to_bytes(8, "little") + b'{"weight":{"dtype"', "end in .safetensors"),
    ],
)
def test_file_of_another_kind_is_named_as_what_it_is(
    tmp_path: Path, name: str, start: bytes, words: str
) -> None:
    """Pointers of Git LFS, pages of a failed download, and weights under the other ending."""
    (tmp_path / name).write_bytes(start)

    with pytest.raises(ModelError, match=words):
        read_weights(tmp_path / name)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    """Empty, cut or of another kind: the file is named, and no library's error gets through."""
    contents = [b"", b"hello", b"\x80\x02garbage", b"PK\x03\x04" + b"\0" * 100, pickle.dumps([1], protocol=2)]
    for path in (tmp_path / "weights.safetensors", tmp_path / "weights.pt"):
        for content in contents:
            path.write_bytes(content)

            message = refusal(ModelError, "small", path)

            assert message.startswith(f"model.weights: {str(path)!r} "), content
            assert "weights_only=False" not in message, content


def test_weights_cut_short_are_refused(tmp_path: Path) -> None:
    """A copy that was interrupted."""
    for path in (tmp_path / "a.safetensors", tmp_path / "a.pt"):
        save_file(state(), path) if path.suffix == ".safetensors" else torch.save(state(), path)
        path.write_bytes(path.read_bytes()[:-30])

        assert "Copy or save it again." in refusal(ModelError, "small", path)


def test_checkpoint_around_the_weights_is_refused_with_its_keys(tmp_path: Path) -> None:
    """Which part of it is the model is not guessed."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 3, "state_dict": state(), "loss": 0.5, "lr": 1.0}, path)

    assert refusal(ModelError, "small", path).startswith(
        f"model.weights: {str(path)!r} holds a mapping with the keys epoch, state_dict, loss and 1 more, expected a state_dict"
    )


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    """The first few of each kind of difference."""
    path = tmp_path / "weights.safetensors"
    prefixed = {f"module.{number}": torch.ones(1) for number in range(5)}
    save_file({"0.weight": torch.ones(5, 3), **prefixed}, path)

    assert refusal(ModelError, "small", path) == (
        f"model.weights: {str(path)!r} does not fit the model of model.factory: 1 missing in the file: 0.bias; "
        "5 unknown to the model: module.0, module.1, module.2 and 2 more; "
        "1 of another shape: 0.weight is (5, 3) in the file and (2, 3) in the model. "
        "Give the factory and model.kwargs that the weights were trained with."
    )


def test_weights_of_nan_are_refused_by_file(tmp_path: Path) -> None:
    """A training run that diverged saved a file like any other."""
    path = tmp_path / "weights.safetensors"
    save_file(state(**{"0.bias": torch.tensor([0.0, float("inf")])}), path)

    assert refusal(ModelError, "small", path).startswith(
        f"model.weights {str(path)!r} holds NaN or infinite numbers in 0.bias"
    )
