"""Text to token ids: what the tokenizer itself gives, padded by the text's own length, or a rejection."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dugs_stream.inputs.text.codec import NOT_LEARNED, TextCodec, Tokens
from dugs_stream.inputs.text.lengths import padded_length
from dugs_stream.inputs.text.reading import text_in
from dugs_stream.records import Reason, Rejection
from tests.support.late_imports import imported_late
from tests.support.models.text import CHAT_TEMPLATE, MINILM, save_tokenizer
from tests.unit.inputs.texts import codec, rejection, tokens

transformers = imported_late("transformers")

CHAT = [
    {"role": "user", "content": "the cat"},
    {"role": "assistant", "content": "a dog"},
    {"role": "user", "content": "the river"},
    {"role": "assistant", "content": "was cold"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer with a chat template."""
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"), chat=CHAT_TEMPLATE)


def learned(codec: TextCodec, found: Tokens) -> str:
    """The text of the tokens that the loss is of."""
    assert found.labels is not None
    ids = [int(label) for label in found.labels if label != NOT_LEARNED]
    return str(codec.tokenizer.backend.decode(ids, skip_special_tokens=False))


def test_token_ids_are_those_of_transformers_own_tokenizer() -> None:
    """A text in several scripts, cut and padded, against the real encoder's tokenizer."""
    text = "Gradients of 文字 and naïve cafés, " * 20
    expected = transformers.AutoTokenizer.from_pretrained(str(MINILM), local_files_only=True)(
        text, truncation=True, max_length=100, padding="max_length", return_tensors="pt"
    )

    found = tokens(codec(MINILM, max_tokens=100).decode(text.encode()))

    assert found.is_cut
    assert set(found.inputs) == {"input_ids", "attention_mask"}
    for name, tensor in found.inputs.items():
        assert torch.equal(tensor, expected[name][0])


def test_padding_is_behind_the_text_and_masked(folder: Path) -> None:
    """The pad token on the right up to the rung, and a mask of the real tokens."""
    own = codec(folder)
    expected = own.tokenizer.backend.encode("the cat sat").ids

    found = tokens(own.decode(b"the cat sat"))

    assert len(expected) % 16 != 0
    assert found.inputs["input_ids"][: len(expected)].tolist() == expected
    assert found.inputs["input_ids"][len(expected) :].unique().tolist() == [own.tokenizer.pad_id]
    assert found.inputs["attention_mask"].tolist() == [1] * len(expected) + [0] * (16 - len(expected) % 16)
    assert (found.labels, found.is_cut) == (None, False)


@given(tokens=st.integers(1, 5000), extra=st.integers(0, 5000))
def test_rung_holds_the_text_within_an_eighth(tokens: int, extra: int) -> None:
    """A rung is the smallest that holds the text; it is its own rung, never beyond the limit, and rungs are ordered."""
    most = tokens + extra
    rung = padded_length(tokens, most)

    assert tokens <= rung <= most
    assert rung - tokens < max(16, tokens / 8)
    assert padded_length(rung, most) == rung
    assert padded_length(min(tokens + 1, most), most) >= rung


def test_ladder_is_short_enough_for_tiles_to_fill() -> None:
    """So many different lengths, each a kind of samples of its own."""
    rungs = {
        most: len({padded_length(tokens, most) for tokens in range(1, most + 1)}) for most in (128, 512, 4096)
    }

    assert rungs == {128: 8, 512: 24, 4096: 48}


def test_text_that_is_cut_says_so(folder: Path) -> None:
    """At max_tokens, special tokens included, and not one token before."""
    short = save_tokenizer(folder.parent / "special", with_specials=True)
    own = codec(short, max_tokens=10)
    ids = own.tokenizer.backend.encode(
        "!" * 8
    ).ids  # a token each, since they are in no line it was trained on

    fits, cut = (tokens(own.decode(b"!" * length)) for length in (8, 9))

    assert len(ids) == 10
    assert (fits.is_cut, cut.is_cut) == (False, True)
    assert cut.inputs["input_ids"].tolist() == ids
    assert own.tokenizer.backend.id_to_token(cut.inputs["input_ids"][-1].item()) == "[SEP]"


def test_endless_text_is_cut_before_it_is_tokenised(folder: Path) -> None:
    """Of megabytes without a space no more is read than the tokens can hold."""
    found = tokens(codec(folder, max_tokens=16).decode(b"x" * 2**22))

    assert found.is_cut
    assert len(found.inputs["input_ids"]) == 16


