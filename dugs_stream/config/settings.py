"""The configuration as frozen classes: one for each block of the YAML, each key with its default and a description.

A component's own block is beside the component (`log.kafka.settings`, `inputs.settings`, `models.settings`).
Data only: nothing is opened, read or imported here, and relative paths stay as written (relative to the working
directory). What one block requires of another is in `config.checks`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from dugs_stream.core.losses.forms import BUILT_IN
from dugs_stream.inputs.settings import (
    CodecSettings,
    DecodeSettings,
    Envelopes,
    ImageCodecSettings,
    LabelType,
    parse_label_place,
)
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.models.settings import ModelSettings
from dugs_stream.ops.http.settings import AuthSettings, HostName
from dugs_stream.setting_types import (
    Block,
    ByteSize,
    ExpectedError,
    Number,
    TopicName,
    Whole,
    check_import_string,
    check_topic_name,
)

TOPIC_PREFIX = "topic:"
"""Of a target that is a topic."""


class LogSettings(Block):
    """The log that samples come from and uniques go to."""

    engine: Literal["embedded", "kafka"] = "embedded"
    """embedded: one SQLite file, no broker; kafka: a cluster."""
    embedded: EmbeddedSettings = EmbeddedSettings()
    """Used if engine is embedded."""
    kafka: KafkaSettings = KafkaSettings()
    """Used if engine is kafka; keys under kafka-python's names."""


class BatchSettings(Block):
    """Limits of a micro-batch: the first one reached ends it. How records are batched never changes a verdict."""

    records: Annotated[Whole, Field(ge=1)] = 256
    """The most records in a micro-batch."""
    wait_ms: Annotated[Whole, Field(ge=0)] = 200
    """The longest wait for more records, in milliseconds. A record that comes when none were waiting does not wait."""
    bytes: ByteSize = 64 * 2**20
    """The most bytes of values in a micro-batch; a larger record is a micro-batch of its own."""


def _label(text: str) -> str:
    parse_label_place(text)
    return text


def _classes(value: Any) -> Any:
    """A list of different names, or a file's path. Whole numbers are names too: YAML reads 7 as a number."""
    if value is None or (isinstance(value, str) and value):
        return value
    expected = "a list of class names, or the path of a file with one name a line"
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise ExpectedError(expected)
    return _different_names([_class_name(name) for name in value])


def _class_name(name: object) -> str:
    if isinstance(name, bool) or name is None:
        raise ExpectedError(f"names; YAML reads one of them as {name!r}: put quotes around it")
    if not isinstance(name, str | int) or name == "":
        raise ExpectedError(f"names, but one of them is {name!r}")
    return str(name)


def _different_names(names: list[str]) -> tuple[str, ...]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ExpectedError(f"different names, but {twice!r} is there twice")
    return tuple(names)


def _class_folder(number: int) -> int:
    if number == 0:
        raise ExpectedError(
            "-1 (the file's own folder), 1 (the first below the one you name), or another of its folders"
        )
    return number


class InputSettings(Block):
    """Where samples come from, and how a record becomes a tensor and a label."""

    topic: TopicName = "dugs.samples"
    """The topic that samples are read from."""
    group: Annotated[str, Field(min_length=1, max_length=249)] = "dugs"
    """The consumer group: its offsets say what has been decided, and it judges each record once."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where to begin if the group has not committed anything yet."""
    codec: CodecSettings = ImageCodecSettings()
    """What a value holds: image, npy, json or package.module:function, or a mapping {type: …} with the codec's options."""
    label: Annotated[str, AfterValidator(_label)] = "header:label"
    """Where the label is: header:NAME, key, json:FIELD (or a path, json:meta.label) or none. A name of `classes`, or else a class number."""
    label_type: LabelType = "class"
    """class, or float32 or int64 for a loss that takes numbers: one or a list of them, and every record has one."""
    classes: Annotated[tuple[str, ...] | str | None, BeforeValidator(_classes)] = None
    """Names of the classes in the order of the model's outputs, or a file with one name a line (read at start)."""
    envelope: Envelopes = ()
    """What is taken off a value first: schema_registry (0, id, payload), debezium (payload.after; deletes are skipped), or both."""
    class_folder: Annotated[Whole, AfterValidator(_class_folder)] = -1
    """For files of `dugs send` and `dugs scan`: the folder that is the class. -1: the file's own, 1: the first below the one you name."""
    batch: BatchSettings = BatchSettings()
    """Limits of a micro-batch."""
    prefetch: Annotated[Whole, Field(ge=0, le=64)] = 2
    """Micro-batches polled, decoded and projected beyond the one that is decided, each within the limits of `batch`; 0: one after the other."""
    decode: DecodeSettings = DecodeSettings()
    """Threads and processes that decode."""
    max_record_bytes: ByteSize = 16 * 2**20
    """A larger value is rejected as too_large."""
    may_reject_all: bool = False
    """Whether to go on if nothing was ever accepted and the first 32 records are all rejected for one reason."""


