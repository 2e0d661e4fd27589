"""The settings as data: warnings, schema, what is logged, and the example files."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from dugs_stream.changelog.wire import row_message
from dugs_stream.config import Settings, config_schema, differing, effective, load_settings, warnings
from dugs_stream.config.checks import ROW_BYTES
from dugs_stream.config.fields import blocks_at, dotted, every_key, is_block, is_secret
from dugs_stream.errors import ConfigurationError
from dugs_stream.outputs.event import EVENT_BYTES_LIMIT
from dugs_stream.outputs.size import message_bytes
from dugs_stream.records import ChangelogRow, SequenceNumber
from dugs_stream.setting_types import Block, parse_byte_size

# Those that show every key; the others show what differs.
EXAMPLES = [Path(__file__).parents[3] / "config" / name for name in ("embedded.yaml", "kafka.yaml")]


def test_settings_cannot_be_changed() -> None:
    """A setting is what was loaded, for as long as the process lives."""
    with pytest.raises(ValidationError):
        Settings().http.port = 1


def test_byte_size_is_what_was_written() -> None:
    """MiB are powers of two, MB powers of ten."""
    sizes = {5: 5, "5": 5, "64MiB": 64 * 2**20, "1MB": 10**6, "1.5 KiB": 1536, "2gib": 2**31, "7b": 7}

    assert [parse_byte_size(written) for written in sizes] == list(sizes.values())


def test_untrained_model_is_warned_of() -> None:
    """`weights: null` is allowed and said."""
    assert [line.split(":")[0] for line in warnings(Settings())] == ["model.weights is null"]
    assert warnings(load_settings(None, ["model.weights=a.pt"], {})) == []
    # A factory of one's own may load them; that shows when it has run.
    assert warnings(load_settings(None, ["model.factory=my_models:build"], {})) == []


def test_threshold_within_the_noise_of_the_dimension_is_warned_of() -> None:
    """At k = 128 unrelated gradients reach 0.46 by chance: τ = 0.3 would call them duplicates."""
    (line,) = warnings(load_settings(None, ["model.weights=a.pt", "gradient.dimension=128"], {}))

    assert "the largest cosine is about 0.46 by chance" in line
    assert "Raise the dimension to 308 or more, or the threshold." in line
    assert "Raise the threshold." in warnings(load_settings(None, ["selection.threshold=0"], {}))[1]


def test_target_of_a_loss_that_predicts_its_labels_is_warned_of() -> None:
    """Its values cannot tell a wrong label, which is what most would use them for."""
    given = ["model.weights=a.pt", "value.target=clean/"]

    (line,) = warnings(load_settings(None, [*given, "gradient.loss=pseudo"], {}))
    assert "cannot tell a wrong label" in line
    assert warnings(load_settings(None, given, {})) == []
    (own,) = warnings(load_settings(None, [*given, "value.target=topic:dugs.samples"], {}))
    assert "the stream's own input.topic: the stream is valued by its own first records" in own
    (moving,) = warnings(
        load_settings(None, [*given, "value.target=topic:dugs.samples", "value.half_life=9"], {})
    )
    assert "its own newest records" in moving
    assert load_settings(None, given, {}).value.target == ("clean/",)
    assert load_settings(None, ["value.target=topic:clean"], {}).value.topic == "clean"


def test_originals_larger_than_the_output_takes_are_warned_of() -> None:
    """The two limits are set apart, so their meeting is said."""
    overrides = ["model.weights=a.pt", "output.payload=original"]

    assert warnings(load_settings(None, [*overrides, "input.max_record_bytes=1MiB"], {})) == []
    (line,) = warnings(load_settings(None, overrides, {}))
    assert "larger than output.max_message_bytes (1048576) are published by reference" in line


def test_port_that_others_reach_without_a_secret_is_warned_of() -> None:
    """It shows records' pictures, keys and labels; on this machine alone, or with a secret, there is no warning."""
    trained = ["model.weights=a.pt"]
    secret = {"DUGS_HTTP__AUTH__TYPE": "bearer", "DUGS_HTTP__AUTH__TOKEN": "x"}

    for host in ("0.0.0.0", "::", "10.0.0.7", "dugs.example"):
        (line,) = warnings(load_settings(None, [*trained, f"http.host={host}"], {}))
        assert line.startswith(
            f"http.host {host} can be reached from other machines and http.auth.type is none"
        )
        assert warnings(load_settings(None, [*trained, f"http.host={host}"], secret)) == []
    for own in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert warnings(load_settings(None, [*trained, f"http.host={own}"], {})) == []


def test_room_for_a_row_holds_the_longest_event() -> None:
    """The check of the dimension reckons with at least what a changelog row takes."""
    row = ChangelogRow(
        SequenceNumber(10**18), {"sequence": 10**18, "x": "y" * (EVENT_BYTES_LIMIT - 40)}, [0.0] * 8
    )  # type: ignore[arg-type]  # a list is enough of a vector here

    assert message_bytes(row_message(row)) <= 4 * 8 + ROW_BYTES


