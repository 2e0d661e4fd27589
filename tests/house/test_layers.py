"""The house stands as drawn: imports run downwards, the numerics touch nothing outside, rooms are strangers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "dugs_stream"
FACTS = {"records", "errors", "chain", "canonical", "blocks", "importing", "secret_text"}
ROOMS = ("log", "state", "inputs", "models", "ops")
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
# What a number never needs: files, clocks, logs, settings, the network.
FORBIDDEN_IN_CORE = {
    "datetime", "logging", "os", "requests", "socket", "sqlite3", "structlog", "subprocess", "time", "yaml",
    "kafka", "pydantic", "click", "rich",
}  # fmt: skip


def imports_of(source: str) -> set[str]:
    """Every module named in an import, wherever in the source it stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            module = node.module or ""
            names |= (
                {f"{module}.{alias.name}" for alias in node.names} if module == "dugs_stream" else {module}
            )
    return names


def room_of(module: str) -> str:
    """`dugs_stream.core.index.unique_index` → core; `dugs_stream.app.daemon` → app; the package's own door → its name."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def own_imports(path: Path) -> set[str]:
    """Rooms of this package that a module imports."""
    return {room_of(name) for name in imports_of(path.read_text()) if name.split(".")[0] == "dugs_stream"}


def modules_in(room: str) -> list[Path]:
    """The room's modules."""
    return sorted((PACKAGE / room).rglob("*.py"))


def test_facts_know_nothing_above_them() -> None:
    """records, errors and their like import only one another."""
    for name in FACTS:
        path = PACKAGE / f"{name}.py"
        if path.exists():
            assert own_imports(path) <= FACTS, path


def test_core_knows_only_facts() -> None:
    """The numerics import records and errors, and nothing else of ours."""
    for path in modules_in("core"):
        assert own_imports(path) <= FACTS | {"core"}, path


def test_core_does_no_input_output() -> None:
    """No clock, log, network, configuration or operating system; `files` alone, which saves an index where told."""
    for path in modules_in("core"):
        if path.name == "files.py":
            continue
        assert not {name.split(".")[0] for name in imports_of(path.read_text())} & FORBIDDEN_IN_CORE, path


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_do_not_know_each_other(room: str) -> None:
    """log, state, inputs, models and ops meet only in the modules above them; state builds on core."""
    allowed = FACTS | {room, "dugs_stream", "core"}
    for path in modules_in(room):
        assert own_imports(path) <= allowed, path


def test_daemon_sees_ports_and_not_engines() -> None:
    """Whichever engine is behind the port, the daemon is the same code."""
    named = imports_of((PACKAGE / "daemon.py").read_text())

    assert not {name for name in named if "kafka" in name or "embedded" in name}


def test_only_the_application_sees_settings_and_rooms_together() -> None:
    """Settings become objects in one place: below app.py nobody imports config."""
    above = {"app.py", "cli.py", "checking.py", "explaining.py", "inspection.py", "retrying.py", "tasks.py"}
    for path in MODULES:
        if path.name not in above and path.parent == PACKAGE:
            assert "config" not in own_imports(path), path


def test_print_and_exit_belong_to_the_command_line() -> None:
    """Below cli.py nothing prints to stdout or ends the process, the two watchdogs of a commit and a stop apart."""
    may_leave = {"cli.py", "stopping.py"}
    for path in MODULES:
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        if path.name not in may_leave and "kafka" not in path.name:
            assert not calls & {"print", "sys.exit", "os._exit", "exit"}, path


def test_layer_check_can_fail() -> None:
    """The check sees an import wherever it hides: in a function, under TYPE_CHECKING, as an attribute."""
    source = "def f():\n    from dugs_stream import config\n    import dugs_stream.log.kafka.log\n"

    assert {room_of(name) for name in imports_of(source)} == {"config", "log"}
