"""Stages: from a recipe's file, or a folder of them in order, to finished run folders.

A stage is a file of this folder with `class Config(Knobs)` and `run(config, folder)`; a recipe
names it, and the stage's configuration checks the rest of the recipe:

    recipes/tiny/5-pretrain.toml    stage = "pretrain", out = "runs/tiny/pretrain", steps = 300

    recipes = load("recipes/tiny", ["seed=1", "pretrain.optim.lr=1e-3"])
    check(recipes)
    for recipe in recipes:
        run(recipe)                 # or says that it is done

A stage may also have `plan(config)`, its figures for `baiwen plan`, and if it trains
`work(config, shape=None)`, from which those of a cluster follow; `check(config, to_come)`, which
stops where it could not run; and `reads(config)`, the paths that it reads beside its Inputs.

A recipe's name is its file's, without the number that orders the folder. An override goes to every
recipe that has the knob, or to the one recipe that it names. Under `torchrun` a stage whose
`Config` sets `every_rank` runs on all ranks; of any other stage rank 0 does the work and the rest
wait.
"""

import importlib
import os
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from baiwen import config, files, log, mistakes
from baiwen.config import Knobs
from baiwen.errors import UserError

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
# Knobs of whatever stage has them that change nothing of what is made, or its rounding alone: how
# many ranks there are is no knob, and a run goes on with others.
FREE = tuple(
    f"parallel.{knob}"
    for knob in (
        *("activation_checkpointing", "compile", "timeout"),
        *("replicate", "context", "context_form", "tensor", "expert"),
    )
)


@dataclass(frozen=True)
class Recipe:
    """One checked recipe: where it stands, which stage runs it, with which knobs."""

    path: Path
    name: str
    stage: str
    config: Any  # the stage's own Config, which has `out`

    @property
    def out(self) -> Path:
        """The run folder."""
        return self.config.out

    @property
    def resolved(self) -> dict[str, Any]:
        """The whole recipe, defaults included, as plain JSON values."""
        return {"stage": self.stage, **config.resolved(self.config)}

    @property
    def free(self) -> Sequence[str]:
        """Its knobs that change nothing of what is made: a run goes on with others."""
        return (*getattr(self.config, "free", ()), *FREE)

    @property
    def module(self) -> ModuleType:
        """The stage's module: Config, run, and plan, check and reads where it has them."""
        return _module(self.stage)


def load(path: Path | str, overrides: Sequence[str] = ()) -> list[Recipe]:
    """The recipe at `path`, or all of a folder in the order of their numbers, with overrides.

    Errors of all recipes come as one `UserError`; nothing is run or written.
    """
    sources = _sources(Path(path))
    raws = {source: config.read(source) for source in sources}
    modules = {source: _module(_stage(raw, source)) for source, raw in raws.items()}
    given = _share_out(overrides, {source: module.Config for source, module in modules.items()})
    recipes, told = [], []
    for source, raw in raws.items():
        knobs = {key: value for key, value in raw.items() if key != "stage"}
        knobs = config.override(knobs, given[source])
        try:
            parsed = config.parse(knobs, modules[source].Config, source, given[source])
            recipes.append(Recipe(source, _name(source), raw["stage"], parsed))
        except UserError as error:
            told.append(str(error))
    if told:
        raise UserError("\n".join(told))
    _refuse_shared_outs(recipes)
    return recipes


def check(recipes: Sequence[Recipe]) -> None:
    """Stop unless all recipes can run, or are done, with what they read as it is now.

    An input exists, or an earlier recipe is yet to fill the folder it lies in; what a finished run
    has read may be gone, but not have another content. No folder holds a run of another recipe.
    """
    told, to_come, others = [], list[Path](), list[Path]()
    for recipe in recipes:
        done = False
        try:
            inputs = _inputs(recipe, to_come)
            done = files.look(recipe.out, recipe.resolved, inputs, recipe.free).done
        except UserError as error:
            told.append(f"{recipe.path}: {error}")
            others += [recipe.out] if isinstance(error, files.OtherRunError) else []
        if not done:
            told += _missing(recipe, to_come)
            to_come.append(recipe.out)
    if told:
        raise UserError("\n".join([*told, *_following(recipes, others)]))


def run(recipe: Recipe) -> bool:
    """Run one recipe into its run folder, resume it, or say that it is done; whether it was not."""
    follower = int(os.environ.get("RANK", "0")) > 0
    inputs = {} if follower else _inputs(recipe)
    made = False
    if not follower or getattr(recipe.config, "every_rank", False):
        with files.run_folder(recipe.out, recipe.resolved, inputs, recipe.free) as folder:
            if not folder.done:
                config.require(recipe.config, recipe.path)
                _announce(f"{'resume' if folder.resumable else 'run'}: {recipe.path}", follower)
                if folder.replaces:
                    told = f"{folder.path} was another recipe's, which left nothing to go on from"
                    _announce(told, follower)
                recipe.module.run(recipe.config, folder)
                made = not follower
    while follower and not files.complete(recipe.out):
        time.sleep(0.2)  # the next recipe may read what rank 0 is still writing
    record = files.read_json(recipe.out / "run.json")
    _announce(f"done: {recipe.out} ({record['seconds']:.0f} s, {record['finished']})", follower)
    for key in files.changed(recipe.out, inputs):
        told = f"note: {key} was written after {recipe.out} was made; delete that to make it again"
        _announce(told, follower)
    return made


