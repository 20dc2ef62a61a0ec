"""Imports go one way: a file imports lower floors or its own folder, and some files never meet jax."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "realm_jax"

# From the ground up. What stands in one line must not import one another; F0, F1, F6 have steps of their own.
FLOORS = (
    ("errors", "types", "progress"),  # F0
    ("checks",),
    ("config",),
    ("text", "ops", "mesh", "chips", "heap"),  # F1
    ("hosts",),
    ("models", "data"),  # F2
    ("index",),  # F3
    ("train", "evaluate"),  # F4
    ("refresh",),  # F5
    ("loop",),  # F6
    ("runs",),
    ("inspect", "plan"),
    ("commands",),  # F7
    ("cli",),
    ("__main__",),
)
HEIGHT = {part: height for height, parts in enumerate(FLOORS) for part in parts}
HOST_ONLY = ("text",)  # folders that name neither jax nor flax
WITHOUT_JAX = ("realm_jax.data.prepare", "realm_jax.data.encode", "realm_jax.commands.text", "realm_jax.cli")
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "misc", "common", "tools", "base"}
MOST_LINES = 400

FILES = sorted(PACKAGE.rglob("*.py"))


def imported(tree: ast.AST, module: str) -> set[str]:
    """Return the absolute names of the modules a file imports, those inside functions included.

    Args:
      tree: of the file.
      module: its dotted name; relative imports start from it.
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            # `from package import x` may name a module or what is in it; from the root it is a module.
            names |= {f"{base}.{alias.name}" for alias in node.names} if base == "realm_jax" else {base}
    return names


def wrong_imports(source: str, module: str) -> list[str]:
    """Name the imports of a file that go up, sideways, or to jax where it is not allowed.

    Args:
      source: text of the file.
      module: its dotted name.
    """
    own = module.split(".")[1]
    wrong = []
    for name in sorted(imported(ast.parse(source), module)):
        root, *rest = name.split(".")
        if root == "realm_jax":
            part = rest[0] if rest else "__init__"
            if part != own and (part not in HEIGHT or HEIGHT[part] >= HEIGHT[own]):
                wrong.append(name)
        elif root in ("jax", "flax") and own in HOST_ONLY:
            wrong.append(name)
    return wrong


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_lower_floors_or_its_own_folder(path):
    if path == PACKAGE / "__init__.py":
        assert not imported(ast.parse(path.read_text(encoding="utf-8")), "realm_jax.__init__")
        return
    assert wrong_imports(path.read_text(encoding="utf-8"), module_name(path)) == []


def test_every_part_stands_on_a_floor_and_every_floor_is_inhabited():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert parts - {"__init__"} == set(HEIGHT)


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("realm_jax.text.blocks", "from realm_jax.data.corpus import Corpus", ["realm_jax.data.corpus"]),
        ("realm_jax.text.blocks", "import jax.numpy as jnp", ["jax.numpy"]),
        ("realm_jax.text.blocks", "def f():\n    import realm_jax.loop", ["realm_jax.loop"]),
        ("realm_jax.models.bert", "from ..data import corpus", ["realm_jax.data"]),
        ("realm_jax.types", "from realm_jax import errors", ["realm_jax.errors"]),
        ("realm_jax.runs.realm", "from realm_jax.inspect.fill import fill", ["realm_jax.inspect.fill"]),
        ("realm_jax.loop", "from realm_jax.nowhere import x", ["realm_jax.nowhere"]),
        ("realm_jax.text.blocks", "from realm_jax.errors import ConfigError\nfrom .swap import x", []),
        ("realm_jax.cli", "from realm_jax import runs\nimport jax", []),
    ],
)
def test_the_check_finds_what_is_wrong_and_nothing_else(module, source, wrong):
    assert wrong_imports(source, module) == wrong


@pytest.mark.parametrize("module", WITHOUT_JAX)
def test_what_worker_processes_and_help_import_never_meets_jax(module):
    code = f"import sys, {module}\nprint([name for name in ('jax', 'flax') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_one_idea(path):
    assert path.stem not in NAMES_THAT_SAY_NOTHING
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    if path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), "a file begins by saying what it is"
