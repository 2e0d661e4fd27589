"""The sources of a setting, which one wins, and files that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from dugs_stream.config import Settings, load_settings
from dugs_stream.errors import ConfigurationError


def problems_of(
    path: Path | None = None, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> list[str]:
    """The lines a refused configuration is reported with."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, overrides, environ or {})
    return [str(problem) for problem in caught.value.problems]


def written(folder: Path, text: str | bytes) -> Path:
    """A file of settings with this text."""
    path = folder / "dugs.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_settings_without_a_source_are_the_defaults() -> None:
    """Without a file, a variable and a flag."""
    settings = load_settings(environ={})

    assert settings == Settings()
    assert settings.input.topic == "dugs.samples"
    assert settings.input.batch.bytes == 64 * 2**20
    assert settings.gradient.layers.last == 2
    assert settings.selection.threshold == 0.3


def test_file_without_a_setting_is_the_defaults(tmp_path: Path) -> None:
    """An empty file, a section whose keys are all comments, a secret that is null: all leave the defaults."""
    for text in (
        "", "# a comment\n", "---\n", "input:\n  # comments\n", "input:\n  batch:\n", "log: {kafka: {ssl_password: null}}",
    ):  # fmt: skip
        assert load_settings(written(tmp_path, text), environ={}) == Settings(), text


def test_flag_wins_over_environment_wins_over_file_wins_over_default(tmp_path: Path) -> None:
    """Each later source replaces one key and leaves its neighbours; of two flags of one key the last counts."""
    path = written(tmp_path, "input: {topic: from.file, group: from-file, batch: {records: 1, wait_ms: 2}}")
    environ = {"DUGS_INPUT__GROUP": "from-env", "DUGS_INPUT__BATCH__RECORDS": "3", "DUGS_HTTP__PORT": "1"}

    settings = load_settings(path, ["http.port=3", "http.port=2", "input.batch.records=4"], environ)

    assert (settings.input.topic, settings.input.group) == ("from.file", "from-env")
    assert (settings.input.batch.records, settings.input.batch.wait_ms) == (4, 2)
    assert settings.http.port == 2


def test_override_value_is_yaml() -> None:
    """Lists, mappings, null and numbers are written as in the file."""
    overrides = [
        "input.classes=[cat, dog]", "gradient.layers={names: ['fc.*']}", "model.kwargs.classes=3",
        "selection.threshold=1e-1", "input.codec={type: npy}", "log.kafka.bootstrap_servers=[a:1, b:2]",
    ]  # fmt: skip

    settings = load_settings(None, overrides, {})

    assert settings.input.classes == ("cat", "dog")
    assert settings.gradient.layers.names == ("fc.*",)
    assert settings.gradient.layers.last is None
    assert settings.model.kwargs == {"classes": 3}
    assert settings.selection.threshold == 0.1
    assert settings.input.codec.type == "npy"
    assert settings.log.kafka.bootstrap_servers == ("a:1", "b:2")


def test_text_from_outside_the_file_stays_text() -> None:
    """A key that takes only text takes 007 and yes as they are written; null takes a value away."""
    environ = {"DUGS_INPUT__GROUP": "007", "DUGS_INPUT__TOPIC": "yes"}

    settings = load_settings(None, ["output.decisions_topic=123", "output.decisions_topic=null"], environ)

    assert (settings.input.group, settings.input.topic) == ("007", "yes")
    assert settings.output.decisions_topic is None


def test_override_below_the_short_form_of_a_codec_keeps_its_type(tmp_path: Path) -> None:
    """`codec: image` in the file and a mode from outside are one codec."""
    path = written(tmp_path, "input: {codec: image}")

    assert load_settings(path, ["input.codec.mode=L"], {}).input.codec.model_dump()["mode"] == "L"
    assert load_settings(None, ["input.codec.mode=L"], {}).input.codec.model_dump()["type"] == "image"


def test_foreign_variables_are_ignored() -> None:
    """A variable that names no section is another program's."""
    assert load_settings(None, (), {"DUGS_CACHE": "x", "DUGSY__A": "1", "HOME": "/"}) == Settings()


def test_anchors_and_merge_keys_are_plain_yaml(tmp_path: Path) -> None:
    """What SafeLoader resolves is resolved; a key beside `<<` wins over the merged one."""
    text = "input: &in {group: a, start: latest}\nhttp: {port: 1}\nlog: {engine: &e kafka}\n"
    path = written(tmp_path, text)

    assert load_settings(path, environ={}).log.engine == "kafka"

    path = written(tmp_path, "input:\n  batch: {<<: &b {records: 1, wait_ms: 2}, wait_ms: 3}\n")

    assert load_settings(path, environ={}).input.batch.model_dump()["wait_ms"] == 3