@pytest.mark.parametrize(
    ("value", "reason", "error"),
    [
        (b"", Reason.EMPTY, "the text is empty"),
        (b"\xef\xbb\xbf", Reason.EMPTY, "the text is empty"),
        (b"caf\xe9", Reason.UNDECODABLE, r"not UTF-8 text: unexpected end of data at byte 3, found b'\xe9'"),
    ],
)
def test_value_that_is_no_text_is_rejected(folder: Path, value: bytes, reason: Reason, error: str) -> None:
    """With the place and the bytes found there."""
    assert rejection(codec(folder).decode(value)) == Rejection(reason, error)


def test_text_without_a_token_is_rejected() -> None:
    """BERT drops control characters; only its special tokens are left."""
    found = rejection(codec(MINILM).decode("\u200b\x00 \n".encode()))

    assert (found.reason, found.error) == (Reason.EMPTY, "the text has no token")


def test_nul_bytes_are_characters(folder: Path) -> None:
    """A byte-level tokenizer has a token for every byte."""
    own = codec(folder)
    found = tokens(own.decode(b"a\0b"))

    assert found.inputs["attention_mask"].sum() == 3


def test_text_at_a_path_of_a_json_value(folder: Path) -> None:
    """The same tokens as of the bare text."""
    own, bare = codec(folder, field="doc.body"), codec(folder)
    found = tokens(own.from_document({"doc": {"body": "the cat"}}))

    assert own.reads_json
    assert not bare.reads_json
    assert torch.equal(found.inputs["input_ids"], tokens(bare.decode(b"the cat")).inputs["input_ids"])


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"doc": 1}, "no field 'body', or null in it (input.codec.field); found an object with 'doc'"),
        (["body"], "no field 'body', or null in it (input.codec.field); found list"),
        ({"body": 3}, "the field 'body' holds 3 (int), expected a text or a list of messages"),
        (
            {"body": json.loads('"\\ud83d"')},
            "the text holds half of a surrogate pair, which is not a character",
        ),
        ({"body": []}, "the list of messages is empty"),
        ({"body": ["hello"]}, "message 0 is a str, expected an object with role and content"),
        ({"body": [{"text": "hello"}]}, "message 0 has 'text', expected role and content"),
    ],
)
def test_json_value_without_a_text_is_rejected(folder: Path, document: Any, error: str) -> None:
    """It says what stands there instead."""
    assert rejection(codec(folder, field="body").from_document(document)) == Rejection(
        Reason.UNDECODABLE, error
    )


def test_chat_is_rendered_as_transformers_renders_it(folder: Path) -> None:
    """By the tokenizer's template, which writes the special tokens itself."""
    theirs = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    expected = theirs.apply_chat_template(CHAT, tokenize=True, return_dict=True)["input_ids"]

    found = tokens(codec(folder, field="messages").from_document({"messages": CHAT}))

    assert found.inputs["input_ids"][: len(expected)].tolist() == expected
    assert int(found.inputs["attention_mask"].sum()) == len(expected)
    assert found.labels is None


@pytest.mark.parametrize(
    ("learn", "expected"), [("assistant", "a dog<|end|>was cold<|end|>"), ("last_message", "was cold<|end|>")]
)
def test_only_answers_are_learned(folder: Path, learn: str, expected: str) -> None:
    """The answers with the token that ends them; questions and the marks of roles are not."""
    own = codec(folder, field="messages", learn=learn)
    found = tokens(own.from_document({"messages": CHAT}))

    assert learned(own, found) == expected
    assert found.labels is not None
    is_learned = found.labels != NOT_LEARNED
    assert torch.equal(found.labels[is_learned], found.inputs["input_ids"][is_learned])


@pytest.mark.parametrize(
    ("chat", "learn", "max_tokens", "error"),
    [
        (CHAT[:1], "assistant", 64, "no message is the assistant's (role 'assistant'), so nothing is learned from it"),
        (CHAT[:3], "last_message", 64, "the last message is not the assistant's"),
        (CHAT, "last_message", 8, "no token of an answer stands within the first 8 (input.codec.max_tokens)"),
        ("hello", "assistant", 64, "a text without messages, and learn is assistant (input.codec.learn), which is of chats"),
    ],
)  # fmt: skip
def test_chat_without_an_answer_is_rejected(
    folder: Path, chat: Any, learn: str, max_tokens: int, error: str
) -> None:
    """Nothing is learned from it, so it has no gradient to compare."""
    own = codec(folder, field="messages", learn=learn, max_tokens=max_tokens)

    assert error in rejection(own.from_document({"messages": chat})).error


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ strftime_now('%d') }}", "'strftime_now' is undefined"),
        (
            "{% for m in messages %}{{ m.content if loop.last else '' }}{% endfor %}",
            "in another way once more follows",
        ),
    ],
)
def test_template_that_refuses_or_may_not_is_a_rejection(tmp_path: Path, template: str, error: str) -> None:
    """A template is a stranger's program: it sees no clock and no Python, and says itself what it does not take."""
    own = codec(save_tokenizer(tmp_path, chat=template), field="messages", learn="assistant")

    assert error in rejection(own.from_document({"messages": CHAT})).error