def test_schema_describes_every_key_of_ours() -> None:
    """No key goes without a sentence."""
    silent = [
        dotted(path)
        for path in every_key(Settings)
        for block in blocks_at(Settings, path[:-1])
        if issubclass(block, Block)
        and path[-1] in block.model_fields
        and not block.model_fields[path[-1]].description
    ]
    assert silent == []


ACCEPTED = [
    "input: {codec: {type: json, field: x}}", "input: {codec: 'a.b:c'}", "input: {codec: {type: 'a:b'}}",
    "input: {codec: {type: image, size: [2, 2], mode: L, mean: [0.5], std: [1]}}", "input: {classes: names.txt}",
    "gradient: {layers: {names: ['a.*']}}", "model: {kwargs: {a: [1, {b: null}]}}", "output: {max_message_bytes: 5MB}",
]  # fmt: skip
REFUSED = [
    "inputs: {}",
    "input: {codec: text}",
    "http: {port: x}",
    "log: {engine: nats}",
    "input: {codec: {type: npy, mode: L}}",
]


def test_schema_and_loader_agree(tmp_path: Path) -> None:
    """Both forms of a key are right in both; a misspelt key, word or type is wrong in the editor already."""
    path, schema = tmp_path / "dugs.yaml", jsonschema.Draft202012Validator(config_schema())
    for text in ACCEPTED:
        path.write_text(text)

        load_settings(path, (), {})
        schema.validate(yaml.safe_load(text))
    for text in REFUSED:
        path.write_text(text)

        with pytest.raises(ConfigurationError):
            load_settings(path, (), {})
        assert not schema.is_valid(yaml.safe_load(text)), text


def test_effective_settings_mask_secrets() -> None:
    """What is logged holds every key, and no secret."""
    logged = effective(load_settings(None, (), {"DUGS_LOG__KAFKA__SSL_PASSWORD": "hunter2"}))

    assert "hunter2" not in repr(logged)
    assert logged["log"]["kafka"]["ssl_password"] == "**********"
    assert logged["state"] == {"dir": "dugs-data/state"}


def test_settings_that_differ_are_told_by_section_under_their_keys() -> None:
    """For people, who need not read the defaults again: as --set takes them, a codec with the options that are its own."""
    overrides = ("input.codec={type: npy}", "model.kwargs={classes: 3}", "gradient.layers={names: [a, b]}")

    found = differing(load_settings(None, overrides, {"DUGS_LOG__KAFKA__SSL_PASSWORD": "hunter2"}))

    assert found == {
        "log": {"log.kafka.ssl_password": "**********"},
        "input": {"input.codec.type": "npy", "input.codec.dtype": "float32"},
        "model": {"model.kwargs.classes": 3},
        "gradient": {"gradient.layers.last": None, "gradient.layers.names": ["a", "b"]},
    }


def test_examples_of_the_two_engines_run_side_by_side() -> None:
    """A second daemon on one state folder or port is refused."""
    embedded, kafka = (load_settings(path, (), {}) for path in EXAMPLES)

    assert embedded.state.dir != kafka.state.dir
    assert embedded.http.port != kafka.http.port


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_shows_every_key_with_its_default(path: Path) -> None:
    """What an example says is what leaving it out would mean, its engine and place apart; secrets and options are remarks."""
    settings, tree = load_settings(path, (), {}), yaml.safe_load(path.read_text())

    assert settings.log.engine == path.stem
    of_its_own = {
        "kafka": {
            "log": {"log.engine": "kafka"},
            "state": {"state.dir": "dugs-data/state-kafka"},
            "http": {"http.port": 9465},
        }
    }
    assert differing(settings) == of_its_own.get(path.stem, {})
    other = "kafka" if path.stem == "embedded" else "embedded"
    shown_as_remarks = {("log", other), ("input", "codec"), ("gradient", "layers")}
    for key in every_key(Settings):
        if is_block(Settings, key) or is_secret(Settings, key) or key[:2] in shown_as_remarks:
            continue
        block = tree
        for part in key:
            assert part in block, f"{path.name} does not show {dotted(key)}"
            block = block[part]


@pytest.mark.parametrize(
    ("written", "envelopes"),
    [
        ("null", ()),
        ("debezium", ("debezium",)),
        ("[schema_registry]", ("schema_registry",)),
        ("[schema_registry, debezium]", ("schema_registry", "debezium")),
    ],
)
def test_envelope_is_one_name_or_several(written: str, envelopes: tuple[str, ...]) -> None:
    """As read by us and by an editor that knows the schema."""
    settings = load_settings(None, [f"input.envelope={written}", "input.codec=json"], {})

    assert settings.input.envelope == envelopes
    jsonschema.validate({"input": {"envelope": yaml.safe_load(written)}}, config_schema())


def test_codec_of_ones_own_may_know_the_labels() -> None:
    """So `label: none` is no conflict with it."""
    for overrides in (
        ["input.codec=m:f"],
        ["input.codec=m:f", "gradient.loss=m:f", "input.label_type=float32"],
    ):
        assert load_settings(None, [*overrides, "input.label=none"], {}).input.label == "none"