NOT_SETTINGS: list[tuple[str | bytes, str]] = [
    ("input: [1\nhttp: x", ":2:5: not YAML: while parsing a flow sequence: expected ',' or ']', but got ':'."),
    ("input:\n\t topic: x", ":2:1: not YAML: while scanning for the next token: found character '\\t'"),
    ("- a\n- b", ": found list, expected a mapping of sections. Begin with a section, for instance input:"),
    ("just words", ": found str, expected a mapping of sections."),
    ("http: {port: 1}\nhttp: {port: 2}", ':2:1 http: the key "http" appears twice (first in line 1)'),
    ("http:\n  port: 1\n  host: h\n  port: 2", ':4:3 http.port: the key "port" appears twice (first in line 2)'),
    ("a: 1\n---\nb: 2", ":2:1: not YAML: expected a single document in the stream: but found another document."),
    ("http: {port: !!python/name:os.system x}", ":1:14: not YAML: could not determine a constructor for the tag"),
    ("http: !!python/object:os.system {}", ":1:7: not YAML: the tag 'tag:yaml.org,2002:python/object:os.system'."),
    ("model: &m {kwargs: *m}", ":1:8: not YAML: an alias that contains itself."),
    ("http: {port: 2026-13-45}", ":1:14: not YAML: month must be in 1..12."),
    ("? [a, b]\n: 1", ":1:3: found a list or mapping as a key, expected a name. Write key: value."),
    (b"\xff\xfe\xfa", ": not UTF-8 at byte 0. Save the file as UTF-8."),
    ("a: \x07", ": not YAML: special characters are not allowed."),
    ("model: {kwargs: {a: " + "[" * 500 + "]" * 500 + "}}", ": nested too deeply."),
]  # fmt: skip


def test_file_that_is_not_settings_is_refused_with_its_place(tmp_path: Path) -> None:
    """The place in the file, and what is wrong with it there."""
    for text, expected in NOT_SETTINGS:
        path = written(tmp_path, text)

        lines = problems_of(path)

        assert any(line.startswith(f"{path}{expected}") for line in lines), (text, lines)


def test_aliases_of_aliases_are_refused_before_they_are_expanded(tmp_path: Path) -> None:
    """A few lines may not become billions of values."""
    lines = ["model:", "  kwargs:", "    a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"    a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    assert "more than 50000 values" in problems_of(written(tmp_path, "\n".join(lines)))[0]


def test_missing_file_and_folder_are_refused_with_the_way_out(tmp_path: Path) -> None:
    """A path that names nothing is said, with the folder it was looked for in."""
    path = tmp_path / "none.yaml"

    assert problems_of(path) == [
        (
            f"{path}: no such file (looked in {str(Path.cwd())!r}). "
            "Give another path to -c, or leave it out for the defaults."
        )
    ]
    assert problems_of(tmp_path) == [
        f"{tmp_path}: cannot be read: Is a directory. Give a YAML file that can be read."
    ]


def test_override_without_section_key_and_value_is_refused() -> None:
    """The form of --set is told, and the value after the equals sign is not shown."""
    for override in ("threshold", "threshold=1", "=1", ".a=1", "selection.=1", "selection"):
        (line,) = problems_of(None, [override])

        found = override[: override.index("=") + 1] if "=" in override else override
        assert line == (
            f"--set: found {found!r}, expected section.key=value. For instance --set selection.threshold=0.5."
        )
    (line,) = problems_of(None, ["http.port=[1"])
    assert line.startswith("--set http.port: found '[1', expected a value in YAML: ")


def test_variable_without_two_underscores_between_two_names_is_refused() -> None:
    """A variable that looks like a setting and would change nothing is an error, with the right name."""
    assert problems_of(environ={"DUGS_HTTP_PORT": "1"}) == [
        (
            "environment DUGS_HTTP_PORT: has no effect: section and key must be separated by two underscores. "
            "Write DUGS_HTTP__PORT."
        )
    ]
    assert problems_of(environ={"DUGS_HTTP__": "1"}) == [
        (
            "environment DUGS_HTTP__: found an empty level, expected DUGS_SECTION__KEY. "
            "Put two underscores between levels, none at the end."
        )
    ]


def test_secret_in_the_file_is_refused_and_never_shown(tmp_path: Path) -> None:
    """A secret belongs in the environment or in a file of its own, and its value in no message."""
    for value in ("hunter2", "[hunter2]"):
        path = written(tmp_path, f"log: {{kafka: {{ssl_password: {value}}}}}")

        lines = problems_of(path)

        assert lines[0] == (
            f"{path}:1:15 log.kafka.ssl_password: a secret must not be in the configuration file or on the command "
            "line, where others can read it. Set it in the environment as DUGS_LOG__KAFKA__SSL_PASSWORD, or name a "
            "file that holds it under ssl_password_file."
        )
        assert "hunter2" not in "\n".join(lines)


def test_secret_on_the_command_line_is_refused_and_never_shown() -> None:
    """Other users see a process's arguments."""
    lines = problems_of(None, ["log.kafka.ssl_password=hunter2"])

    assert lines[0].startswith("--set log.kafka.ssl_password: a secret must not be in")
    assert "hunter2" not in "\n".join(lines)


def test_misspelt_secret_is_refused_and_never_shown(tmp_path: Path) -> None:
    """An unknown key's value may be a secret."""
    lines = problems_of(written(tmp_path, "log: {kafka: {ssl_pasword: hunter2}}"))

    assert 'Did you mean "ssl_password"?' in lines[0]
    assert "hunter2" not in "\n".join(lines)


def test_secret_from_the_environment_is_taken_as_it_is_written() -> None:
    """A password that looks like YAML stays that password, and is not printed."""
    settings = load_settings(None, (), {"DUGS_LOG__KAFKA__SSL_PASSWORD": "null"})

    assert settings.log.kafka.ssl_password is not None
    assert settings.log.kafka.ssl_password.get_secret_value() == "null"
    assert "null" not in repr(settings.log.kafka.ssl_password)
