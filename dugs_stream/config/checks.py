"""Conflicts and warnings between settings that are each valid by themselves. Pure."""

from __future__ import annotations

import ipaddress
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dugs_stream.config.fields import KeyPath
from dugs_stream.config.settings import TOPIC_PREFIX, Settings
from dugs_stream.config.value_warnings import value_warnings
from dugs_stream.core.losses.forms import WITH_TEMPERATURE, LabelForm, labels_of
from dugs_stream.inputs.settings import (
    CustomCodecSettings,
    ImageCodecSettings,
    LabelKind,
    LabelType,
    NpyCodecSettings,
    TextCodecSettings,
    parse_label_place,
)
from dugs_stream.models.settings import ModelSettings
from dugs_stream.outputs.event import EVENT_BYTES_LIMIT
from dugs_stream.outputs.size import SMALLEST_LIMIT_BYTES

ROW_BYTES = EVENT_BYTES_LIMIT + 2**10
"""Bytes of a changelog row beside its vector: the longest event, a key, a header's name, framing."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that contradict each other; `paths` has the one to report first, then those it depends on."""

    paths: tuple[KeyPath, ...]
    message: str
    hint: str


def conflicts(settings: Settings) -> list[Conflict]:
    """Every conflict, in the order of the blocks."""
    checks: tuple[Callable[[Settings], Iterator[Conflict]], ...] = (
        _json_label_needs_a_json_codec,
        _debezium_is_json,
        _processes_are_for_a_codec_of_ones_own,
        _label_type_fits_the_loss,
        _loss_needs_a_label,
        _temperature_is_of_the_loss,
        _learned_tokens_are_for_a_loss_over_tokens,
        _loss_is_of_the_task,
        _topics_differ,
        _target_holds_samples,
        _only_topics_move,
        _messages_hold_an_event,
        _vector_fits_a_message,
        _input_shape_is_the_codecs,
        _weights_are_there_to_look_into,
    )
    return [conflict for check in checks for conflict in check(settings)]


def _json_label_needs_a_json_codec(settings: Settings) -> Iterator[Conflict]:
    codec = settings.input.codec
    is_json = parse_label_place(settings.input.label).kind is LabelKind.JSON
    if is_json and not _reads_json(settings):
        named = ", or name the text's own field (input.codec.field)" if codec.type == "text" else ""
        yield Conflict(
            (("input", "label"), ("input", "codec")),
            f'found "{settings.input.label}" with the codec {codec.type}, whose values are not JSON.',
            f"Send the label as a header (header:NAME) or as the key{named}.",
        )


def _reads_json(settings: Settings) -> bool:
    """Whether values may be JSON documents, as far as the codec is concerned."""
    codec = settings.input.codec
    if isinstance(codec, TextCodecSettings):
        return codec.field is not None
    return not isinstance(codec, ImageCodecSettings | NpyCodecSettings)


def _processes_are_for_a_codec_of_ones_own(settings: Settings) -> Iterator[Conflict]:
    codec, processes = settings.input.codec, settings.input.decode.processes
    if processes and not isinstance(codec, CustomCodecSettings):
        yield Conflict(
            (("input", "decode", "processes"), ("input", "codec")),
            f"found {processes} processes with the codec {codec.type}, which decodes in threads.",
            "Leave it at 0; input.decode.threads says how many decode.",
        )


def _debezium_is_json(settings: Settings) -> Iterator[Conflict]:
    if "debezium" in settings.input.envelope and not _reads_json(settings):
        yield Conflict(
            (("input", "envelope"), ("input", "codec")),
            f"found debezium with the codec {settings.input.codec.type}, but payload.after is JSON.",
            "Use the codec json, text with a field, or a function of yours, which is given payload.after as JSON.",
        )


_LABEL_TYPES: dict[LabelForm, tuple[LabelType, ...]] = {
    LabelForm.CLASS: ("class",),
    LabelForm.PREDICTED: ("class",),
    LabelForm.NUMBERS: ("float32", "int64"),
    LabelForm.POSITIONS: ("int64",),
    LabelForm.OWN: ("class", "float32", "int64"),
}


