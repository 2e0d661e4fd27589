"""The problem of a setting that does not fit: its place, what was found, what was expected, the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from dugs_stream.config import load_settings
from dugs_stream.errors import ConfigurationError


def problems_of(folder: Path, text: str) -> list[str]:
    """The lines a file with this text is refused with, without the file's name."""
    path = folder / "dugs.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, (), {})
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


WORDINGS = [
    # unknown keys
    ("input:\n  topik: a", '2:3 input.topik: unknown key "topik" in input. Did you mean "topic"?'),
    ("threshold: 0.4", '1:1 threshold: unknown key "threshold". Did you mean selection.threshold?'),
    ("inputs: {}", '1:1 inputs: unknown key "inputs". Did you mean "input"?'),
    ("http: {zzz: 1}", '1:8 http.zzz: unknown key "zzz" in http. Known here: allowed_hosts, auth, host, pictures, port.'),
    (
        "input: {codec: {type: image, moed: L}}",
        '1:30 input.codec.moed: unknown key "moed" in input.codec. Did you mean "mode"?',
    ),
    (
        "log: {kafka: {acks: 1}}",
        ('1:15 log.kafka.acks: "acks" cannot be set: every message must be confirmed by all in-sync replicas, or '
        "records would be lost or duplicated. Remove the key."),
    ),
    # wrong types
    ("input: {batch: {records: '256'}}", '1:17 input.batch.records: found "256", expected a whole number.'),
    ("input: {batch: {records: 2.0}}", "1:17 input.batch.records: found 2.0, expected a whole number."),
    ("input: {batch: {records: true}}", "1:17 input.batch.records: found true, expected a whole number."),
    ("input: {batch: {records: null}}", "1:17 input.batch.records: found null, expected a whole number."),
    ("input: {batch: 3}", "1:9 input.batch: found 3, expected a block of keys (key: value)."),
    ("input: 3", "1:1 input: found 3, expected a block of keys (key: value)."),
    ("input: {topic: 7}", "1:9 input.topic: found 7, expected text."),
    ("selection: {threshold: yes}", "1:13 selection.threshold: found true, expected a number."),
    ("selection: {threshold: .nan}", "1:13 selection.threshold: found NaN, expected a finite number."),
    ("model: {input_shape: 28}", "1:9 model.input_shape: found 28, expected a list."),
    ("model: {input_shape: []}", "1:9 model.input_shape: found [], expected a list of at least 1."),
    ("model: {input_shape: [3, 0, 1]}", "1:26 model.input_shape.1: found 0, expected at least 1."),
    (
        "model: {kwargs: {a: 2020-01-01}}",
        '1:18 model.kwargs.a: found "2020-01-01", expected text, numbers, true, false, null, lists or mappings.',
    ),
    ("model: {kwargs: [1]}", "1:9 model.kwargs: found [1], expected a mapping of names to values."),
    ("value: {target: 7}", "1:9 value.target: found 7, expected files, folders or globs (one or a list of them), or topic:NAME."),
    ("value: {target: []}", "1:9 value.target: found [], expected files, folders or globs (one or a list of them), or topic:NAME."),
    (
        'value: {target: ["topic:a", b]}',
        ('1:9 value.target: found ["topic:a", "b"], expected one topic alone, or files alone, but found '
        "'topic:a' among 2."),
    ),
    (
        "value: {target: 'topic:'}",
        '1:9 value.target: found "topic:", expected a topic name: 1 to 249 letters, digits, dots, underscores or hyphens.',
    ),
    (
        "value: {target: 'topic:dugs.unique'}",
        ('1:9 value.target: found "topic:dugs.unique", which is output.topic: it is written by the daemon, and a target is made '
        "of samples. Name another topic with records like those of the input, or files."),
    ),
    (
        "value: {half_life: 100}",
        "1:9 value.half_life: found 100 with no value.target. Name a topic (value.target: topic:NAME), or leave this out.",
    ),
    (
        "value: {target: clean/, half_life: 100}",
        ("1:25 value.half_life: found 100 with a value.target of files, which do not move. Name a topic "
         "(value.target: topic:NAME), or leave this out."),
    ),
    ("value: {target: 'topic:a', half_life: 0}", "1:28 value.half_life: found 0, expected at least 1."),
    # values out of bounds
    ("selection: {threshold: -1}", "1:13 selection.threshold: found -1, expected more than -1."),
    ("selection: {threshold: 1.5}", "1:13 selection.threshold: found 1.5, expected at most 1."),
    ("selection: {min_gradient_norm: -1}", "1:13 selection.min_gradient_norm: found -1, expected at least 0."),
    ("gradient: {tile: 0}", "1:12 gradient.tile: found 0, expected auto, or a whole number from 1 on."),
    ("gradient: {dimension: 1}", "1:12 gradient.dimension: found 1, expected at least 2."),
    ("gradient: {temperature: 0}", "1:12 gradient.temperature: found 0, expected at least 0.001."),
    ("gradient: {seed: -1}", "1:12 gradient.seed: found -1, expected at least 0."),
    ("http: {port: 65536}", "1:8 http.port: found 65536, expected at most 65535."),
    # words
    ("log: {engine: kafak}", "1:7 log.engine: found \"kafak\", expected 'embedded' or 'kafka'. Did you mean \"kafka\"?"),
    ("log: {engine: rabbit}", "1:7 log.engine: found \"rabbit\", expected 'embedded' or 'kafka'."),
    ("gradient: {device: gpu}", '1:12 gradient.device: found "gpu", expected auto, cpu, cuda or cuda:N.'),
    (
        "gradient: {loss: causal}",
        ('1:12 gradient.loss: found "causal", expected label, pseudo, energy, entropy, soft_label, multi_label, regression, '
        "causal_lm, causal_lm_sum, masked_lm, token_classification, segmentation or package.module:function."),
    ),
    ("gradient: {layers: 2}", "1:12 gradient.layers: found 2, expected {last: Z} or {names: [glob, …]}."),
    (
        "gradient: {layers: {last: 2, names: [a]}}",
        "1:12 gradient.layers: found a block with last, names, expected either last or names, not both.",
    ),
    ("gradient: {layers: {last: 0}}", "1:21 gradient.layers.last: found 0, expected at least 1."),
    # decoding
    ("input: {decode: {threads: 0}}", "1:18 input.decode.threads: found 0, expected auto, or a whole number of at least 1."),
    ("input: {decode: {threads: all}}", '1:18 input.decode.threads: found "all", expected auto, or a whole number of at least 1.'),
    ("input: {decode: {processes: -1}}", "1:18 input.decode.processes: found -1, expected at least 0."),
    ("input: {decode: {timeout_seconds: 0}}", "1:18 input.decode.timeout_seconds: found 0, expected more than 0."),
    (
        "input: {codec: npy, decode: {processes: 2}}",
        ("1:30 input.decode.processes: found 2 processes with the codec npy, which decodes in threads. Leave it at 0; "
        "input.decode.threads says how many decode."),
    ),
    # codecs
    (
        "input: {codec: txt}",
        ('1:9 input.codec: found "txt", expected image, npy, json, text or package.module:function, or a mapping '
        "{type: one of these, …}."),
    ),
    (
        "input: {codec: text}",
        "1:9 input.codec.tokenizer: the key tokenizer is missing. Write input.codec.tokenizer: …",
    ),
    (
        "input: {codec: {mode: L}}",
        ("1:9 input.codec: found a block with mode, expected image, npy, json, text or package.module:function, or a "
        "mapping {type: one of these, …}."),
    ),
    ("input: {codec: [image]}", '1:9 input.codec: found ["image"], expected image, npy, json, text or package'),
    (
        "input: {codec: {type: image, size: [28]}}",
        "1:30 input.codec.size.1: found [28], expected a longer list.",
    ),
    (
        "input: {codec: {type: image, mean: [0.5]}}",
        "1:9 input.codec: mean has 1 number(s), expected 3: one a channel of mode RGB.",
    ),
    (
        "input: {codec: {type: image, mode: L, std: [0]}}",
        "1:45 input.codec.std.0: found 0, expected more than 0.",
    ),
    ("input: {codec: {type: npy, dtype: int8}}", "1:28 input.codec.dtype: found \"int8\", expected 'float32' or 'int64'."),
    # labels, classes, topics, sizes, paths, import strings
    ("input: {label: hdr:x}", '1:9 input.label: found "hdr:x", expected header:NAME, key, json:FIELD or none.'),
    ("input: {label: 'header:'}", '1:9 input.label: found "header:", expected header:NAME, key, json:FIELD or none.'),
    (
        "input: {classes: [a, no]}",
        '1:9 input.classes: found ["a", false], expected names; YAML reads one of them as False: put quotes around it.',
    ),
    ("input: {classes: [a, a]}", "1:9 input.classes: found [\"a\", \"a\"], expected different names, but 'a' is there twice."),
    ("input: {classes: []}", "1:9 input.classes: found [], expected a list of class names, or the path of a file with"),
    (
        "output: {topic: a b}",
        '1:10 output.topic: found "a b", expected a topic name: 1 to 249 letters, digits, dots, underscores or hyphens.',
    ),
    ("output: {topic: ..}", '1:10 output.topic: found "..", expected a topic name'),
    (
        "output: {max_message_bytes: 12XB}",
        ('1:10 output.max_message_bytes: found "12XB", expected a number of bytes of at least 1, such as 1048576, '
        "1MiB or 64MB."),
    ),
    ("output: {max_message_bytes: 0}", "1:10 output.max_message_bytes: found 0, expected a number of bytes"),
    ("output: {max_message_bytes: 0.3B}", '1:10 output.max_message_bytes: found "0.3B", expected a number of bytes'),
    ("model: {weights: a.bin}", '1:9 model.weights: found "a.bin", expected a file ending in .safetensors, .pt or .pth.'),
    (
        "model: {factory: torchvision.models}",
        ('1:9 model.factory: found "torchvision.models", expected package.module:function, with one colon between '
        "module and function."),
    ),
    ("input: {class_folder: 0}", "1:9 input.class_folder: found 0, expected -1 (the file's own folder), 1 (the first"),
    ("input: {envelope: avro}", '1:9 input.envelope: found "avro", expected schema_registry, debezium, [schema_registry'),
    ("input: {envelope: [debezium, schema_registry]}", "1:9 input.envelope: "),
    ("input: {label_type: float}", "1:9 input.label_type: "),
    # settings that do not go together
    (
        "input: {label_type: float32}",
        "1:9 input.label_type: found float32, but gradient.loss label takes classes. Name a loss of your own",
    ),
    (
        ("model: {factory: 'dugs_stream.models.huggingface:build', kwargs: {folder: f, task: causal_lm}}\n"
        "gradient: {loss: masked_lm}\ninput: {codec: {type: text, tokenizer: f}, label: none}"),
        ("2:12 gradient.loss: found masked_lm, which is not a loss of the task causal_lm "
        "(model.kwargs.task). Set it to causal_lm or causal_lm_sum, or to a loss of your own (package.module:function)."),
    ),
    (
        "input: {label_type: float32}\ngradient: {loss: token_classification}",
        ("1:9 input.label_type: found float32, but gradient.loss token_classification takes a class number for each "
        "position of a sample (int64). Set input.label_type: int64."),
    ),
    (
        "gradient: {loss: regression}",
        ("1:12 gradient.loss with input.label_type: found class, but gradient.loss regression takes numbers, such as a share of each class "
        "(float32 or int64). Set input.label_type: float32."),
    ),
    (
        "input: {label_type: int64, label: none}\ngradient: {loss: 'm:f'}",
        "1:9 input.label_type: found int64, but input.label says that there are no labels. Say where they are",
    ),
    (
        "input: {envelope: debezium}",
        "1:9 input.envelope: found debezium with the codec image, but payload.after is JSON. Use the codec json",
    ),
    (
        "input: {label: none}",
        ('1:9 input.label: found "none", but gradient.loss "label" needs the label of every record. Say where it '
        "is (header:NAME, key, json:FIELD), or set gradient.loss: energy."),
    ),
    (
        "gradient: {temperature: 2}",
        ("1:12 gradient.temperature: found 2, but gradient.loss label takes no temperature. Leave it at 1, or set "
        "gradient.loss: energy."),
    ),
    (
        "input: {label: 'json:y'}",
        '1:9 input.label: found "json:y" with the codec image, whose values are not JSON.',
    ),
    (
        "input: {topic: dugs.unique}",
        '1:9 input.topic with output.topic: found "dugs.unique", the same topic as input.topic. Give each topic its own name.',
    ),
    (
        "output: {decisions_topic: dugs_unique}",
        ('1:10 output.decisions_topic: found "dugs_unique", too close to "dugs.unique" for Kafka ("." and "_" count as the same), '
        "which is output.topic."),
    ),
    (
        "output: {max_message_bytes: 1KiB}",
        "1:10 output.max_message_bytes: found 1024, expected at least 32768 (32KiB): an event must always fit.",
    ),
    (
        "gradient: {dimension: 262144}",
        ("1:12 gradient.dimension: found 262144: a unique's vector takes 4·262144 = 1048576 bytes of the changelog and its "
        "event up to 17408, together 1065984, and output.max_message_bytes is 1048576. Lower gradient.dimension to at "
        "most 257792, or raise output.max_message_bytes to at least 1065984."),
    ),
    (
        "model: {input_shape: [1, 28, 28]}",
        "1:9 model.input_shape: found [1, 28, 28], but the codec image of mode RGB gives [3, height, width].",
    ),
    (
        "model: {input_shape: [3, 28, 28]}\ninput: {codec: {type: image, size: [32, 28]}}",
        "1:9 model.input_shape: found [3, 28, 28], but the codec image of mode RGB gives [3, 32, 28].",
    ),
    (
        "model: {weights_key: ema}",
        '1:9 model.weights_key: found "ema", but model.weights names no file. Name the file, or leave this out.',
    ),
    ("model: {weights_prefix: net.}", '1:9 model.weights_prefix: found "net.", but model.weights names no file.'),
    ("model: {input_shape: [3]}", "1:9 model.input_shape: found [3], but the codec image of mode RGB"),
]  # fmt: skip


