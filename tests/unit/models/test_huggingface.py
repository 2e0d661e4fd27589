"""Models of a local folder: transformers' own, in the names and numbers that they have there, or refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dugs_stream.errors import ConfigurationError, DugsError, ModelError
from dugs_stream.models.loading import LoadedModel, load_model
from tests.support.late_imports import imported_late
from tests.support.models.text import MINILM, save_bert, save_gpt2

peft = imported_late("peft")
transformers = imported_late("transformers")

FACTORY = "dugs_stream.models.huggingface:build"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


def load(folder: Path, task: str, weights: Path | None = None, **kwargs: Any) -> LoadedModel:
    return load_model(FACTORY, {"folder": str(folder), "task": task, **kwargs}, weights, 0)


def refusal(kind: type[DugsError], folder: Path, task: str, **kwargs: Any) -> str:
    with pytest.raises(kind) as caught:
        load(folder, task, **kwargs)
    return str(caught.value)


def test_causal_model_is_transformers_own(gpt2: Path) -> None:
    """The class, the names and the logits that transformers gives, in eval mode, without a remark."""
    ids = torch.arange(12)[None]
    theirs = transformers.GPT2LMHeadModel.from_pretrained(gpt2).eval()

    loaded = load(gpt2, "causal_lm")

    assert isinstance(loaded.module, transformers.GPT2LMHeadModel)
    assert not any(module.training for module in loaded.module.modules())
    assert [name for name, _ in loaded.module.named_modules()] == [name for name, _ in theirs.named_modules()]
    torch.testing.assert_close(loaded.module(input_ids=ids).logits, theirs(input_ids=ids).logits)
    assert loaded.module(input_ids=ids).past_key_values is None
    assert (loaded.vocabulary, loaded.max_tokens, loaded.remarks) == (320, 64, ())
    assert loaded.name == gpt2.name


def test_bits_do_not_depend_on_a_neighbours_padding(gpt2: Path, bert: Path) -> None:
    """Beside a text of full length and beside a padded one, a text has the same logits to the last bit."""
    ids = torch.arange(3 * 16).reshape(3, 16)
    full = torch.ones(3, 16, dtype=torch.int64)
    padded = full.clone()
    padded[1:, 5:] = 0

    for folder, task in ((gpt2, "causal_lm"), (bert, "sequence_classification")):
        model = load(folder, task).module
        one, other = (model(input_ids=ids, attention_mask=mask).logits[0] for mask in (full, padded))

        assert torch.equal(one, other)


def test_dtype_is_of_the_parameters(gpt2: Path) -> None:
    """float32 also where the folder says otherwise, bfloat16 if asked for."""
    assert {each.dtype for each in load(gpt2, "causal_lm", dtype="bfloat16").module.parameters()} == {
        torch.bfloat16
    }
    assert {each.dtype for each in load(gpt2, "causal_lm").module.parameters()} == {torch.float32}


def test_new_head_is_remarked_on_and_the_same_on_every_start(tmp_path: Path, bert: Path) -> None:
    """An encoder without a head gets one of as many classes as asked for, drawn under the seed."""
    transformers.AutoModelForSequenceClassification.from_pretrained(bert).base_model.save_pretrained(tmp_path)

    first, again = (load(tmp_path, "sequence_classification", classes=5) for _ in range(2))

    assert first.module.get_parameter("classifier.weight").shape == (5, 32)
    assert first.weights_digest == again.weights_digest
    (remark,) = first.remarks
    assert remark.startswith(
        "2 of 41 parameters are drawn under gradient.seed, since the folder has no weights for them"
    )
    assert "classifier.bias, classifier.weight" in remark


def test_weights_of_a_file_fill_the_head(tmp_path: Path, bert: Path) -> None:
    """`model.weights` goes over the folder's, and nothing is untrained then."""
    bare, file = tmp_path / "bare", tmp_path / "head.pt"
    trained = transformers.AutoModelForSequenceClassification.from_pretrained(bert)
    trained.base_model.save_pretrained(bare)
    torch.save(trained.state_dict(), file)

    loaded = load(bare, "sequence_classification", file, classes=3)

    assert loaded.remarks == ()
    assert torch.equal(loaded.module.get_parameter("classifier.weight"), trained.classifier.weight)


def test_pickled_weights_are_read_without_running_code(tmp_path: Path, gpt2: Path) -> None:
    """A .bin of tensors loads; one that would run something when unpickled does not."""
    shutil.copy(gpt2 / "config.json", tmp_path)
    state = transformers.GPT2LMHeadModel.from_pretrained(gpt2).state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert load(tmp_path, "causal_lm").weights_digest == load(gpt2, "causal_lm").weights_digest

    torch.save({**state, "run": print}, tmp_path / "pytorch_model.bin")
    assert "transformers cannot load" in refusal(ModelError, tmp_path, "causal_lm")


def test_picture_model_takes_one_tensor(tmp_path: Path) -> None:
    """`model(x)`, of the shape that its configuration says."""
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        num_labels=4,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)

    loaded = load(tmp_path, "image_classification")

    assert loaded.input_shape == (3, 32, 32)
    assert loaded.module(torch.zeros(2, 3, 32, 32)).logits.shape == (2, 4)
    assert (loaded.vocabulary, loaded.max_tokens) == (None, None)


def test_positions_before_the_first_do_not_count(tmp_path: Path) -> None:
    """RoBERTa's first position is 2, so 66 of them are texts of 64 tokens."""
    from transformers import RobertaConfig, RobertaForMaskedLM  # noqa: PLC0415 (for this test alone)

    config = RobertaConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50,
        max_position_embeddings=66, pad_token_id=1,
    )  # fmt: skip
    RobertaForMaskedLM(config).save_pretrained(tmp_path)

    loaded = load(tmp_path, "masked_lm")

    assert loaded.max_tokens == 64
    assert loaded.module(input_ids=torch.full((1, 64), 7)).logits.shape == (1, 64, 50)


@pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # between peft and transformers
def test_adapter_loads_with_its_base(tmp_path: Path, gpt2: Path) -> None:
    """A folder of peft names its base; both configurations count."""
    base = shutil.copytree(gpt2, tmp_path / "base")
    adapted = peft.get_peft_model(
        transformers.GPT2LMHeadModel.from_pretrained(base),
        peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False),
    )
    adapted.save_pretrained(tmp_path / "adapter")

    loaded = load(tmp_path / "adapter", "causal_lm")

    names = {name for name, _ in loaded.module.named_parameters()}
    assert "transformer.h.1.attn.c_attn.lora_A.default.weight" in names
    ids = torch.arange(9)[None]
    torch.testing.assert_close(loaded.module(input_ids=ids).logits, adapted.eval()(input_ids=ids).logits)
    assert loaded.remarks == ()
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"n_head": 4}))
    assert load(tmp_path / "adapter", "causal_lm").kwargs != loaded.kwargs


def test_real_encoder_loads() -> None:
    """all-MiniLM-L6-v2 as packages carry it: a BERT of six layers without a head."""
    loaded = load(MINILM, "sequence_classification", classes=4)

    assert (loaded.vocabulary, loaded.max_tokens) == (30522, 512)
    assert any(name == "bert.encoder.layer.5.output.dense" for name, _ in loaded.module.named_modules())
    assert "2 of 105 parameters are drawn" in loaded.remarks[0]


def test_encoder_is_not_causal(bert: Path) -> None:
    """Its head for that task would be shown the tokens that it predicts."""
    message = refusal(ModelError, MINILM, "causal_lm")

    assert "is not causal: the outputs at the first token change with the third" in message
    assert "masked_lm" in message


def test_task_that_the_architecture_has_not_is_refused(gpt2: Path) -> None:
    """With those that there are."""
    message = refusal(ConfigurationError, gpt2, "masked_lm")

    assert "task masked_lm is none of those that transformers has for the model" in message
    assert message.endswith("Choose another task: causal_lm, sequence_classification, token_classification.")


def test_decoder_without_padding_is_refused_as_a_classifier(tmp_path: Path, gpt2: Path) -> None:
    """It looks for the last token before the padding, and transformers says so only when it meets two texts."""
    shutil.copytree(gpt2, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))

    assert "names no pad_token_id" in refusal(ConfigurationError, tmp_path, "sequence_classification")


def test_weights_of_another_model_are_refused(tmp_path: Path, gpt2: Path, bert: Path) -> None:
    """A head may be new; a model that is new for the most part has lost its weights."""
    shutil.copytree(bert, tmp_path, dirs_exist_ok=True)
    shutil.copy(gpt2 / "model.safetensors", tmp_path)

    message = refusal(ModelError, tmp_path, "sequence_classification")

    assert "are not those of the model in its config.json: 41 of 41 parameters are not among them" in message


def test_folder_that_is_none_is_refused(tmp_path: Path, gpt2: Path) -> None:
    """A missing one, a file, one without a model, and one without weights."""
    bare = tmp_path / "bare"
    bare.mkdir()
    assert "does not exist" in refusal(ConfigurationError, tmp_path / "nowhere", "causal_lm")
    assert "nothing is fetched from a hub" in refusal(ConfigurationError, Path("gpt2"), "causal_lm")
    assert "is a file" in refusal(ConfigurationError, gpt2 / "config.json", "causal_lm")
    assert "has no config.json" in refusal(ConfigurationError, bare, "causal_lm")
    shutil.copy(gpt2 / "config.json", bare)
    assert "a config.json and no weights" in refusal(ConfigurationError, bare, "causal_lm")
    (bare / "model.safetensors").touch()
    assert "a config.json and no weights" in refusal(ConfigurationError, bare, "causal_lm")


def test_wrong_arguments_are_refused(gpt2: Path) -> None:
    """By the names that there are."""
    assert "task is 'gpt', expected one of causal_lm, " in refusal(ConfigurationError, gpt2, "gpt")
    assert "expected one of float32, bfloat16" in refusal(ConfigurationError, gpt2, "causal_lm", dtype="int8")


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, gpt2: Path) -> None:
    """What is not installed, and the command that installs it."""
    monkeypatch.setitem(sys.modules, "transformers", None)

    message = refusal(ConfigurationError, gpt2, "causal_lm")

    assert "needs the package transformers, which is not installed. " in message
    assert "-e '.[hf]' -c constraints.txt" in message


def test_fingerprint_holds_the_configuration_and_not_the_path(tmp_path: Path, gpt2: Path) -> None:
    """The same weights under another number of heads are another model; the same folder elsewhere is the same."""
    moved, changed = (shutil.copytree(gpt2, tmp_path / name) for name in ("moved", "changed"))
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(config | {"n_head": 4}))

    here, there, other = (load(folder, "causal_lm") for folder in (gpt2, moved, changed))

    assert here.weights_digest == there.weights_digest == other.weights_digest
    assert here.kwargs == there.kwargs != other.kwargs
    assert str(gpt2) not in json.dumps(dict(here.kwargs))


def test_loading_leaves_stderr_and_its_settings_alone(gpt2: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No progress bar or report of transformers, which speaks as before afterwards."""
    before = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()

    load(gpt2, "causal_lm")

    assert capfd.readouterr() == ("", "")
    assert (transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()) == before
