"""Hugging Face models from a local folder, as transformers' save_pretrained leaves it. Nothing is fetched from a hub.

The model is transformers' own class for the task, in eval mode, and its modules keep their names. Attention is the plain
one ("eager"): the faster forms leave the mask out where no text of a batch is padded, so that a text's last bits would
depend on its company. Code that a folder brings along is never run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from dugs_stream.canonical_json import canonical_json
from dugs_stream.errors import ConfigurationError, ModelError, Problem
from dugs_stream.models.weights_file import listed

_CLASSES = {
    "causal_lm": "AutoModelForCausalLM",
    "sequence_classification": "AutoModelForSequenceClassification",
    "masked_lm": "AutoModelForMaskedLM",
    "token_classification": "AutoModelForTokenClassification",
    "image_classification": "AutoModelForImageClassification",
}
_IMAGES = "image_classification"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_CONFIGS = ("config.json", "adapter_config.json")
_WEIGHTS = ("*.safetensors", "*.bin")
# Facts of a file that say nothing of what the model computes.
_BASE = "base_model_name_or_path"
_NOT_COMPUTED = ("_name_or_path", "transformers_version", "peft_version", _BASE)


def build(folder: str, task: str, dtype: str = "float32", classes: int | None = None) -> nn.Module:
    """The model of a folder for a task, ready for gradients.

    folder   saved by transformers, with weights in safetensors (or a .bin, read with weights_only); or an adapter saved by
             peft, whose base is another such folder
    task     causal_lm, sequence_classification, masked_lm, token_classification or image_classification
    dtype    of the parameters: float32, or bfloat16
    classes  outputs of a new classification head; None: as many as the folder's configuration says

    The model has `vocabulary_size` and `max_tokens` of a text, or the `input_shape` of a picture, if its configuration
    says so; `remarks` name what the folder has no weights for. Raises ConfigurationError for arguments that cannot be
    meant, ModelError for weights that are not
    the model's and for a causal_lm that is not causal.
    """
    path = _checked_folder(folder)
    _require("task", task, list(_CLASSES))
    _require("dtype", dtype, list(_DTYPES))
    transformers = _transformers()
    wanted = {} if classes is None else {"num_labels": classes}
    with quietly(transformers):
        try:
            model, loaded = getattr(transformers, _CLASSES[task]).from_pretrained(
                str(path),
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=_DTYPES[dtype],
                attn_implementation="eager",
                **wanted,
            )
        except Exception as exc:
            raise _unloadable(path, task, exc) from exc
    model.eval()
    model.config.use_cache = False
    if task == "sequence_classification":
        _require_padding(model, path)
    if task == "causal_lm":
        _refuse_acausal(model, path)
    model.given_name = path.resolve().name
    model.remarks = _remarks(model, sorted(loaded["missing_keys"]), path, task)
    model.fingerprint_kwargs = {
        "task": task,
        "dtype": dtype,
        "classes": classes,
        "config": _config_digest(path),
    }
    if task == _IMAGES:
        _say_shape(model)
    else:
        _say_limits(model)
    return model  # type: ignore[no-any-return]  # transformers leaves it without a type


def _checked_folder(folder: str) -> Path:
    path = Path(folder)
    if not path.is_dir():
        what = "is a file" if path.is_file() else "does not exist"
        raise _refused(
            f"folder {folder!r} {what} (looked for it as {str(path.resolve())!r}).",
            "Name a local folder that save_pretrained wrote, or a clone of the model's repository; nothing is fetched from "
            "a hub.",
        )
    if not any((path / name).is_file() for name in _CONFIGS):
        raise _refused(
            f"folder {folder!r} has no config.json, so it is not a model saved by transformers.",
            "Name the folder that save_pretrained wrote.",
        )
    if not any(file.stat().st_size for pattern in _WEIGHTS for file in path.glob(pattern)):
        raise _refused(
            f"folder {folder!r} has a config.json and no weights ({', '.join(_WEIGHTS)}).",
            "Save the trained model with its save_pretrained; in a clone, fetch the large files (git lfs pull).",
        )
    return path


def _require(name: str, found: str, known: list[str]) -> None:
    if found not in known:
        raise _refused(f"{name} is {found!r}, expected one of {', '.join(known)}.", "")


def _transformers() -> ModuleType:
    try:
        import transformers  # noqa: PLC0415 (an optional package, and a slow import)
    except ImportError as exc:
        message = f"{__name__} needs the package transformers, which is not installed."
        raise ConfigurationError(
            [
                Problem(
                    "model.factory",
                    message,
                    "In a clone of the repository: .venv/bin/pip install -e '.[hf]' -c constraints.txt",
                )
            ]
        ) from exc
    return transformers


@contextmanager
def quietly(transformers: ModuleType) -> Iterator[None]:
    """Without progress bars and reports on stderr: what matters of them becomes a remark."""
    logging = transformers.utils.logging
    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


def _unloadable(path: Path, task: str, exc: Exception) -> ConfigurationError | ModelError:
    said = " ".join(str(exc).split())
    if "Unrecognized configuration class" in said:
        return _refused(
            f"task {task} is none of those that transformers has for the model in {str(path)!r}.",
            f"Choose another task: {', '.join(_tasks_of(path)) or 'it has none of ours'}.",
        )
    return ModelError(
        f"model.kwargs: transformers cannot load {str(path)!r} for {task}: {type(exc).__name__}: {said[:500]}"
    )


def _tasks_of(path: Path) -> list[str]:
    """The tasks that transformers has a class for, of the kind of model in this folder."""
    transformers = _transformers()
    kind = type(transformers.AutoConfig.from_pretrained(str(path), local_files_only=True))
    return [task for task, name in _CLASSES.items() if kind in getattr(transformers, name)._model_mapping]  # noqa: SLF001


def _remarks(model: Any, missing: list[str], path: Path, task: str) -> tuple[str, ...]:
    """What was drawn at random since the folder has no weights for it. Raises ModelError if that is most of the model."""
    if not missing:
        return ()
    everything = [name for name, _ in model.named_parameters()]
    if 2 * len(missing) > len(everything):
        raise ModelError(
            f"model.kwargs: the weights in {str(path)!r} are not those of the model in its config.json: "
            f"{len(missing)} of {len(everything)} parameters are not among them, {listed(missing)}."
        )
    remark = (
        f"{len(missing)} of {len(everything)} parameters are drawn under gradient.seed, since the folder has no weights for "
        f"them: {listed(missing)}. Gradients of an untrained head tell samples apart by chance features only. Train it for "
        f"{task}, or choose other layers."
    )
    return (remark,)


def _config_digest(folder: Path) -> str:
    """Of what the configuration says: the same weights compute something else under another number of heads."""
    return "sha256:" + hashlib.sha256(canonical_json({"of": _computed(folder)})).hexdigest()


def _computed(folder: Path) -> list[dict[str, Any]]:
    """The configuration without names and versions; of an adapter (peft) also that of its base."""
    file = next((folder / name for name in _CONFIGS if (folder / name).is_file()), None)
    if file is None:
        return []
    said = json.loads(file.read_text(encoding="utf-8"))
    base = said.get(_BASE)
    return [
        {name: each for name, each in said.items() if name not in _NOT_COMPUTED},
        *(_computed(Path(base)) if isinstance(base, str) else ()),
    ]


def _require_padding(model: Any, path: Path) -> None:
    """A decoder finds the last token of a text by its padding."""
    # transformers calls the head of a decoder `score`, and that of an encoder `classifier`.
    if hasattr(model, "score") and model.config.get_text_config().pad_token_id is None:
        raise _refused(
            f"the model in {str(path)!r} names no pad_token_id, and its class for sequence_classification looks for the "
            "last token before the padding.",
            'Put "pad_token_id" into its config.json: the id of the tokenizer\'s padding, or of its end-of-text token.',
        )


def _refuse_acausal(model: nn.Module, path: Path) -> None:
    """An encoder has a head for this task too, and its tokens see what they are to predict."""
    ids = torch.tensor([[0, 0, 0], [0, 0, 1]])
    with torch.no_grad():
        one, other = model(input_ids=ids).logits[:, 0]
    if not torch.allclose(one, other, rtol=1e-3, atol=1e-3):
        raise ModelError(
            f"model.kwargs: the model in {str(path)!r} is not causal: the outputs at the first token change with the third. "
            "It is an encoder, or its configuration lacks is_decoder. Choose the task masked_lm."
        )


def _say_limits(model: Any) -> None:
    embedded = model.get_input_embeddings()
    model.vocabulary_size = getattr(embedded, "num_embeddings", None)
    text = model.config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        model.max_tokens = positions - _positions_before_the_first(model)


def _positions_before_the_first(model: nn.Module) -> int:
    """RoBERTa and its like count positions from the number after the padding's."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def _say_shape(model: Any) -> None:
    side = getattr(model.config, "image_size", None)
    height, width = side if isinstance(side, list | tuple) else (side, side)
    if isinstance(height, int) and isinstance(width, int):
        model.input_shape = (getattr(model.config, "num_channels", 3), height, width)


def _refused(message: str, hint: str) -> ConfigurationError:
    return ConfigurationError([Problem("model.kwargs", message, hint)])
