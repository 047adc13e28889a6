"""The rooms of the house and the direction of imports: read from the sources, so that lazy imports count as well.

A room is a folder; in `shim`, `sidecar` and `sidecar/engine` each file is one.
"""

import ast
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "shim").rglob("*.py"), *(ROOT / "sidecar").rglob("*.py")])
HALLS = ("shim", "sidecar", "sidecar.engine")

ORDER = """
    sidecar: shared errors conversation packing frames memory models http
    sidecar: anthropic.fields anthropic.content anthropic documents supervisor requests server serve
    sidecar.engine: kernels memory_costs chunking sampling packed_weights tokenizing json_schema structured_output
    sidecar.engine: prompting cache batching calibration model scheduling worker device
    shim: errors command_line user_command terminal setup lease claude_code agents relay launch
    shim: global_mode standing doctor commands commands.logs commands.models commands.run commands.status
    shim: commands.uninstall commands.help main
"""
"""A room imports from rooms that stand before it: nothing runs back, and there is no circle."""
LANGUAGE = {"sidecar.shared", "sidecar.conversation", "sidecar.packing", "sidecar.frames", "sidecar.memory"}
"""All that the engine knows of the sidecar."""
LIBRARIES = {"sidecar.shared", "sidecar.models", "sidecar.memory", "sidecar.supervisor"}
"""What commands and the doctor may use of it; the rest of the shim shares `sidecar.shared` with it, no more."""
DRAW = ("shim.commands", "shim.doctor", "shim.terminal")
"""Where rich may be used."""
LATE = ("shim.commands", "shim.doctor", "shim.global_mode", "shim.standing")
"""What no command's start imports before it must."""
MODEL_LIBRARIES = {"mlx", "mlx_lm", "transformers", "llguidance"}


@cache
def imported(file: Path) -> frozenset[str]:
    """Every module that a file imports anywhere; `from sidecar.http import paths` counts as sidecar.http.paths."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {name if is_module(name) else node.module for name in inner}
    return frozenset(names)


def is_module(name: str) -> bool:
    place = ROOT / name.replace(".", "/")
    return place.with_suffix(".py").exists() or place.is_dir()


def module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(name: str) -> str:
    """The room of one of our modules."""
    folder = name.rpartition(".")[0]
    return name if folder in HALLS or (ROOT / name.replace(".", "/")).is_dir() else folder


def rooms(file: Path, house: str) -> set[str]:
    """The rooms of shim or sidecar that a file imports from; that of the version is no room."""
    return {room(name) for name in imported(file) if name.startswith(f"{house}.")}


def libraries(file: Path) -> set[str]:
    names = {name.partition(".")[0] for name in imported(file)}
    return names - set(sys.stdlib_module_names) - {"shim", "sidecar", "_sha2", "_sha256"}


def test_no_import_runs_back() -> None:
    lines = [line.strip().partition(": ") for line in ORDER.strip().splitlines()]
    order = [f"{hall}.{name}" for hall, _, names in lines for name in names.split()]
    back = set()
    for file in FILES:
        mine = room(module(file))
        if mine in order:
            others = (rooms(file, "shim") | rooms(file, "sidecar")) - {mine}
            back |= {f"{mine} imports {other}" for other in others if order.index(other) > order.index(mine)}
    assert not back
    known = {*order, *HALLS, "shim.__main__", "sidecar.__main__", "sidecar.demo", "sidecar.demo.training"}
    assert {room(module(file)) for file in FILES} <= known, "a new room needs a place in ORDER"


def test_the_shim_imports_the_standard_library_and_what_it_shares_with_the_sidecar() -> None:
    for file in (ROOT / "shim").rglob("*.py"):
        beyond = LIBRARIES if module(file).startswith(("shim.commands", "shim.doctor")) else {"sidecar.shared"}
        assert rooms(file, "sidecar") <= beyond, file
        assert libraries(file) <= ({"rich", "psutil"} if module(file).startswith(DRAW) else set()), file


def test_no_command_pays_for_a_command_of_ours() -> None:
    for file in (ROOT / "shim").rglob("*.py"):
        if not module(file).startswith(LATE):
            tree = ast.parse(file.read_text("utf-8"))
            names = {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
            assert not any(name.startswith(LATE) for name in names), file


def test_the_sidecar_never_imports_the_shim() -> None:
    for file in (ROOT / "sidecar").rglob("*.py"):
        assert not rooms(file, "shim"), file


def test_what_is_shared_imports_the_standard_library_alone() -> None:
    for file in (ROOT / "sidecar" / "shared").rglob("*.py"):
        assert rooms(file, "sidecar") <= {"sidecar.shared"} and not libraries(file), file


def test_only_the_engine_imports_the_model_libraries_and_it_knows_little_of_the_sidecar() -> None:
    for file in FILES:
        if module(file).startswith("sidecar.engine"):
            assert {name for name in rooms(file, "sidecar") if not name.startswith("sidecar.engine")} <= LANGUAGE, file
        elif not module(file).startswith("sidecar.demo.training"):
            assert not libraries(file) & MODEL_LIBRARIES, file
            assert not any(name.startswith(("sidecar.engine", "sidecar.demo")) for name in rooms(file, "sidecar")), file


def test_a_strangers_documents_are_opened_in_a_process_of_their_own() -> None:
    """Neither shim nor sidecar nor engine imports what opens them, nor the program that does."""
    for file in FILES:
        assert module(file) == "sidecar.documents.pdf" or not imported(file) & {"pypdf", "sidecar.documents.pdf"}, file
