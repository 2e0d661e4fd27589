"""Text codec: UTF-8 text, or a text or a chat in a JSON value, as token ids and a mask of one of a few lengths.

    decode → find the text → (chat: render by the template) → tokenise → cut to max_tokens → pad to a rung of `lengths`

- Padding stands on the right, where neither a causal model nor positions counted from 0 see it; the mask is 0 there.
- Token ids are those of the tokenizer itself, special tokens included; of a chat, those that its template writes.
- Of a text only so many characters are tokenised that a token may have 64 of them; the rest counts as cut off.
- `learn` says which tokens the loss is of, if not all: a chat's answers, or a share of the tokens that are hidden from a
  masked language model. The choice depends on the text alone. They become labels; the others are -100.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from dugs_stream.core.samples import Leaf, Structure
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.codec import undecodable
from dugs_stream.inputs.json_path import at_path
from dugs_stream.inputs.numbers import keys_of
from dugs_stream.inputs.settings import TextCodecSettings
from dugs_stream.inputs.text.chat import ChatError, messages_of
from dugs_stream.inputs.text.lengths import padded_length
from dugs_stream.inputs.text.tokenizer import Tokenizer, load_tokenizer
from dugs_stream.records import Reason, Rejection

NOT_LEARNED = -100
"""The label of a token that the loss is not of, as torch's losses have it."""
_CHARACTERS_A_TOKEN = 64
_ORDINARY = 64
_HIDDEN_SHARE = 0.15  # BERT's; Devlin et al. 2019, section 3.1


class TokenLimits(NamedTuple):
    """What a model says of the tokens that it takes; None: it does not say."""

    vocabulary: int | None = None
    tokens: int | None = None


NO_LIMITS = TokenLimits()


