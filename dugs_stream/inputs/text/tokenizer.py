"""Tokenizers from local files: a `tokenizer.json`, or a folder saved by transformers. Nothing is fetched.

What surrounds the vocabulary (special tokens, the longest text, the chat template) is read from the files beside it
that transformers writes. A folder without a tokenizer.json is converted by transformers, if its tokenizer can be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.text.chat import EXTRA_HINT, ChatTemplate, build_template

if TYPE_CHECKING:
    import tokenizers

_FILE = "tokenizer.json"
_CONFIG = "tokenizer_config.json"
_TEMPLATE = "chat_template.jinja"
_AROUND = (_CONFIG, _TEMPLATE, "chat_template.json", "special_tokens_map.json")
# From which transformers makes a tokenizer in place of a tokenizer.json.
_OLDER = (
    "config.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
# transformers writes a number of thirty digits for "no limit".
_NO_LIMIT = 10**9
_USUAL_PADS = ("[PAD]", "<pad>", "<|pad|>")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer without truncation or padding of its own, and what its files say around it.

    size      one more than the highest token id
    pad_id    what pads a text: the pad token, else the end of a text, else 0; the mask says that it does not count
    mask_id   the token that hides another one from a masked language model, if there is one
    most      tokens that a text may have by these files, special ones included; None: they do not say
    specials  tokens that are added to each text
    digest    hex SHA-256 over the files
    """

    backend: tokenizers.Tokenizer
    size: int
    pad_id: int
    mask_id: int | None
    most: int | None
    specials: int
    template: ChatTemplate | None
    digest: str


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json or a folder. Raises ConfigurationError if there is none, or it cannot be read."""
    if not path.exists():
        raise _refused(
            f"{str(path)!r} does not exist (looked for it as {str(path.resolve())!r}).",
            "Name a tokenizer.json, or a folder saved by transformers; nothing is fetched from a hub.",
        )
    folder = path if path.is_dir() else path.parent
    file = path / _FILE if path.is_dir() else path
    backend = _backend(file) if file.is_file() else _converted(folder)
    said = _said_by(folder)
    names = {name: token for name in said if name.endswith("_token") and (token := _token(said[name]))}
    most = _limits(backend, said)
    specials = backend.num_special_tokens_to_add(is_pair=False)
    pad_id = _pad_id(backend, names)
    backend.no_padding()
    backend.no_truncation()
    return Tokenizer(
        backend,
        1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1),
        pad_id,
        backend.token_to_id(names.get("mask_token", "[MASK]")),
        most,
        specials,
        _template(folder, said, names),
        _digest(folder, file),
    )


def _backend(file: Path) -> tokenizers.Tokenizer:
    library = _library()
    try:
        backend: tokenizers.Tokenizer = library.Tokenizer.from_file(str(file))
    except Exception as exc:
        raise _refused(
            f"{str(file)!r} is not a tokenizer of the package tokenizers: {exc}.",
            "Save it again, by AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER).",
        ) from exc
    return backend


def _library() -> Any:
    try:
        import tokenizers  # noqa: PLC0415 (an optional package)
    except ImportError as exc:
        raise _refused(
            "the codec text needs the package tokenizers, which is not installed.", EXTRA_HINT
        ) from exc
    return tokenizers


def _converted(folder: Path) -> tokenizers.Tokenizer:
    """By transformers, from the older forms: vocab.txt, merges.txt, sentencepiece."""
    _library()
    try:
        import transformers  # noqa: PLC0415 (an optional package, and a slow import)
    except ImportError as exc:
        raise _refused(
            f"{str(folder)!r} has no {_FILE}, and the package transformers, which reads older forms, is not installed.",
            EXTRA_HINT,
        ) from exc
    try:
        found = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_fast=True
        )
    except Exception as exc:
        raise _refused(
            f"{str(folder)!r} holds no tokenizer: there is no {_FILE}, and transformers finds none either "
            f"({type(exc).__name__}: {_first_line(exc)}).",
            "Name the folder that the tokenizer was saved to, by its save_pretrained.",
        ) from exc
    backend: tokenizers.Tokenizer | None = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise _refused(
            f"the tokenizer of {str(folder)!r} is a {type(found).__name__}, which has no fast form.",
            f"Convert it to a {_FILE}.",
        )
    return backend


def _first_line(exc: Exception) -> str:
    return next(iter(str(exc).strip().splitlines()), "")


def _said_by(folder: Path) -> Mapping[str, Any]:
    said: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "chat_template.json", _CONFIG):
        file = folder / name
        if not file.is_file():
            continue
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as exc:
            raise _refused(f"{str(file)!r} is not JSON: {exc}.", "Save the tokenizer again.") from exc
        said |= found if isinstance(found, dict) else {}
    return said


def _token(said: Any) -> str | None:
    """A special token as text; older files have an object with its content."""
    content = said.get("content") if isinstance(said, Mapping) else said
    return content if isinstance(content, str) and content else None


def _limits(backend: tokenizers.Tokenizer, said: Mapping[str, Any]) -> int | None:
    """The smaller of where the tokenizer itself cuts, and what its configuration says the model takes."""
    limits = [(backend.truncation or {}).get("max_length"), said.get("model_max_length")]
    return min((int(n) for n in limits if isinstance(n, int | float) and 0 < n < _NO_LIMIT), default=None)


def _pad_id(backend: tokenizers.Tokenizer, names: Mapping[str, str]) -> int:
    named = backend.token_to_id(names["pad_token"]) if "pad_token" in names else None
    own = (backend.padding or {}).get("pad_id")
    usual = (backend.token_to_id(token) for token in _USUAL_PADS)
    end = backend.token_to_id(names["eos_token"]) if "eos_token" in names else None
    return next((token for token in (named, own, *usual, end) if token is not None), 0)


def _template(folder: Path, said: Mapping[str, Any], names: Mapping[str, str]) -> ChatTemplate | None:
    file = folder / _TEMPLATE
    source = file.read_text(encoding="utf-8") if file.is_file() else said.get("chat_template")
    if isinstance(source, list):  # several, each with a name
        named = {each.get("name"): each.get("template") for each in source if isinstance(each, Mapping)}
        source = named.get("default")
    return build_template(source, names, str(folder)) if isinstance(source, str) and source else None


def _digest(folder: Path, file: Path) -> str:
    """Over names and contents of all that was read; a tokenizer.json of any other name counts as one."""
    sha = hashlib.sha256()
    for name in (*_AROUND, *((_FILE,) if file.is_file() else _OLDER)):
        each = file if name == _FILE else folder / name
        if each.is_file():
            content = each.read_bytes()
            sha.update(f"{name}\0{len(content)}\0".encode())
            sha.update(content)
    return sha.hexdigest()


def _refused(message: str, hint: str) -> ConfigurationError:
    return ConfigurationError([Problem("input.codec.tokenizer", message, hint)])
