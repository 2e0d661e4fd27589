"""Chat templates: messages rendered by the template that a tokenizer's folder brings, as transformers renders them.

The template is a program in Jinja; it runs in Jinja's sandbox, and is given no clock, so that a chat gives the same
text on every day. Reference: transformers, "Chat templates".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.numbers import keys_of

EXTRA_HINT = "In a clone of the repository: .venv/bin/pip install -e '.[hf]' -c constraints.txt"
_ANSWERS = "assistant"

Message = Mapping[str, Any]


class ChatError(ValueError):
    """These messages cannot be rendered; the text says why."""


class Rendered(NamedTuple):
    """A chat as one text, and where in it the wanted answers stand: (start, end) in characters."""

    text: str
    answers: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Renders messages; `names` are the special tokens that templates use, such as bos_token."""

    render_messages: Callable[..., str]
    names: Mapping[str, str]

    def render(self, messages: Sequence[Message]) -> str:
        """The whole chat. Raises ChatError if the template refuses it."""
        return self._run(messages, ask=False)

    def render_with_answers(self, messages: Sequence[Message], *, last_alone: bool) -> Rendered:
        """The whole chat, and the answers of the assistant in it: all of them, or only the last message.

        Raises ChatError if there is none, or if the template writes an earlier part of a chat in another way once
        more messages follow.
        """
        text = self._run(messages, ask=False)
        first = len(messages) - 1 if last_alone else 0
        places = [at for at in range(first, len(messages)) if messages[at]["role"] == _ANSWERS]
        if not places:
            where = "the last message is not" if last_alone else "no message is"
            raise ChatError(f"{where} the assistant's (role {_ANSWERS!r}), so nothing is learned from it")
        return Rendered(text, tuple(self._place(messages, at, text) for at in places))

    def _place(self, messages: Sequence[Message], at: int, text: str) -> tuple[int, int]:
        """Where the message stands: behind the question with the mark of an answer, up to its own end."""
        question = self._run(messages[:at], ask=True)
        answered = self._run(messages[: at + 1], ask=False)
        if not answered.startswith(question) or not text.startswith(answered):
            raise ChatError(
                f"the chat template writes message {at} in another way once more follows, so the answer has no place; "
                "use learn: all"
            )
        return len(question), len(answered)

    def _run(self, messages: Sequence[Message], *, ask: bool) -> str:
        try:
            return self.render_messages(messages=list(messages), add_generation_prompt=ask, **self.names)
        except Exception as exc:
            raise ChatError(f"the chat template refuses the messages: {exc}") from exc


def build_template(source: str, names: Mapping[str, str], place: str) -> ChatTemplate:
    """The compiled template; `place` names its file. Raises ConfigurationError if it is not a Jinja template."""
    try:
        from jinja2 import TemplateError, ext  # noqa: PLC0415 (an optional package)
        from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415
    except ImportError as exc:
        problem = Problem(
            "input.codec.tokenizer",
            "a chat template needs the package jinja2, which is not installed.",
            EXTRA_HINT,
        )
        raise ConfigurationError([problem]) from exc
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    try:
        template = environment.from_string(source)
    except TemplateError as exc:
        problem = Problem(
            "input.codec.tokenizer",
            f"the chat template of {place!r} is not a Jinja template: {exc}.",
            "Save the tokenizer again, by its save_pretrained.",
        )
        raise ConfigurationError([problem]) from exc
    return ChatTemplate(template.render, dict(names))


def messages_of(found: Sequence[Any]) -> Sequence[Message]:
    """The messages, if each is an object with a role. Raises ChatError otherwise."""
    if not found:
        raise ChatError("the list of messages is empty")
    for at, message in enumerate(found):
        if not isinstance(message, dict):
            raise ChatError(
                f"message {at} is a {type(message).__name__}, expected an object with role and content"
            )
        if not isinstance(message.get("role"), str) or "content" not in message:
            raise ChatError(f"message {at} has {keys_of(message)}, expected role and content")
    return found


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """As transformers' own filter: letters as they are, nothing escaped for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: str) -> NoReturn:
    raise ChatError(message)