class OutputSettings(Block):
    """Where verdicts go."""

    topic: TopicName = "dugs.unique"
    """Events of the uniques."""
    decisions_topic: TopicName | None = None
    """Events of every verdict, in the order of the decisions; null: no such topic."""
    dead_letter_topic: TopicName = "dugs.dead-letter"
    """Rejected records with the reason."""
    changelog_topic: TopicName = "dugs.changelog"
    """The uniques' vectors and events, from which a restart rebuilds its state."""
    max_message_bytes: ByteSize = 2**20
    """The largest message for the output topics; a longer dead letter is cut and carries its SHA-256."""
    payload: Literal["reference", "original"] = "reference"
    """What a message on `topic` carries: the event, or the record's own bytes and headers with the event in a header."""


def _layers(value: Any) -> Any:
    if isinstance(value, dict | LayersSettings):
        return value
    raise ExpectedError("{last: Z} or {names: [glob, …]}")


class LayersSettings(Block):
    """Which layers' gradients are compared; a layer is a module with parameters of its own."""

    last: Annotated[Whole, Field(ge=1)] | None = None
    """How many layers to take from the end, in the order in which the forward pass runs them."""
    names: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] | None = None
    """Globs over dotted module names; one that matches a container takes everything inside."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> LayersSettings:
        if (self.last is None) == (self.names is None):
            raise ExpectedError("either last or names, not both")
        return self


def _loss(text: str) -> str:
    if text in BUILT_IN:
        return text
    try:
        return check_import_string(text)
    except ExpectedError:
        raise ExpectedError(f"{', '.join(BUILT_IN)} or package.module:function") from None


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text):
        raise ExpectedError("auto, cpu, cuda or cuda:N")
    return text


def _tile(value: Any) -> Any:
    """As it is; one message instead of one for each type."""
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ExpectedError("auto, or a whole number from 1 on")


class GradientSettings(Block):
    """The gradient that is compared: of which loss, in which layers, compressed to how many dimensions."""

    layers: Annotated[LayersSettings, BeforeValidator(_layers)] = LayersSettings(last=2)
    """Which layers: {last: Z} or {names: [glob, …]}."""
    loss: Annotated[str, AfterValidator(_loss)] = "label"
    """label: cross entropy of the given label; pseudo: of the model's own prediction; energy, entropy: of the logits, without a
    label; soft_label, multi_label, regression; causal_lm, causal_lm_sum, masked_lm, token_classification; segmentation; or
    package.module:function."""
    temperature: Annotated[Number, Field(ge=0.001, le=1000)] = 1.0
    """T of the loss energy, −T·log Σ exp(logits / T): the higher, the more alike are the gradients of copies, and of everything else."""
    dimension: Annotated[Whole, Field(ge=2)] = 2048
    """k, the dimensions of a compressed gradient; 4·k bytes a unique."""
    tile: Annotated[Literal["auto"] | Annotated[Whole, Field(ge=1)], BeforeValidator(_tile)] = "auto"
    """How many samples are computed together; fixed, so that a vector never depends on its neighbours in the batch. auto: measured
    when a list begins, and kept with it; a lone sample takes as long as that many."""
    tile_tokens: Annotated[Whole, Field(ge=1)] = 512
    """Of texts so many tokens at most are computed together, padding counted, but at least one text: with 512, 8 of 64."""
    # 2^63 - 1: what torch's generator and the map's counters both take.
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 0
    """Seed of the compression, and of the model's weights if `model.weights` is null."""
    device: Annotated[str, AfterValidator(_device)] = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:N."""

    @property
    def loss_title(self) -> str:
        """The loss, with its temperature if that is not 1."""
        return self.loss if self.temperature == 1 else f"{self.loss} at temperature {self.temperature:g}"


class SelectionSettings(Block):
    """When a sample is unique."""

    threshold: Annotated[Number, Field(gt=-1, le=1)] = 0.3
    """τ: unique when the similarity to every earlier unique is below it."""
    min_gradient_norm: Annotated[Number, Field(ge=0)] = 0.0
    """A projected gradient shorter than this has nothing to teach: verdict no_gradient."""
    explain: Literal["nearest", "bound", "decision"] = "nearest"
    """nearest: every verdict names its nearest unique; bound: uniques carry only an upper bound, faster on long lists;
    decision: a duplicate besides names a unique that is similar enough, not the nearest, the fastest."""


def _target(value: Any) -> Any:
    """One text is a list of one."""
    if value is None:
        return None
    given = [value] if isinstance(value, str) else value
    is_list = isinstance(given, Sequence) and not isinstance(given, str | bytes)
    if not is_list or not given or not all(isinstance(each, str) and each for each in given):
        raise ExpectedError("files, folders or globs (one or a list of them), or topic:NAME")
    topics = [each for each in given if each.startswith(TOPIC_PREFIX)]
    if topics and len(given) > 1:
        raise ExpectedError(f"one topic alone, or files alone, but found {topics[0]!r} among {len(given)}")
    if topics:
        check_topic_name(topics[0].removeprefix(TOPIC_PREFIX))
    return tuple(given)


_TARGET_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
        {"type": "null"},
    ]
}


class ValueSettings(Block):
    """How much a record serves what is wanted: `value` on each event."""

    target: Annotated[tuple[str, ...] | None, BeforeValidator(_target), WithJsonSchema(_TARGET_SCHEMA)] = None
    """Records of what is wanted, which each record's gradient is held against: files, folders or globs, read as `dugs scan` reads
    them; a folder that `dugs index export` wrote; or topic:NAME. null: no values."""
    records: Annotated[Whole, Field(ge=1, le=10**9)] = 1000
    """At most so many of them: of files spread evenly over all, of a topic its first, or with half_life its newest."""
    half_life: Annotated[Whole, Field(ge=1, le=10**9)] | None = None
    """null: the target is fixed. N: it moves with its topic; a record counts half as much as one that came N records later."""
    mean: Literal["balanced", "raw"] = "balanced"
    """balanced: the direction in which all of the target gains alike; raw: that of the target's mean loss, as published for DVGS."""

    @property
    def topic(self) -> str | None:
        """The topic that holds the target; None if it is in files, or there is none."""
        first = self.target[0] if self.target else ""
        return first.removeprefix(TOPIC_PREFIX) if first.startswith(TOPIC_PREFIX) else None