def _label_type_fits_the_loss(settings: Settings) -> Iterator[Conflict]:
    numbers, loss = settings.input.label_type, settings.gradient.loss
    labels = labels_of(loss)
    fit = _LABEL_TYPES[labels.form]
    is_unused = (
        numbers == "class" and not labels.are_required
    )  # by a loss that finds its labels in the sample
    if numbers not in fit and not is_unused:
        takes = "classes" if fit == ("class",) else f"{labels.form.value} ({' or '.join(fit)})"
        way_out = "Name a loss of your own (package.module:function), or set" if fit == ("class",) else "Set"
        yield Conflict(
            (("input", "label_type"), ("gradient", "loss")),
            f"found {numbers}, but gradient.loss {loss} takes {takes}.",
            f"{way_out} input.label_type: {fit[0]}.",
        )
    if numbers != "class" and settings.input.label == LabelKind.NONE and not _gives_labels(settings):
        yield Conflict(
            (("input", "label_type"), ("input", "label")),
            f"found {numbers}, but input.label says that there are no labels.",
            "Say where they are (header:NAME, key, json:FIELD).",
        )


def _gives_labels(settings: Settings) -> bool:
    """Whether the codec may know the label itself."""
    return isinstance(settings.input.codec, CustomCodecSettings)


def _loss_needs_a_label(settings: Settings) -> Iterator[Conflict]:
    has_none = settings.input.label == LabelKind.NONE and not _gives_labels(settings)
    if labels_of(settings.gradient.loss).form is LabelForm.CLASS and has_none:
        yield Conflict(
            (("input", "label"), ("gradient", "loss")),
            'found "none", but gradient.loss "label" needs the label of every record.',
            "Say where it is (header:NAME, key, json:FIELD), or set gradient.loss: energy.",
        )


def _temperature_is_of_the_loss(settings: Settings) -> Iterator[Conflict]:
    loss, temperature = settings.gradient.loss, settings.gradient.temperature
    if temperature != 1 and loss not in WITH_TEMPERATURE:
        yield Conflict(
            (("gradient", "temperature"), ("gradient", "loss")),
            f"found {temperature:g}, but gradient.loss {loss} takes no temperature.",
            f"Leave it at 1, or set gradient.loss: {', '.join(sorted(WITH_TEMPERATURE))}.",
        )


_LOSSES_OF = {"masked": ("masked_lm",)}


_OF_CLASSIFIERS = ("label", "pseudo", "energy", "entropy", "soft_label", "multi_label", "regression")
_LOSSES_OF_TASK = {
    "causal_lm": ("causal_lm", "causal_lm_sum"),
    "masked_lm": ("masked_lm",),
    "token_classification": ("token_classification",),
    "sequence_classification": _OF_CLASSIFIERS,
    "image_classification": _OF_CLASSIFIERS,
}


def _loss_is_of_the_task(settings: Settings) -> Iterator[Conflict]:
    """A causal model asked for the token that it sees would pass every trial, and its gradients would say little."""
    task, loss = str(settings.model.kwargs.get("task")), settings.gradient.loss
    losses = _LOSSES_OF_TASK.get(task)
    is_ours = settings.model.factory.startswith("dugs_stream.models.huggingface:")
    if is_ours and losses is not None and loss not in losses and ":" not in loss:
        yield Conflict(
            (("gradient", "loss"), ("model", "kwargs")),
            f"found {loss}, which is not a loss of the task {task} (model.kwargs.task).",
            f"Set it to {' or '.join(losses)}, or to a loss of your own (package.module:function).",
        )


def _learned_tokens_are_for_a_loss_over_tokens(settings: Settings) -> Iterator[Conflict]:
    codec, loss = settings.input.codec, settings.gradient.loss
    if not isinstance(codec, TextCodecSettings) or codec.learn == "all" or ":" in loss:
        return
    losses = _LOSSES_OF.get(codec.learn, ("causal_lm", "causal_lm_sum"))
    if loss not in losses:
        yield Conflict(
            (("input", "codec", "learn"), ("gradient", "loss")),
            f"found {codec.learn}, but gradient.loss is {loss}.",
            f"Set gradient.loss: {losses[0]}, or learn: all.",
        )


