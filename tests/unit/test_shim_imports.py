"""The direction of imports: read from the sources, so that lazy imports count as well."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE_ONLY = {"mlx", "mlx_lm", "transformers", "llguidance"}
SHARED = {"sidecar", "sidecar.config", "sidecar.control", "sidecar.pauses"}
FOR_WORDS = {f"sidecar.{name}" for name in ("cpu", "download", "fit", "guard", "hub", "models", "native", "probe")}
"""What the words may use of the sidecar's libraries, beside what is shared."""


def imported(file: Path) -> set[str]:
    """Every module that a file imports anywhere; `from sidecar import config` counts as sidecar.config."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            if (ROOT / node.module.replace(".", "/")).is_dir():
                names |= {f"{node.module}.{alias.name}" for alias in node.names if is_module(node.module, alias.name)}
    return names


def is_module(package: str, name: str) -> bool:
    place = ROOT / package.replace(".", "/")
    return (place / f"{name}.py").exists() or (place / name).is_dir()


def packages(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(file)}


def test_the_shim_imports_the_standard_library_and_what_it_shares_with_the_sidecar() -> None:
    import sys

    for file in [*(ROOT / "shim").glob("*.py"), *(ROOT / "shim" / "standing").glob("*.py")]:
        foreign = packages(file) - set(sys.stdlib_module_names) - {"shim", "sidecar", "_sha2", "_sha256"}
        assert not foreign, f"{file} imports {foreign}"
        beyond = {name for name in imported(file) if name.startswith("sidecar")} - SHARED
        assert not beyond, f"{file} imports {beyond}"


def test_words_may_draw_and_use_the_sidecars_libraries_but_not_its_process() -> None:
    import sys

    for file in [*(ROOT / "shim" / "verbs").glob("*.py"), *(ROOT / "shim" / "checks").glob("*.py")]:
        foreign = packages(file) - set(sys.stdlib_module_names) - {"shim", "sidecar", "rich", "psutil"}
        assert not foreign, f"{file} imports {foreign}"
        beyond = {name for name in imported(file) if name.startswith("sidecar")} - SHARED - FOR_WORDS
        assert not beyond, f"{file} imports {beyond}"


def test_no_command_pays_for_a_word() -> None:
    for file in (ROOT / "shim").glob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        names = {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert not any(name.startswith(("shim.verbs", "shim.standing")) for name in names), file


def test_the_sidecar_never_imports_the_shim() -> None:
    for file in (ROOT / "sidecar").rglob("*.py"):
        assert "shim" not in packages(file), file


def test_what_is_shared_imports_the_standard_library_alone() -> None:
    import sys

    for name in ("config", "control", "pauses"):
        file = ROOT / "sidecar" / f"{name}.py"
        assert not packages(file) - set(sys.stdlib_module_names) - {"sidecar"}
        assert {each for each in imported(file) if each.startswith("sidecar.")} <= SHARED


def test_only_the_engine_imports_the_model_libraries() -> None:
    engine = ROOT / "sidecar" / "engine"
    for folder in ("shim", "sidecar"):
        for file in (ROOT / folder).rglob("*.py"):
            if engine not in file.parents:
                assert not packages(file) & ENGINE_ONLY, file


def test_a_strangers_documents_are_opened_in_a_process_of_their_own() -> None:
    """Neither shim nor sidecar nor engine imports what opens them, nor the program that does."""
    for folder in ("shim", "sidecar"):
        for file in (ROOT / folder).rglob("*.py"):
            assert file == ROOT / "sidecar" / "pdf.py" or not imported(file) & {"pypdf", "sidecar.pdf"}, file