def _reads(recipe: Recipe) -> dict[str, list[Path]]:
    """The paths of all that a recipe reads, by key."""
    paths = {key: [path] for key, path in config.inputs(recipe.config)}
    return paths | (recipe.module.reads(recipe.config) if hasattr(recipe.module, "reads") else {})


def _inputs(recipe: Recipe, to_come: Sequence[Path] = ()) -> dict[str, str]:
    """The content of all that a recipe reads, as far as it is there and no recipe changes it."""
    found = {
        key: files.fingerprint(paths)
        for key, paths in _reads(recipe).items()
        if not _below(paths, to_come)
    }
    return {key: content for key, content in found.items() if content is not None}


def _missing(recipe: Recipe, to_come: Sequence[Path]) -> Iterator[str]:
    """What a recipe that is not done needs and does not find."""
    try:
        config.require(recipe.config, recipe.path, unless_below=to_come)
    except UserError as error:
        yield str(error)
    try:
        if hasattr(recipe.module, "check"):
            recipe.module.check(recipe.config, to_come)
    except UserError as error:
        yield f"{recipe.path}: {error}"


def _following(recipes: Sequence[Recipe], others: Sequence[Path]) -> Iterator[str]:
    """A line that starts over the runs in the folders `others` and those that read of them."""
    again = list(others)
    for recipe in recipes:
        paths = [path for of_key in _reads(recipe).values() for path in of_key]
        if recipe.out not in again and recipe.out.exists() and _below(paths, again):
            again.append(recipe.out)
    if len(again) > len(others):
        command = shlex.join(["rm", "-r", *map(str, again)])
        yield f"what was made of it has to be made again too; to start all of it over: {command}"


def _below(paths: Sequence[Path], folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for path in paths for folder in folders)


def _announce(text: str, follower: bool) -> None:
    if not follower:
        log.say(text)


def _sources(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(mistakes.missing("recipe, or folder of recipes,", path))
    found = sorted(path.glob("*.toml"), key=lambda source: (_number(source), source.name))
    if not found:
        folders = sorted({str(source.parent) for source in path.glob("*/*.toml")})
        hint = f"; there are some in {', '.join(folders)}" if folders else ""
        raise UserError(f"{path}: holds no recipe (NAME.toml){hint}")
    return found


def _number(source: Path) -> int:
    digits = re.match(r"\d*", source.stem)
    return int(digits[0]) if digits and digits[0] else 0


def _name(source: Path) -> str:
    return re.sub(r"^\d+-", "", source.stem)


def _stage(raw: dict[str, Any], source: Path) -> str:
    if "stage" not in raw:
        raise UserError(f"{source}: stage is missing: name one of {', '.join(NAMES)}")
    stage = raw["stage"]
    if stage not in NAMES:
        hint = mistakes.nearest(str(stage), NAMES)
        place = mistakes.at(source, ("stage",))
        raise UserError(
            f"{place}: there is no stage {stage!r}.{hint}\n    stages: {', '.join(NAMES)}"
        )
    return stage


def _module(stage: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{stage}")


def _share_out(overrides: Sequence[str], configs: dict[Path, type[Knobs]]) -> dict[Path, list[str]]:
    """Which overrides go to which recipe; one that goes to none is a `UserError`."""
    given: dict[Path, list[str]] = {source: [] for source in configs}
    for assignment in overrides:
        names, _ = mistakes.split(assignment)
        named = [source for source in configs if len(names) > 1 and _name(source) == names[0]]
        if named:
            given[named[0]].append(mistakes.behind_recipe(assignment))
            continue
        takers = [source for source, table in configs.items() if config.has(table, names)]
        if not takers and len(configs) > 1:
            known = {name for table in configs.values() for name in table.model_fields}
            hint = mistakes.nearest(names[0], sorted(known | {_name(source) for source in configs}))
            raise UserError(f"{assignment}: no recipe of the folder has {'.'.join(names)}.{hint}")
        for source in takers or configs:  # one recipe alone: its own error names the knobs it has
            given[source].append(assignment)
    return given


def _refuse_shared_outs(recipes: Sequence[Recipe]) -> None:
    owners: dict[Path, Recipe] = {}
    for recipe in recipes:
        owner = owners.setdefault(recipe.out.absolute(), recipe)
        if owner is not recipe:
            raise UserError(f"{recipe.path}: out = {recipe.out} is also that of {owner.path}")