def _topics_differ(settings: Settings) -> Iterator[Conflict]:
    output = settings.output
    topics: tuple[tuple[KeyPath, str | None], ...] = (
        (("input", "topic"), settings.input.topic),
        (("output", "topic"), output.topic),
        (("output", "decisions_topic"), output.decisions_topic),
        (("output", "dead_letter_topic"), output.dead_letter_topic),
        (("output", "changelog_topic"), output.changelog_topic),
    )
    for (first, name), (second, other) in itertools.combinations(topics, 2):
        # Kafka refuses a topic that differs from another only in "." and "_": their metrics would collide.
        if name is not None and other is not None and name.replace("_", ".") == other.replace("_", "."):
            what = (
                "the same topic as"
                if name == other
                else f'too close to "{name}" for Kafka ("." and "_" count as the same), which is'
            )
            yield Conflict(
                (second, first),
                f'found "{other}", {what} {".".join(map(str, first))}.',
                "Give each topic its own name.",
            )


def _target_holds_samples(settings: Settings) -> Iterator[Conflict]:
    output, topic = settings.output, settings.value.topic
    written = {
        "topic": output.topic,
        "decisions_topic": output.decisions_topic,
        "dead_letter_topic": output.dead_letter_topic,
        "changelog_topic": output.changelog_topic,
    }
    for key, name in written.items():
        if topic is not None and topic == name:
            yield Conflict(
                (("value", "target"), ("output", key)),
                f'found "{TOPIC_PREFIX}{topic}", which is output.{key}: it is written by the daemon, and a target is made of '
                "samples.",
                "Name another topic with records like those of the input, or files.",
            )


def _only_topics_move(settings: Settings) -> Iterator[Conflict]:
    value = settings.value
    if value.half_life is not None and value.topic is None:
        of_files = f"found {value.half_life} with a value.target of files, which do not move."
        yield Conflict(
            (("value", "half_life"), ("value", "target")),
            f"found {value.half_life} with no value.target." if value.target is None else of_files,
            f"Name a topic (value.target: {TOPIC_PREFIX}NAME), or leave this out.",
        )


def _messages_hold_an_event(settings: Settings) -> Iterator[Conflict]:
    limit = settings.output.max_message_bytes
    if limit < SMALLEST_LIMIT_BYTES:
        yield Conflict(
            (("output", "max_message_bytes"),),
            f"found {limit}, expected at least {SMALLEST_LIMIT_BYTES} (32KiB): an event must always fit.",
            "Raise it; Kafka's own default is about 1MiB.",
        )


def _vector_fits_a_message(settings: Settings) -> Iterator[Conflict]:
    k, limit = settings.gradient.dimension, settings.output.max_message_bytes
    row = 4 * k + ROW_BYTES
    if row > limit >= SMALLEST_LIMIT_BYTES:
        yield Conflict(
            (("gradient", "dimension"), ("output", "max_message_bytes")),
            f"found {k}: a unique's vector takes 4·{k} = {4 * k} bytes of the changelog and its event up to "
            f"{ROW_BYTES}, together {row}, and output.max_message_bytes is {limit}.",
            f"Lower gradient.dimension to at most {(limit - ROW_BYTES) // 4}, or raise output.max_message_bytes to "
            f"at least {row}.",
        )


def _input_shape_is_the_codecs(settings: Settings) -> Iterator[Conflict]:
    shape, codec = settings.model.input_shape, settings.input.codec
    if shape is None or not isinstance(codec, ImageCodecSettings):
        return
    sides = codec.sides or shape[-2:]
    if shape != (codec.channels, *sides) or len(shape) != 3:  # noqa: PLR2004 (channels, height, width)
        size = "height, width" if codec.sides is None else f"{codec.sides[0]}, {codec.sides[1]}"
        yield Conflict(
            (("model", "input_shape"), ("input", "codec")),
            f"found {list(shape)}, but the codec image of mode {codec.mode} gives [{codec.channels}, {size}].",
            "Change model.input_shape, or the codec's mode, size and crop.",
        )


