"""The documents keep to the code: every block of every page runs, parses or is found in its file.

```python               runs, after the blocks above it on its page, beside a small `runs/tiny`
```toml                 is a whole recipe, which its stage accepts
```sh  ```console       every command of ours parses, every target and path exists
```LANGUAGE PATH        is an excerpt of that file, line for line (`...` leaves lines out)
```text                 is for the eye
"""

import ast
import re
import shlex
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

import baiwen
from baiwen import cli, stages
from baiwen.commands import show
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe, template

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
}
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHERS = {"source", "printf"}  # commands that are not ours, shown beside ours
FOLDERS = ("baiwen", "tests", "recipes", "docs", "benchmarks")

every_page = pytest.mark.parametrize("page", PAGES)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is an excerpt of, its lines."""

    language: str
    excerpt_of: str
    text: str


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page in these languages that are no excerpts."""
    return [
        block for block in all_blocks(page) if block.language in languages and not block.excerpt_of
    ]


def all_blocks(page: str) -> list[Block]:
    found = [(info.partition(" "), text) for info, text in BLOCK.findall(PAGES[page])]
    return [Block(language, path.strip(), text) for (language, _, path), text in found]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/tiny/sft`: a random model of two layers, with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("docs")
    tokenizer = bpe.train([template.DEFAULT_SYSTEM, "def f(x): return x"] * 4, vocab_size=300)
    shape = replace(
        SIZES["tiny"],
        num_hidden_layers=2,
        vocab_size=384,
        bos_token_id=tokenizer.end_of_text,
        eos_token_id=tokenizer.end_of_turn,
    )
    model = Transformer(shape)
    model.init_weights(seed=0)
    baiwen.save(model, tokenizer, folder / "runs/tiny/sft")
    return folder


# Code.


@every_page
def test_python_runs(page, home, monkeypatch):
    monkeypatch.chdir(home)
    namespace: dict[str, object] = {}
    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block.text, f"{page}, Python block {number}", "exec"), namespace)


@every_page
def test_recipes_are_accepted(page, tmp_path):
    for number, block in enumerate(blocks(page, "toml"), start=1):
        recipe = tmp_path / f"{number}.toml"
        recipe.write_text(block.text)
        assert len(stages.load(recipe)) == 1


@every_page
def test_excerpts_are_in_their_files(page):
    for block in all_blocks(page):
        if block.excerpt_of:
            lines = [line.strip() for line in (ROOT / block.excerpt_of).read_text().splitlines()]
            text = "\n".join(lines)
            for part in re.split(r"^\s*(?:# )?\.\.\.\s*$", block.text, flags=re.MULTILINE):
                wanted = "\n".join(line.strip() for line in part.strip().splitlines())
                assert wanted in text, f"{block.excerpt_of} has no longer:\n{part}"


@every_page
def test_blocks_have_a_known_language(page):
    known = {"python", "toml", "sh", "console", "text", "json"}
    assert {block.language for block in all_blocks(page)} <= known


# Commands.


def commands(page: str) -> list[list[str]]:
    """Every simple command of the page's shell blocks, as words, without what it redirects."""
    lines = []
    for block in blocks(page, "sh", "console"):
        text = block.text.replace("\\\n", " ")
        if block.language == "console":
            prompts = [line for line in text.splitlines() if line.startswith("$ ")]
            text = "\n".join(line.removeprefix("$ ") for line in prompts)
        lines += text.splitlines()
    parts = [part for line in lines for part in re.split(r"\s(?:\||&&)\s", line)]
    words = [shlex.split(part, comments=True) for part in parts]
    return [strip_settings(found) for found in words if found]


def strip_settings(words: list[str]) -> list[str]:
    """A command without the variables that are set for it, and without torchrun around it."""
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if words[0] == "torchrun":
        words = words[words.index("-m") + 1 :]
    return words


@every_page
def test_commands_parse(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for name, *arguments in commands(page):
        if name == "baiwen":
            check_ours(arguments)
        elif name == "make":
            targets = [word for word in arguments if "=" not in word]
            makefile = (ROOT / "Makefile").read_text()
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
        elif name.endswith("python") or name == "python":
            assert all((ROOT / word).exists() for word in arguments if word.endswith(".py"))
        else:
            assert name in OTHERS, f"{page} shows {name}, which nothing here knows"


def check_ours(arguments: list[str]) -> None:
    options = cli._parse(arguments)
    if options.command in ("run", "plan"):
        assert options.recipe is None or stages.load(options.recipe, options.overrides)
    elif options.command == "show":
        assert options.stage is None or options.stage in stages.NAMES
    elif options.command in ("chat", "eval"):
        made = {recipe.out.as_posix() for recipe in stages.load("recipes/tiny")}
        assert options.model.removesuffix("/best") in made or options.model.isupper()


# Names: paths, links, functions, knobs.


@every_page
def test_paths_exist(page):
    words = re.findall(r"`([\w./-]+)`", PAGES[page])
    paths = [word for word in words if "/" in word and word.split("/")[0] in FOLDERS]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@every_page
def test_links_resolve(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", PAGES[page])):
        place, _, anchor = target.partition("#")
        if place.startswith(("http://", "https://")):
            continue
        path = ((ROOT / page).parent / place).resolve() if place else ROOT / page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


@cache
def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_functions_exist(page):
    """`baiwen/train/loop.py:train` names something that is defined there."""
    named = re.findall(r"`([\w/]+\.py):(\w+(?:\.\w+)?)`", PAGES[page])
    assert [f"{path}:{name}" for path, name in named if name not in defined(ROOT / path)] == []


@cache
def defined(path: Path) -> set[str]:
    """The names of a module and, with a dot, of its classes."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        own = own_names(node)
        names |= own
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner}" for item in node.body for inner in own_names(item)}
    return names


def own_names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    return {
        name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
    }


@pytest.mark.parametrize("stage", stages.NAMES)
def test_every_stage_has_a_page_with_its_own_defaults(stage):
    """A row `| `knob` | `default` | ...` of a stage's page says what the source says."""
    rows = re.findall(r"^\| `([\w.\[\]]+)` \| `([^`]*)` \|", PAGES[f"docs/stages/{stage}.md"], re.M)
    real = {knob.key: knob.default or "required" for knob in show.knobs(stage)}
    assert rows
    assert {key: default for key, default in rows if real.get(key) != default} == {}
