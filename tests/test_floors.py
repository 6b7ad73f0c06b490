"""The rules of the house: what may import what, and the shape of the code (design, section 2).

Each test lists what breaks its rule, so that one run shows all of it.
"""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "baiwen"
SOURCES = {
    path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(source, filename=name) for name, source in SOURCES.items()}

# From the ground up. A file imports from floors below its own and from its own folder.
FLOORS = (
    ("errors", "last_words", "mistakes", "progress", "config", "files", "dist", "trackers", "log"),
    ("tokenizer", "model", "verify", "endpoint"),
    ("data", "train", "engine"),
    ("scaling", "rl", "instruct", "eval", "serve", "export", "report"),
    ("stages",),
    ("commands", "cli", "__main__"),
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
OPEN = (0, len(FLOORS) - 1)  # the ground and the door: their parts may stand on one another
LAZY = ("cli.py", "__init__.py")  # import within functions, so that torch comes when it is needed
WITHOUT_TORCH = (
    "errors", "last_words", "mistakes", "progress", "config", "files", "log", "tokenizer",
    "verify", "endpoint", "data",
)  # fmt: skip
# What makes tensors of data; the rest of it runs in processes of their own, which torch would slow.
BATCHES = ("data/heldout.py", "data/loader.py", "data/trees.py")
UNWANTED = {"transformers", "trl", "pickle", "dill", "cloudpickle", "joblib", "omegaconf", "hydra"}
VAGUE = {"util", "utils", "common", "helper", "helpers", "base", "manager", "handler", "misc"}


def part(name: str) -> str:
    """The folder, or the file of the package's own, that a file belongs to."""
    return name.split("/")[0].removesuffix(".py")


def module(name: str) -> str:
    """`train/loop.py` -> `baiwen.train.loop`."""
    return f"baiwen.{name.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    """Every import below a node as a dotted name; `from a import b` is a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)


def brought(tree: ast.AST) -> Iterator[str]:
    """Every import, and what `import_module` is asked for by name."""
    yield from imports(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Name("import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(str(name))],
            ):
                yield name


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def goes_down(name: str, imported: str) -> bool:
    package, _, rest = imported.partition(".")
    if package != "baiwen" or name == "__init__.py":
        return True
    here, there = part(name), rest.split(".")[0]
    if here == there:
        return here != "stages" or name == "stages/__init__.py"  # a stage never sees another
    floor = FLOOR[here]
    return FLOOR[there] < floor or (FLOOR[there] == floor and floor in OPEN)


def test_every_file_stands_on_a_floor():
    assert [name for name in TREES if part(name) not in FLOOR and name != "__init__.py"] == []


def test_imports_go_down():
    found = [(name, other) for name, tree in TREES.items() for other in brought(tree)]
    assert [f"{name} imports {other}" for name, other in found if not goes_down(name, other)] == []


def test_no_modules_import_each_other_in_a_circle():
    known = {module(name) for name in TREES}
    edges = {}
    for name, tree in TREES.items():
        if name not in LAZY:
            found = {i if i in known else i.rpartition(".")[0] for i in imports(tree)}
            edges[module(name)] = found & known - {"baiwen"}
    TopologicalSorter(edges).prepare()  # CycleError names the circle


def test_imports_stand_at_the_top():
    hidden = [
        f"{name}: {function.name} imports {', '.join(imports(function))}"
        for name, tree in TREES.items()
        if name not in LAZY
        for function in functions(tree)
        if any(imports(function))
    ]
    assert hidden == []


def test_nothing_unwanted_is_imported():
    found = [(name, other) for name, tree in TREES.items() for other in imports(tree)]
    assert [pair for pair in found if pair[1].split(".")[0] in {*UNWANTED, ""}] == []


def test_no_pickle_is_read_or_written():
    calls = {"torch.load", "torch.save", "load_state_dict_from_url"}
    found = [
        f"{name}:{node.lineno}: {ast.unparse(node.func)}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (ast.unparse(node.func) in calls or any(k.arg == "allow_pickle" for k in node.keywords))
    ]
    assert found == []


def test_what_needs_no_torch_does_not_import_it():
    names = [name for name in TREES if part(name) in WITHOUT_TORCH and name not in BATCHES]
    modules = [*map(module, names), "baiwen", "baiwen.stages"]
    assert imported_with(modules) & {"torch", "transformers"} == set()


def test_engine_and_stages_start_without_what_compiling_ranks_and_fits_need():
    """A second of every start, each of the first two, and half a one."""
    stages = [module(name) for name in TREES if part(name) == "stages"]
    found = imported_with(["baiwen.engine.engine", *stages])
    assert {"torch", "numpy"} <= found
    assert found & {"torch._dynamo", "torch.distributed.tensor", "scipy"} == set()


def imported_with(modules: list[str]) -> set[str]:
    """The modules that importing `modules` in a fresh process brings in."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(told.stdout))


def test_names_say_what_they_hold():
    files = [name for name in TREES if set(name.removesuffix(".py").split("/")) & VAGUE]
    classes = [
        f"{name}: {node.name}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and {word.lower() for word in re.findall("[A-Z][a-z]+", node.name)} & VAGUE
    ]
    assert files + classes == []


def test_every_module_says_what_it_is():
    assert [name for name, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_a_file_is_read_in_one_sitting():
    assert [name for name, source in SOURCES.items() if source.count("\n") > 400] == []


def test_a_function_is_a_screen():
    lengths = [
        (name, made.name, (made.end_lineno or 0) - made.lineno + 1)
        for name, tree in TREES.items()
        for made in functions(tree)
    ]
    assert [found for found in lengths if found[2] > 80] == []


def test_type_ignores_are_few():
    found = [
        f"{name}:{token.start[0]}"
        for name, source in SOURCES.items()
        if "type: ignore" in source  # which may be no comment
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and "type: ignore" in token.string
    ]
    assert len(found) <= 10, found