def _weights_are_there_to_look_into(settings: Settings) -> Iterator[Conflict]:
    model = settings.model
    for name, text in (("weights_key", model.weights_key), ("weights_prefix", model.weights_prefix)):
        if text is not None and model.weights is None:
            yield Conflict(
                (("model", name), ("model", "weights")),
                f'found "{text}", but model.weights names no file.',
                "Name the file, or leave this out.",
            )


# A stream of ordinary length; the maximum of N chance cosines is about √(2·ln N / k).
_CHANCE_RECORDS = 10**6


def warnings(settings: Settings) -> list[str]:
    """Settings that are allowed and may surprise, a sentence or two each."""
    return [
        *_untrained(settings),
        *_threshold_in_the_noise(settings),
        *value_warnings(settings),
        *_originals_too_large(settings),
        *_open_to_the_network(settings),
        *_any_host_name(settings),
        *_password_in_the_clear(settings),
        *_hostname_not_checked(settings),
    ]


def _untrained(settings: Settings) -> Iterator[str]:
    # A factory of the user's own may load its weights; what it left untrained is found when it has run.
    if settings.model.weights is None and settings.model.factory == ModelSettings().factory:
        yield (
            "model.weights is null: the model is untrained, built under gradient.seed, and its gradients tell "
            "samples apart by chance features only. Name the file of trained weights."
        )


def _threshold_in_the_noise(settings: Settings) -> Iterator[str]:
    k, threshold = settings.gradient.dimension, settings.selection.threshold
    chance = math.sqrt(2 * math.log(_CHANCE_RECORDS) / k)
    if chance < threshold:
        return
    enough = 0 if threshold <= 0 else math.ceil(2 * math.log(_CHANCE_RECORDS) / threshold**2)
    yield (
        f"selection.threshold {threshold} lies within the noise of gradient.dimension {k}: among "
        f"{_CHANCE_RECORDS} unrelated gradients the largest cosine is about {chance:.2f} by chance, so new samples "
        f"will pass for duplicates. Raise {f'the dimension to {enough} or more, or ' if enough else ''}the threshold."
    )


def _originals_too_large(settings: Settings) -> Iterator[str]:
    largest, limit = settings.input.max_record_bytes, settings.output.max_message_bytes
    if settings.output.payload == "original" and largest > limit:
        yield (
            f"output.payload is original: uniques larger than output.max_message_bytes ({limit}) are published "
            f"by reference, since input.max_record_bytes ({largest}) accepts them."
        )


def _open_to_the_network(settings: Settings) -> Iterator[str]:
    if settings.http.auth.type == "none" and not _is_loopback(settings.http.host):
        yield (
            f"http.host {settings.http.host} can be reached from other machines and http.auth.type is none: "
            "anyone who reaches it sees records' pictures, keys and labels. Set http.auth, or listen on 127.0.0.1."
        )


def _any_host_name(settings: Settings) -> Iterator[str]:
    if "*" in settings.http.allowed_hosts and settings.http.auth.type == "none":
        yield (
            'http.allowed_hosts has "*" and http.auth.type is none: a web page in the browser of anyone who reaches this '
            "server can read records' keys and labels (DNS rebinding). Name the hosts, or set http.auth."
        )


def _password_in_the_clear(settings: Settings) -> Iterator[str]:
    kafka = settings.log.kafka
    if kafka.security_protocol != "SASL_PLAINTEXT" or settings.log.engine != "kafka":
        return
    far = [each for each in kafka.bootstrap_servers if not _is_loopback(each.rpartition(":")[0].strip("[]"))]
    if far:
        sent = "the password itself" if kafka.sasl_mechanism == "PLAIN" else "every record"
        yield (
            f"log.kafka.security_protocol is SASL_PLAINTEXT: {sent} goes unencrypted over the network to {far[0]}. "
            "Use SASL_SSL."
        )


def _hostname_not_checked(settings: Settings) -> Iterator[str]:
    kafka = settings.log.kafka
    if kafka.security_protocol in {"SSL", "SASL_SSL"} and not kafka.ssl_check_hostname:
        yield (
            "log.kafka.ssl_check_hostname is false: anyone with a certificate of a trusted authority can pose as the "
            "broker. Have certificates issued for the names that the brokers advertise."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which is not resolved here
        return host == "localhost"
