"""Models of language as people train them: whole models of transformers, recurrent ones, adapters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own habit
from torch.nn.utils import parametrizations

from tests.support.late_imports import imported_late
from tests.zoo.case import CLASSES, VOCABULARY, WIDTH, Case, Net, tokens, vectors

transformers = imported_late("transformers")

_SIZE = {
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 8,
}


def _language(model: nn.Module, **beside: Any) -> nn.Module:
    """The mean logits over positions."""

    def run(m: Any, x: Tensor) -> Tensor:
        found: Tensor = m.model(input_ids=x, use_cache=False, **beside).logits
        return found.mean(dim=1)

    return Net(run, model=model)


def bert() -> nn.Module:
    config = transformers.BertConfig(**_SIZE, num_labels=CLASSES)
    return Net(
        lambda m, x: m.model(input_ids=x).logits, model=transformers.BertForSequenceClassification(config)
    )


def gpt() -> nn.Module:
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=VOCABULARY, n_positions=8)
    return _language(transformers.GPT2LMHeadModel(config))


def llama() -> nn.Module:
    return _language(transformers.LlamaForCausalLM(transformers.LlamaConfig(**_SIZE, num_key_value_heads=1)))


def mixture() -> nn.Module:
    config = transformers.MixtralConfig(
        **_SIZE,
        num_key_value_heads=1,
        num_local_experts=3,
        num_experts_per_tok=2,
        experts_implementation="eager",
    )
    return _language(transformers.MixtralForCausalLM(config))


def t5() -> nn.Module:
    config = transformers.T5Config(
        d_model=8, d_kv=4, d_ff=12, num_layers=1, num_heads=2, vocab_size=VOCABULARY, dropout_rate=0.0
    )

    def run(m: Any, x: Tensor) -> Tensor:
        found: Tensor = m.model(input_ids=x, decoder_input_ids=x[:, :2], use_cache=False).logits
        return found.mean(dim=1)

    return Net(run, model=transformers.T5ForConditionalGeneration(config))


def gpt_by_hand() -> nn.Module:
    """A table of positions of its own, and a head that reads the embedding's weight."""

    def run(m: Any, x: Tensor) -> Tensor:
        hidden = m.body(m.emb(x) + m.places)
        return F.linear(hidden, m.emb.weight).mean(dim=1)

    body = nn.Sequential(nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True), nn.LayerNorm(WIDTH))
    return Net(
        run, emb=nn.Embedding(VOCABULARY, WIDTH), places=nn.Parameter(torch.randn(4, WIDTH)), body=body
    )


def tagger() -> nn.Module:
    rnn = nn.LSTM(WIDTH, 4, bidirectional=True, batch_first=True)
    return Net(
        lambda m, x: m.head(m.rnn(m.emb(x))[0].mean(dim=1)),
        emb=nn.Embedding(VOCABULARY, WIDTH),
        rnn=rnn,
        head=nn.Linear(8, CLASSES),
    )


def adapted_by_peft() -> nn.Module:
    import peft  # noqa: PLC0415 -- takes a second

    base = nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    config = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    return Net(lambda m, x: m.base(x), base=peft.get_peft_model(base, config))


def normed_weight() -> nn.Module:
    body = parametrizations.weight_norm(nn.Linear(WIDTH, 5))
    return Net(lambda m, x: m.head(m.body(x).tanh()), body=body, head=nn.Linear(5, CLASSES))


LANGUAGE = [
    Case("BERT with a class head", "whole model", bert, tokens, ["*"]),
    Case("GPT-2 with a tied head", "whole model", gpt, tokens, ["*"]),
    Case("Llama: RMSNorm, rotary positions, grouped queries", "whole model", llama, tokens, ["*"]),
    Case("Mixtral: experts", "whole model", mixture, tokens, ["*"]),
    Case("T5: relative biases, shared embedding", "whole model", t5, tokens, ["*"]),
    Case("GPT by hand, tied by a function", "whole model", gpt_by_hand, tokens, ["*"]),
    Case("tagger of LSTMs", "whole model", tagger, tokens, ["*"]),
    Case("LoRA of peft", "adapter", adapted_by_peft, vectors, ["*lora_*"]),
    Case("weight norm", "computed weight", normed_weight, vectors, ["body", "head"]),
]