def test_template_in_the_configuration_is_read_too(tmp_path: Path) -> None:
    """Older folders have it there, alone or as one of several with names."""
    named = [{"name": "tool", "template": "no"}, {"name": "default", "template": CHAT_TEMPLATE}]
    expected = codec(save_tokenizer(tmp_path / "file", chat=CHAT_TEMPLATE), field="m").from_document(
        {"m": CHAT}
    )

    for place, template in (("alone", CHAT_TEMPLATE), ("several", named)):
        own = codec(save_tokenizer(tmp_path / place, chat_template=template), field="m")
        found = tokens(own.from_document({"m": CHAT}))

        assert torch.equal(found.inputs["input_ids"], tokens(expected).inputs["input_ids"])


def test_tokens_are_hidden_by_the_text_alone(tmp_path: Path) -> None:
    """A share of the text's own tokens, the same at each look; labels name what was hidden."""
    own = codec(save_tokenizer(tmp_path, with_specials=True), learn="masked")
    plain = codec(tmp_path)
    text = b"the cat sat on the mat and looked at the dog that ran over the green field"

    found, again = tokens(own.decode(text)), tokens(own.decode(text))

    whole = tokens(plain.decode(text)).inputs["input_ids"]
    assert found.labels is not None
    is_hidden = found.labels != NOT_LEARNED
    real = int(found.inputs["attention_mask"].sum()) - 2
    assert int(is_hidden.sum()) == round(0.15 * real) > 1
    assert not is_hidden[0]
    assert found.inputs["input_ids"][is_hidden].unique().tolist() == [own.tokenizer.mask_id]
    assert torch.equal(torch.where(is_hidden, found.labels, found.inputs["input_ids"]), whole)
    assert torch.equal(found.inputs["input_ids"], again.inputs["input_ids"])


@settings(max_examples=50)
@given(text=st.text(max_size=60))
def test_any_text_is_tokens_or_a_rejection(text: str) -> None:
    """Whatever characters there are, surrogates included: never an error, never a token out of range."""
    own = _any_codec()
    found = own.from_document({"text": text})

    if isinstance(found, Tokens):
        ids, mask = found.inputs["input_ids"], found.inputs["attention_mask"]
        assert ids.shape == mask.shape == (padded_length(int(mask.sum()), own.max_tokens),)
        assert 0 <= int(ids.min()) <= int(ids.max()) < own.tokenizer.size
    else:
        assert found.reason in {Reason.EMPTY, Reason.UNDECODABLE}


@cache
def _any_codec() -> TextCodec:
    return codec(MINILM, field="text", max_tokens=24)


@pytest.mark.parametrize(
    ("value", "field", "expected"),
    [
        (b"as it is", None, "as it is"),
        (b"caf\xe9", None, "caf\ufffd"),
        (b'{"a": {"b": "within"}}', "a.b", "within"),
        (json.dumps({"m": CHAT[:2]}).encode(), "m", "user: the cat\nassistant: a dog"),
        (b'{"m": [1]}', "m", "1"),
        (b"{}", "m", None),
        (b"no JSON", "m", None),
    ],
)
def test_text_for_people_needs_no_tokenizer(value: bytes, field: str | None, expected: str | None) -> None:
    """What the page shows of a record, a rejected one too."""
    assert text_in(value, field) == expected


def test_labels_of_tokens_are_padded_with_their_text(folder: Path) -> None:
    """One a token of the text; what belongs to tokens that are cut off is left out, another number is refused."""
    whole, short = codec(folder), codec(folder, max_tokens=3)
    found, cut = tokens(whole.decode(b"the cat was cold")), tokens(short.decode(b"the cat was cold"))
    own = int(found.inputs["attention_mask"].sum())
    labels = torch.arange(own)

    padded = whole.padded_labels(labels, found)

    assert isinstance(padded, torch.Tensor)
    assert len(padded) == len(found.inputs["input_ids"]) > own
    assert padded[:own].equal(labels)
    assert set(padded[own:].tolist()) == {NOT_LEARNED}
    shorter = short.padded_labels(labels, cut)
    assert isinstance(shorter, torch.Tensor)
    assert [int(label) for label in shorter if label != NOT_LEARNED] == [0, 1, 2]
    for wrong in (labels[1:], labels[None]):
        refused = whole.padded_labels(wrong, found)
        assert isinstance(refused, Rejection)
        assert f"expected one a token ({own}," in refused.error