class IndexSettings(Block):
    """Where the nearest unique is searched for."""

    device: Annotated[str, AfterValidator(_device)] = "auto"
    """auto (the GPU that computes the gradients, otherwise the CPU), cpu, cuda or cuda:N. On a GPU rows lie in low precision too, for
    as long as its memory suffices; no verdict depends on it."""


class StateSettings(Block):
    """The copy of the list on this machine; it can always be rebuilt from the changelog."""

    dir: Path = Path("dugs-data/state")
    """The folder; it is made if missing, and belongs to one daemon at a time."""


class HttpSettings(Block):
    """Metrics, health and the gallery."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on; 0.0.0.0 is every interface, and there is no password unless `auth` asks for one."""
    port: Annotated[Whole, Field(ge=0, le=65535)] = 9464
    """The port; 0 takes any free one."""
    allowed_hosts: Annotated[tuple[HostName, ...], Field(max_length=100)] = ()
    """Names under which clients reach it, beside those it listens on; a request with another Host is refused."""
    auth: AuthSettings = AuthSettings()
    """Who may request anything but /livez and /readyz."""
    pictures: ByteSize | None = 256 * 2**20
    """Bytes of disk for the page's thumbnails and counts, in the folder `page` of state.dir; null: none are kept."""


class LoggingSettings(Block):
    """What goes to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe line that is written."""
    format: Literal["console", "json"] = "console"
    """console for people, json for machines."""


class Settings(Block):
    """The whole configuration, block by block; every key has a default."""

    log: LogSettings = LogSettings()
    """The log that samples come from and uniques go to."""
    input: InputSettings = InputSettings()
    """Where samples come from, and how a record becomes a tensor and a label."""
    output: OutputSettings = OutputSettings()
    """Where verdicts go."""
    model: ModelSettings = ModelSettings()
    """The trained model whose gradients are compared."""
    gradient: GradientSettings = GradientSettings()
    """The gradient that is compared."""
    selection: SelectionSettings = SelectionSettings()
    """When a sample is unique."""
    value: ValueSettings = ValueSettings()
    """How much a record serves what is wanted."""
    index: IndexSettings = IndexSettings()
    """Where the nearest unique is searched for."""
    state: StateSettings = StateSettings()
    """The copy of the list on this machine."""
    http: HttpSettings = HttpSettings()
    """Metrics, health and the gallery."""
    logging: LoggingSettings = LoggingSettings()
    """What goes to stderr."""
