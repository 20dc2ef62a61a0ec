"""The documents tell the truth: their commands parse, their links lead somewhere, each part has its place."""

import re
import shlex
from pathlib import Path

import pytest

from realm_jax.cli import COMMANDS
from realm_jax.commands.parsing import parse
from realm_jax.commands.plan import Plan
from realm_jax.commands.refreshing import Refresh
from realm_jax.commands.text import Prepare, Vocabulary
from realm_jax.commands.training import Finetune, Ict, Pretrain, Read, load_experiment
from realm_jax.commands.using import Ask, Embed, Evaluate, Fill, Retrieve
from realm_jax.commands.weights import Export, Import

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    p for folder in (".", "docs", "benchmarks", "tpu_setup") for p in ROOT.glob(f"{folder}/*.md")
)
OPTIONS = {
    "vocabulary": Vocabulary,
    "prepare": Prepare,
    "ict": Ict,
    "read": Read,
    "pretrain": Pretrain,
    "finetune": Finetune,
    "refresh": Refresh,
    "embed": Embed,
    "evaluate": Evaluate,
    "ask": Ask,
    "fill": Fill,
    "retrieve": Retrieve,
    "import": Import,
    "export": Export,
    "plan": Plan,
}


def commands(path: Path) -> list[list[str]]:
    """Return the command lines of a document's bash blocks, split into words, without redirections."""
    blocks = re.findall(r"^```bash\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    text = "".join(blocks).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [[word for word in line[: line.index("<")]] if "<" in line else line for line in lines if line]


def cases() -> list[tuple[str, list[str]]]:
    return [(path.name, line) for path in DOCUMENTS for line in commands(path)]


@pytest.mark.parametrize(("document", "line"), cases(), ids=lambda value: " ".join(value)[:60])
def test_a_command_of_a_document_is_one(document, line):
    program, *arguments = line
    if program == "realm_jax":
        name, *options = arguments
        parse(OPTIONS[name], options, prog=f"{document}: {name}", examples="")
        for word in options:
            if word.endswith(".py"):
                load_experiment(ROOT / word)
    elif program in ("bash", "python"):
        assert (ROOT / arguments[0]).is_file()
    else:
        assert program in ("sed", "cp", "gcloud")


def test_every_command_is_shown_and_known():
    shown = {line[1] for path in DOCUMENTS for line in commands(path) if line[0] == "realm_jax"}
    assert shown == set(COMMANDS) == set(OPTIONS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (path.parent / link).exists(), link


def test_the_design_names_every_part():
    design = (ROOT / "docs/DESIGN.md").read_text(encoding="utf-8")
    parts = {path.relative_to(ROOT / "realm_jax").parts[0] for path in (ROOT / "realm_jax").rglob("*.py")}
    for part in parts - {"__init__.py", "__main__.py"}:
        name = f"`{part.removesuffix('.py')}`" if part.endswith(".py") else f"`{part}/`"
        assert name in design, name