class Tokens(NamedTuple):
    """A sample: inputs by name, each int64 (t,); labels int64 (t,) or None; whether the text was cut off."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor | None
    is_cut: bool


@dataclass(frozen=True, slots=True)
class TextCodec:
    """Reads texts; see the module. max_tokens is the limit in force, and no text is longer."""

    settings: TextCodecSettings
    tokenizer: Tokenizer
    max_tokens: int

    @classmethod
    def from_settings(cls, settings: TextCodecSettings, limits: TokenLimits) -> TextCodec:
        """Loads the tokenizer. Raises ConfigurationError if it cannot be read or does not fit the model's limits."""
        tokenizer = load_tokenizer(settings.tokenizer)
        _check_vocabulary(tokenizer, settings, limits)
        if settings.learn in {"assistant", "last_message"} and tokenizer.template is None:
            raise _refused(
                "learn",
                f"found {settings.learn}, and the tokenizer of {str(settings.tokenizer)!r} has no chat template.",
                "Use learn: all, or put a chat_template.jinja beside the tokenizer.",
            )
        if settings.learn == "masked" and tokenizer.mask_id is None:
            raise _refused(
                "learn",
                f"found masked, and the tokenizer of {str(settings.tokenizer)!r} has no mask token.",
                "Use learn: all with gradient.loss: causal_lm, or the tokenizer of a masked language model.",
            )
        max_tokens = _limit(tokenizer, settings, limits)
        tokenizer.backend.enable_truncation(max_tokens)
        return cls(settings, tokenizer, max_tokens)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that a vector depends on, with the tokenizer's content in place of its path."""
        return self.settings.model_dump(mode="json") | {
            "tokenizer": f"sha256:{self.tokenizer.digest}",
            "max_tokens": self.max_tokens,
        }

    @property
    def reads_json(self) -> bool:
        """Whether the text stands inside a JSON value, so that `from_document` reads it."""
        return self.settings.field is not None

    @property
    def form(self) -> tuple[Structure, tuple[int, ...] | None]:
        """How samples look: an ordinary one's structure, and its labels' shape; None if the label is the record's."""
        length = padded_length(min(_ORDINARY, self.max_tokens), self.max_tokens)
        leaves = tuple(Leaf(name, (length,), torch.int64) for name in ("attention_mask", "input_ids"))
        return Structure("mapping", leaves), None if self.learns_all else (length,)

    @property
    def learns_all(self) -> bool:
        """Whether it chooses no tokens for the loss, so that the label is the record's."""
        return self.settings.learn == "all"

    def padded_labels(self, labels: torch.Tensor, tokens: Tokens) -> torch.Tensor | Rejection:
        """Labels int64, one a token of the text, as long as its input is; those of tokens that are cut off are left out."""
        own, length = int(tokens.inputs["attention_mask"].sum()), len(tokens.inputs["input_ids"])
        if labels.dim() != 1 or not (len(labels) in {own, length} or (tokens.is_cut and len(labels) > own)):
            more = f"or more, since it is cut at {own}" if tokens.is_cut else "special ones included"
            return Rejection(
                Reason.LABEL_OUT_OF_RANGE,
                f"labels of shape {tuple(labels.shape)} for a text of {own} tokens, expected one a token ({own}, {more})",
            )
        return labels if len(labels) == length else self._filled(labels[:own].tolist(), NOT_LEARNED)

    def decode(self, value: bytes) -> Tokens | Rejection:
        """The sample of a value that is UTF-8 text, or the rejection."""
        try:
            text = value.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            return undecodable(
                f"not UTF-8 text: {exc.reason} at byte {exc.start}, found {value[exc.start : exc.start + 8]!r}"
            )
        return self._of_text(text)

    def from_document(self, document: Any) -> Tokens | Rejection:
        """The sample of the text, or of the chat, at the path in a parsed JSON value."""
        field = self.settings.field or ""
        found = at_path(document, field)
        if isinstance(found, str):
            return self._of_text(found)
        if isinstance(found, list):
            return self._of_chat(found)
        if found is None:
            has = (
                f"an object with {keys_of(document)}"
                if isinstance(document, dict)
                else type(document).__name__
            )
            return undecodable(f"no field {field!r}, or null in it (input.codec.field); found {has}")
        return undecodable(
            f"the field {field!r} holds {found!r:.40} ({type(found).__name__}), expected a text or a list of messages"
        )

    def _of_text(self, text: str) -> Tokens | Rejection:
        if self.settings.learn in {"assistant", "last_message"}:
            return undecodable(
                f"a text without messages, and learn is {self.settings.learn} (input.codec.learn), which is of chats"
            )
        return self._tokens(text, (), is_chat=False)

    def _of_chat(self, found: Sequence[Any]) -> Tokens | Rejection:
        template, learn = self.tokenizer.template, self.settings.learn
        if template is None:
            return undecodable(
                f"a list of messages, and the tokenizer of {str(self.settings.tokenizer)!r} has no chat template"
            )
        try:
            messages = messages_of(found)
            if learn in {"all", "masked"}:
                return self._tokens(template.render(messages), (), is_chat=True)
            rendered = template.render_with_answers(messages, last_alone=learn == "last_message")
        except ChatError as exc:
            return undecodable(str(exc))
        return self._tokens(rendered.text, rendered.answers, is_chat=True)

    def _tokens(self, text: str, answers: Sequence[tuple[int, int]], *, is_chat: bool) -> Tokens | Rejection:
        read = text[: _CHARACTERS_A_TOKEN * self.max_tokens]
        try:
            # A template writes the special tokens itself.
            encoding = self.tokenizer.backend.encode(read, add_special_tokens=not is_chat)
        except TypeError:  # half of a surrogate pair, which JSON can write and UTF-8 cannot
            return undecodable("the text holds half of a surrogate pair, which is not a character")
        except Exception as exc:  # noqa: BLE001 (the library raises plain Exception)
            return undecodable(f"the tokenizer failed: {exc}")
        ids, own = encoding.ids, [not added for added in encoding.special_tokens_mask]
        if not any(own):
            return Rejection(Reason.EMPTY, "the text has no token" if text else "the text is empty")
        labels = None
        if answers:
            labels = [
                token if _within(place, answers) else NOT_LEARNED
                for token, place in zip(ids, encoding.offsets, strict=True)
            ]
            if all(label == NOT_LEARNED for label in labels):
                return Rejection(
                    Reason.EMPTY,
                    f"no token of an answer stands within the first {self.max_tokens} (input.codec.max_tokens)",
                )
        elif self.settings.learn == "masked" and self.tokenizer.mask_id is not None:
            ids, labels = _hidden(ids, own, self.tokenizer.mask_id)
        is_cut = bool(encoding.overflowing) or len(read) < len(text)
        return Tokens(
            self._padded(ids), None if labels is None else self._filled(labels, NOT_LEARNED), is_cut
        )

    def _padded(self, ids: Sequence[int]) -> dict[str, torch.Tensor]:
        return {
            "input_ids": self._filled(ids, self.tokenizer.pad_id),
            "attention_mask": self._filled([1] * len(ids), 0),
        }

    def _filled(self, numbers: Sequence[int], filler: int) -> torch.Tensor:
        length = padded_length(len(numbers), self.max_tokens)
        return torch.tensor([*numbers, *[filler] * (length - len(numbers))], dtype=torch.int64)


