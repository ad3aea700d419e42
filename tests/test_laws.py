"""The laws of the house that a machine can check: imports, no code from files, no work at import, sizes, docstrings."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OVERRIDING = {"Module", "Group", "Verbs", "TorchFunctionMode"}
"""Bases whose methods are documented where they come from."""

SRC = Path(__file__).resolve().parents[1] / "src"
WORDS = (
    "errors",
    "recipe",
    "recipe_augment",
    "recipe_optim",
    "recipe_values",
    "names",
    "preprocess",
    "run",
    "arith",
    "files",
    "child",
    "memory",
)
FLOORS = {
    **dict.fromkeys(WORDS, 0),
    **dict.fromkeys(("data", "models"), 1),
    "evaluation": 2,
    **dict.fromkeys(("training", "figures", "web"), 3),
    **dict.fromkeys(("audit", "reporting", "shipping", "learn"), 4),
    "workflow": 5,
    **dict.fromkeys(("cli", "__main__"), 6),
}
HEAVY = {"torch", "torchvision", "numpy", "rich", "PIL", "tensorboard"}
LONG_FUNCTIONS = {"tellapart.training.fit.fit"}
"""The one loop (law 2), which is read from top to bottom."""

Trees = dict[str, ast.Module]


def trees_of(src: Path) -> Trees:
    """The syntax tree of every module below `src`, by its dotted name."""
    found = {}
    for path in sorted((src / "tellapart").rglob("*.py")):
        parts = path.relative_to(src).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


@pytest.fixture(scope="module")
def trees() -> Trees:
    return trees_of(SRC)


def nodes(tree: ast.AST, *, inside_functions: bool) -> Iterator[ast.AST]:
    """All nodes below `tree`; without those in functions, what runs when the module is imported."""
    for child in ast.iter_child_nodes(tree):
        yield child
        if inside_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from nodes(child, inside_functions=inside_functions)


def imported(trees: Trees, name: str, *, inside_functions: bool = True) -> set[str]:
    """The modules of tellapart that one module imports; a name of the package itself stands as `tellapart.that`."""
    found = set()
    for node in nodes(trees[name], inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in trees or node.module == "tellapart" else node.module for one in inner}
    return {one for one in found if one.split(".")[0] == "tellapart"}


def upward(trees: Trees) -> list[str]:
    """The imports that do not point down: `importer -> imported`."""
    wrong = []
    for name in trees:
        wing = name.split(".")[1] if "." in name else ""
        for target in imported(trees, name) if wing else ():
            below = target.split(".")[1] if "." in target else ""
            if below not in ("__version__", wing) and not _is_lower(wing, below):
                wrong.append(f"{name} -> {target}")
    return sorted(wrong)


def _is_lower(wing: str, below: str) -> bool:
    if wing not in FLOORS or below not in FLOORS:
        return False
    one_room = FLOORS[wing] == FLOORS[below] and FLOORS[wing] in (0, 6)
    return FLOORS[below] < FLOORS[wing] or one_room


def circle(trees: Trees) -> list[str]:
    """A ring of modules that import each other when they are loaded, or nothing."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        below = imported(trees, name, inside_functions=False) & trees.keys()
        found = next((ring for one in sorted(below) if (ring := visit(one, [*path, name]))), [])
        done.add(name)
        return found

    return next((ring for name in trees if name != "tellapart" and (ring := visit(name, []))), [])


def relative(trees: Trees) -> list[str]:
    return [name for name, tree in trees.items() if any(getattr(node, "level", 0) for node in ast.walk(tree))]


def test_imports_point_down(trees):
    assert upward(trees) == []


def test_no_module_is_in_a_circle(trees):
    assert circle(trees) == []


def test_no_import_is_relative(trees):
    assert relative(trees) == []


def test_modules_are_imported_by_text_only_where_they_are_lazy(trees):
    found = {name for name, tree in trees.items() for node in ast.walk(tree) if _imports_ours_by_text(node)}
    assert found == {"tellapart", "tellapart.cli"}