def test_wrong_setting_is_refused_in_these_words(tmp_path: Path) -> None:
    """Place, finding, expectation and way out in one line."""
    for text, expected in WORDINGS:
        (line,) = problems_of(tmp_path, text)

        assert line.startswith(expected), text


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    """One wrong key hides no other, not even a conflict between two that are right."""
    text = (
        "input: {topik: a, batch: {records: x}}\n"
        "output: {topic: same, changelog_topic: same}\n"
        "gradient: {dimension: 99999999, loss: nope}\n"
        "http: {port: -1}\nhttp: {port: 70000}\n"
    )

    lines = problems_of(tmp_path, text)

    keys = [line.split()[1].rstrip(":") for line in lines]
    assert keys == [
        "http", "input.batch.records", "input.topik", "gradient.loss", "http.port", "output.changelog_topic",
        "gradient.dimension",
    ]  # fmt: skip


def test_unknown_key_hides_no_problem_of_its_block(tmp_path: Path) -> None:
    """No check depends on an unknown key, so the rest of its block is checked."""
    lines = problems_of(tmp_path, "input: {label: 'json:y', codec: {type: image, moed: L, mean: [0.5]}}")

    assert [line.split()[1] for line in lines] == ["input.codec.moed:", "input.codec:"]
    lines = problems_of(tmp_path, "input: {label: 'json:y', codec: {type: image, moed: L}}")
    assert [line.split()[1] for line in lines] == ["input.codec.moed:", "input.label:"]


def test_largest_dimension_that_fits_is_the_one_the_message_names(tmp_path: Path) -> None:
    """One more is refused."""
    (line,) = problems_of(tmp_path, "gradient: {dimension: 257793}")

    assert "Lower gradient.dimension to at most 257792" in line
    assert load_settings(None, ["gradient.dimension=257792"], {}).gradient.dimension == 257792


def test_conflict_with_a_wrong_value_is_not_judged(tmp_path: Path) -> None:
    """A default that stands in for a wrong value proves nothing."""
    lines = problems_of(tmp_path, "input: {label: none}\ngradient: {loss: [label]}")

    assert lines == ['2:12 gradient.loss: found ["label"], expected text.']


def test_long_value_is_quoted_short(tmp_path: Path) -> None:
    """A message stays a line."""
    (line,) = problems_of(tmp_path, f"http: {{port: {'x' * 500}}}")

    assert line == f'1:8 http.port: found "{"x" * 58}…, expected a whole number.'