def _within(place: tuple[int, int], answers: Sequence[tuple[int, int]]) -> bool:
    """Whether a token's characters are an answer's; a token that also holds a part of the question is not."""
    return place[0] < place[1] and any(start <= place[0] and place[1] <= end for start, end in answers)


def _hidden(ids: Sequence[int], own: Sequence[bool], mask_id: int) -> tuple[list[int], list[int]]:
    """The ids with a share of the text's own tokens hidden, at least one, and the labels that name those."""
    key = hashlib.sha256(repr(list(ids)).encode()).digest()
    places = sorted(
        (at for at, is_own in enumerate(own) if is_own),
        key=lambda at: hashlib.sha256(key + at.to_bytes(8, "big")).digest(),
    )
    chosen = set(places[: max(1, round(_HIDDEN_SHARE * len(places)))])
    return (
        [mask_id if at in chosen else token for at, token in enumerate(ids)],
        [token if at in chosen else NOT_LEARNED for at, token in enumerate(ids)],
    )


def _check_vocabulary(tokenizer: Tokenizer, settings: TextCodecSettings, limits: TokenLimits) -> None:
    if limits.vocabulary is not None and tokenizer.size > limits.vocabulary:
        raise _refused(
            "tokenizer",
            f"{str(settings.tokenizer)!r} has token ids up to {tokenizer.size - 1}, and the model embeds "
            f"{limits.vocabulary} tokens (0 to {limits.vocabulary - 1}): it is not this model's tokenizer.",
            "Name the tokenizer that the model was trained with.",
        )


def _limit(tokenizer: Tokenizer, settings: TextCodecSettings, limits: TokenLimits) -> int:
    """max_tokens, or the smallest of the limits that tokenizer and model name."""
    wanted = settings.max_tokens
    if wanted is not None and limits.tokens is not None and wanted > limits.tokens:
        raise _refused(
            "max_tokens",
            f"found {wanted}, and the model takes at most {limits.tokens} tokens.",
            f"Set {limits.tokens} or less, or null for the model's own limit.",
        )
    known = [each for each in (tokenizer.most, limits.tokens) if each is not None]
    limit = min(known, default=None) if wanted is None else wanted
    if limit is None:
        raise _refused(
            "max_tokens",
            f"found null, and neither the tokenizer of {str(settings.tokenizer)!r} nor the model says how long a text "
            "may be.",
            "Set how many tokens of a text are read, such as 512.",
        )
    if limit <= tokenizer.specials:
        raise _refused(
            "max_tokens",
            f"found {limit}, and the tokenizer adds {tokenizer.specials} special tokens to each text.",
            f"Set at least {tokenizer.specials + 1}.",
        )
    return limit


def _refused(key: str, message: str, hint: str) -> ConfigurationError:
    return ConfigurationError([Problem(f"input.codec.{key}", message, hint)])