def _imports_ours_by_text(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or "import_module" not in ast.unparse(node.func):
        return False
    text = node.args[0]
    return not isinstance(text, ast.Constant) or str(text.value).startswith("tellapart")


@pytest.mark.parametrize(
    ("file", "line", "finds", "told"),
    [
        ("data/split.py", "def f():\n    from tellapart.workflow import train", upward, "tellapart.workflow.train"),
        ("data/split.py", "import tellapart.cli.train", upward, "tellapart.cli.train"),
        ("models/plain.py", "from tellapart.data.index import Index", upward, "tellapart.data.index"),
        ("data/index.py", "def f():\n    from tellapart import models", upward, "tellapart.models"),
        ("evaluation/metrics.py", "from tellapart import train", upward, "tellapart.train"),
        ("names.py", "from tellapart.data import index", upward, "tellapart.data.index"),
        ("new_wing.py", "from tellapart.errors import DataError", upward, "tellapart.new_wing"),
        ("data/index.py", "from tellapart.data import identity", circle, "tellapart.data.identity"),
        ("data/index.py", "from .identity import digest", relative, "tellapart.data.index"),
    ],
)
def test_a_planted_import_is_caught(tmp_path, file, line, finds: Callable[[Trees], list[str]], told):
    shutil.copytree(SRC / "tellapart", tmp_path / "tellapart", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "tellapart" / file).open("a", encoding="utf-8") as planted:
        planted.write(f"\n\n{line}\n")
    assert told in " ".join(finds(trees_of(tmp_path)))


def code_from_files(trees: Trees) -> list[str]:
    """Where something is named that can execute what a file holds: `module: what`."""
    found = []
    for name, tree in trees.items():
        imports = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        torches = {alias.asname or "torch" for alias in imports if alias.name == "torch"}
        for node in ast.walk(tree):
            if word := _executes(node, torches):
                found.append(f"{name}: {word}")
    return found


def _executes(node: ast.AST, torches: set[str]) -> str:
    """The name of what could run code from a file, or ''."""
    unsafe = {"pickle", "_pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
    torch_ways = ("load", "save", "hub", "jit", "serialization")
    if isinstance(node, ast.Import):
        return next((alias.name for alias in node.names if alias.name.split(".")[0] in unsafe), "")
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        words = [module.split(".")[0]] + ([alias.name for alias in node.names] if module == "torch" else [])
        return next((word for word in words if word in (unsafe if module != "torch" else torch_ways)), "")
    if isinstance(node, ast.Attribute) and node.attr in torch_ways:
        return f"torch.{node.attr}" if isinstance(node.value, ast.Name) and node.value.id in torches else ""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id if node.func.id in ("eval", "exec", "compile", "__import__") else ""
    return "allow_pickle" if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only") else ""


def test_no_code_comes_from_files(trees):
    """A class of one's own is run in one place. The children read tensors from --weights FILE.pth: by a table of five
    names, or with weights_only.
    """
    child = "tellapart.models.weights_child"
    assert code_from_files(trees) == [
        "tellapart.data.sources.pickles: pickle",
        "tellapart.models.elsewhere: compile",
        "tellapart.models.elsewhere: exec",
        f"{child}: torch.load",
        f"{child}: allow_pickle",
        "tellapart.models.weights_plain: pickle",
        "tellapart.models.weights_trusted: torch.load",
        "tellapart.models.weights_trusted: allow_pickle",
        "tellapart.shipping.others: torch.save",
    ]
    assert "weights_only=True" in (SRC / "tellapart" / "models" / "weights_child.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "line",
    [
        "import torch\ntorch.load('x')",
        "import torch as t\nt.save({}, 'x')",
        "from torch import load",
        "import pickle",
        "from pickle import loads",
        "import numpy\nnumpy.load('x', allow_pickle=True)",
        "exec('1')",
    ],
)
def test_planted_code_from_a_file_is_caught(line):
    assert code_from_files({"planted": ast.parse(line)})


DRIVER = """
import json, runpy, sys
code = 0
try:
    {work}
except SystemExit as end:
    code = end.code
print("\\n" + json.dumps([code, sorted(sys.modules)]))
"""


def loaded_by(work: str, cwd: Path) -> tuple[int, set[str]]:
    """The exit code of some work in a fresh process, and the modules that were loaded when it ended."""
    environment = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DRIVER.format(work=work)]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    code, modules = json.loads(done.stdout.splitlines()[-1])
    return code or 0, set(modules)


def called(*words: str) -> str:
    return f"sys.argv[1:] = {list(words)!r}; runpy.run_module('tellapart', run_name='__main__')"


@pytest.mark.parametrize(
    ("work", "code"),
    [
        ("import tellapart", 0),
        (called("--help"), 0),
        (called("--version"), 0),
        (called("train", "--help"), 0),
        (called("train", "--no-such-flag"), 2),
        (called("train", "--optimizer", "adm"), 2),
        (called("no-such-verb"), 2),
    ],
)
def test_words_alone_load_nothing_heavy(work, code, tmp_path):
    ended, modules = loaded_by(work, tmp_path)
    assert (ended, modules & HEAVY) == (code, set())
    assert "tellapart" in modules


def test_training_loads_no_compiler(tmp_path):
    work = (
        "from tellapart import Recipe, train; values = {'train.max_steps': 2, 'machine.device': 'cpu'}; "
        "assert list(train(Recipe.from_values(values)))[-1].figures"
    )
    _, modules = loaded_by(work, tmp_path)
    assert "torch" in modules
    assert modules & {"torch._dynamo", "sympy", "torchvision", "sklearn"} == set()


def test_files_are_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (SRC / "tellapart").rglob("*.py")}
    assert {path: n for path, n in lengths.items() if n > 300} == {}
    assert sum(lines_of_code(path) for path in lengths) < 31_800


