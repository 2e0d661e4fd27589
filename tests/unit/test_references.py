"""An import string names an object, or one of four messages says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dugs_stream.errors import ConfigurationError
from dugs_stream.references import import_string


def refusal(text: str) -> str:
    """The message an import string is refused with."""
    with pytest.raises(ConfigurationError) as caught:
        import_string(text, "model.factory")
    return str(caught.value)


def test_import_string_gives_the_object_it_names() -> None:
    """A function of a module, or one inside a class."""
    assert import_string("pathlib:Path", "x") is Path
    assert import_string("pathlib:Path.cwd", "x")() == Path.cwd()


def test_wrong_form_is_refused() -> None:
    """The message quotes the text and gives the form, with an example."""
    for text in ("", "json", "json.loads", ":loads", "json:", "json::loads", "json:loads()", "a b:c", "1a:b"):
        assert refusal(text) == (
            f"model.factory: found {text!r}, expected package.module:function, with one colon between module and "
            "function. Write for instance my_models:build."
        )


def test_missing_module_is_refused() -> None:
    """The part that does not exist is named."""
    for module, missing in (("no_such_module", "no_such_module"), ("json.nope.deep", "json.nope")):
        assert refusal(f"{module}:f") == (
            f"model.factory: '{module}:f' names the module {module!r}, and there is no module {missing!r}. "
            "Install its package, or put its folder on PYTHONPATH."
        )


def test_missing_attribute_is_refused_with_the_nearest_name() -> None:
    """A typing error gets a suggestion."""
    message = refusal("json:JSONDecoda")

    assert message.startswith("model.factory: 'json:JSONDecoda' names 'JSONDecoda', which ")
    assert message.endswith("json/__init__.py does not have. Did you mean 'JSONDecoder'?")
    assert refusal("json:zzzzzz").endswith("does not have. Check the name after the colon.")


def test_object_that_cannot_be_called_is_refused() -> None:
    """A value is not a factory."""
    assert refusal("math:pi") == (
        "model.factory: 'math:pi' names a float, expected a function or a class. Name the function that makes it."
    )


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import a_package_that_is_not_installed", ModuleNotFoundError),
        ("from json import a_name_it_does_not_have", ImportError),
        ("raise RuntimeError('on purpose')", RuntimeError),
        ("x = = 1", SyntaxError),
    ],
)
def test_error_inside_the_users_module_passes_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, error: type[Exception]
) -> None:
    """It is about their code, and their traceback says more than a message of ours."""
    name = f"broken_{error.__name__.lower()}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(error) as caught:
        import_string(f"{name}:f", "model.factory")

    assert not isinstance(caught.value, ConfigurationError)
