"""The floors of the house: imports run downwards, rooms on one floor are strangers, and the numerics do no I/O."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "dugs_stream"
MODULES = sorted(PACKAGE.rglob("*.py"))
# From the street down. A room may import what stands on a lower floor; rooms of one floor do not know each other.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"__main__"}),
    frozenset({"cli"}),
    frozenset({"lab"}),
    frozenset({"commands"}),
    frozenset({"app"}),
    frozenset({"daemon"}),
    frozenset({"pipeline", "config"}),
    frozenset({"log.kafka", "log.embedded"}),
    frozenset({"log", "inputs", "outputs", "state", "models", "ops"}),
    frozenset({"core", "changelog"}),
    frozenset({"records", "errors", "canonical_json", "setting_types", "references", "sqlite"}),
)
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
GROUND = FLOORS[-1]
# What a number never needs: files, clocks, logs, settings, the network.
FORBIDDEN_IN_CORE = {
    "datetime", "io", "logging", "os", "pathlib", "requests", "shutil", "socket", "sqlite3", "structlog", "subprocess",
    "tempfile", "time", "yaml", "kafka", "pydantic", "click", "rich",
}  # fmt: skip
DOES_IO_IN_CORE = "core.index.files"
"""The one module of `core` that touches a disk: it saves an index where it is told to."""
MAY_END_THE_PROCESS = {"cli", "daemon", "log"}
"""The command line by its exit codes; the others where only a fresh start can tell what happened."""


def imports_of(source: str) -> set[str]:
    """Every module named in an import, at any depth of the source."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(module: str) -> str:
    """`dugs_stream.core.index.scan` → core; `dugs_stream.log.kafka.log` → log.kafka; `dugs_stream` → its own name."""
    parts = module.split(".")[1:]
    if parts[:1] == ["log"] and ".".join(parts[:2]) in FLOOR_OF:
        return ".".join(parts[:2])
    return parts[0] if parts else "dugs_stream"


def own_imports(path: Path) -> set[str]:
    """Rooms of this package that a module imports, its own included."""
    return {room_of(name) for name in imports_of(path.read_text()) if name.startswith("dugs_stream.")}


def name_of(path: Path) -> str:
    """The dotted name of a module of the package, without the package's own."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def is_allowed(room: str, imported: str) -> bool:
    """Downwards, at home, and among the ground's own modules."""
    if room == imported or (room in GROUND and imported in GROUND):
        return True
    return FLOOR_OF[imported] > FLOOR_OF[room]


def test_every_module_has_a_floor() -> None:
    """A new room is a line in this file; the package's own face, which only names things, stands outside."""
    rooms = {room_of(f"dugs_stream.{name_of(path)}") for path in MODULES if name_of(path) != "__init__"}

    assert rooms == set(FLOOR_OF)


@pytest.mark.parametrize("room", sorted(FLOOR_OF))
def test_imports_run_downwards(room: str) -> None:
    """A room imports itself and what stands below, never beside or above."""
    for path in MODULES:
        if name_of(path) == "__init__" or room_of(f"dugs_stream.{name_of(path)}") != room:
            continue
        wrong = {imported for imported in own_imports(path) if not is_allowed(room, imported)}
        assert not wrong, f"{path}: {room} imports {wrong}"


def test_core_does_no_input_output() -> None:
    """No clock, log, network, configuration or file, but for the one module that saves an index where told."""
    for path in MODULES:
        name = name_of(path)
        if name.startswith("core.") and name != DOES_IO_IN_CORE:
            imported = {module.split(".")[0] for module in imports_of(path.read_text())}
            assert not imported & FORBIDDEN_IN_CORE, f"{path}: {imported & FORBIDDEN_IN_CORE}"


def test_print_and_exit_belong_to_the_command_line() -> None:
    """Nothing below cli prints to stdout; only a watchdog of commit or stop ends the process beside it."""
    for path in MODULES:
        room = room_of(f"dugs_stream.{name_of(path)}").split(".")[0]
        named = {
            ast.unparse(node)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Name | ast.Attribute)
        }
        if room != "cli":
            assert not named & {"print", "sys.exit"}, path
        if room not in MAY_END_THE_PROCESS:
            assert not named & {"os._exit", "exit"}, path


def test_layer_check_can_fail() -> None:
    """The check sees an import at any depth, and knows up from down."""
    source = "def f():\n    from dugs_stream.config import load\n    import dugs_stream.log.kafka.log\n"

    assert {room_of(name) for name in imports_of(source)} == {"config", "log.kafka"}
    assert not is_allowed("state", "ops")
    assert is_allowed("core", "records") is not False
    assert not is_allowed("log.embedded", "log.kafka")
    assert not is_allowed("core", "config")