def lines_of_code(path: Path) -> int:
    """Lines that are neither blank nor a comment nor a docstring: words to a reader are not what has to shrink."""
    text = path.read_text(encoding="utf-8")
    strings = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr))
    said = {line for node in strings if is_text(node.value) for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for n, line in lines if n not in said and line.strip() and not line.lstrip().startswith("#"))


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def length(node: ast.AST) -> int:
    """Lines of a function from `def` to the end, without the docstring; 0 for anything else."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return 0
    lines = (node.end_lineno or 0) - node.lineno + 1
    return lines - len((ast.get_docstring(node, clean=False) or "").splitlines())


def test_functions_are_short(trees):
    every = [(name, node) for name, tree in trees.items() for node in ast.walk(tree)]
    found = {f"{name}.{getattr(node, 'name', '')}" for name, node in every if length(node) > 40}
    assert found == LONG_FUNCTIONS


def undocumented(trees: Trees) -> list[str]:
    """Public functions, classes and methods without a docstring; one from a protocol or a library is said there."""
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    protocols = [node for node in classes if "Protocol" in _bases(node)]
    promised = {member.name for node in protocols for member in node.body if isinstance(member, ast.FunctionDef)}

    def missing(name: str, body: list[ast.stmt], said: set[str]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                if ast.get_docstring(node) is None and node.name not in said:
                    yield f"{name}.{node.name}"
                if isinstance(node, ast.ClassDef) and not _bases(node) & OVERRIDING:
                    yield from missing(f"{name}.{node.name}", node.body, promised)

    return [one for name, tree in trees.items() for one in missing(name, tree.body, set())]


def _bases(node: ast.ClassDef) -> set[str]:
    return {ast.unparse(base).split(".")[-1] for base in node.bases}


def test_everything_public_says_what_it_promises(trees):
    table = ast.get_docstring(trees["tellapart.errors"]) or ""
    errors = {f"tellapart.errors.{word}" for word in table.split()}
    assert sorted(set(undocumented(trees)) - errors) == []
