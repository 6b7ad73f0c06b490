"""Evaluation of any checkpoints: accuracy by task, bits per byte, what they find in long texts.

Reads the held-out questions of `instruct` and the held-out documents of `data`; writes

    samples-MODEL-FORM.jsonl     every question: prompt, answer, truth, verdict
    compression-MODEL.json       bits per byte beside gzip and xz, by source
    long-MODEL-FORM.jsonl        every long prompt: what was asked, answer, truth, marks
    long-MODEL.json              their means by task, length and depth, and how the model was read
    scores.json                  {"models": {MODEL: {"form", "tasks", "forms", "compression",
                                                     "long"}},
                                  "differences": {"sft - base": {"all": {...}, KIND: {...}}}}

A model's score is that of the better of its forms; both stand in `scores.json`. What an interrupted
run has finished, a model in a form, lies in `state/` and is not done again.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from baiwen import config as recipes
from baiwen import dist, files, log
from baiwen.config import Count, Input, Knobs
from baiwen.data import read
from baiwen.engine import pretrained
from baiwen.engine.engine import Engine
from baiwen.errors import UserError
from baiwen.eval import compression, tasks
from baiwen.eval.long import haystack, suite
from baiwen.eval.long.suite import Long
from baiwen.eval.reading import Reading
from baiwen.instruct.task import document
from baiwen.model import weights
from baiwen.verify import Verdict

FormName = Literal["chat", "document"]
Name = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]  # part of a file's name
COMMAND = "the command line"  # where knobs come from that no recipe gives
DEVICE = r"^(auto|cpu|cuda(:\d+)?)$"


class Model(Reading):
    """A checkpoint, and how it is asked."""

    folder: Input  # an HF folder
    # chat: the protocol; document: plain text, a task with shots before it; both: the better counts
    forms: Annotated[tuple[FormName, ...], Field(min_length=1)] = ("chat",)


class Config(Knobs):
    """What to measure on which checkpoints."""

    out: Path  # the run folder
    models: dict[Name, Model]  # by the name they have in the report
    tasks: Input | None = None  # held-out questions, heldout.jsonl of `instruct`
    questions: Count | None = None  # how many of each kind; default all
    max_tokens: Count = 96  # of an answer
    shots_from: Input | None = None  # train.jsonl of `instruct`; the form "document" needs it
    shots: Annotated[int, Field(ge=0)] = 4  # solved instances before a question; report: 0 to 25
    documents: Input | None = None  # held-out documents, heldout.jsonl.zst of `data`
    characters: Count = 1_000_000  # of held-out documents, to the next whole one
    long: Long | None = None  # what they find in texts of given lengths
    seed: int = 0  # of the draw of shots, documents and long texts
    device: Annotated[str, Field(pattern=DEVICE)] = "auto"  # auto, cpu, cuda, cuda:N
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of weights and matmuls

    @model_validator(mode="after")
    def _whole(self) -> Self:
        asked = {form for model in self.models.values() for form in model.forms}
        if self.tasks and "document" in asked and self.shots_from is None:
            raise ValueError('the form "document" needs shots_from, train.jsonl of `instruct`')
        return self


def check(config: Config, to_come: Sequence[Path]) -> None:
    """Stop unless there are long texts to read; what lies in `to_come` is not looked for."""
    place = _place(config)
    if place and not any(place.is_relative_to(folder) for folder in to_come):
        try:
            read.find([place])
        except UserError as error:
            raise UserError(f"long.haystack: {error}") from error


def reads(config: Config) -> dict[str, list[Path]]:
    """The files of the long texts."""
    place = _place(config)
    try:
        return {"long.haystack": read.local(read.find([place]))} if place else {}
    except UserError:
        return {}  # gone since the run, or not there yet: `check` tells where it has to be


def run(config: Config, folder: files.RunFolder) -> None:
    """Measure every model, then the paired difference of each two."""
    models: dict[str, dict[str, Any]] = {}
    samples: dict[str, list[tasks.Sample]] = {}
    parts = folder.path / "state"
    _require(config, parts)
    for name, model in config.models.items():
        models[name], samples[name] = _measure(config, name, model, parts)
        log.say(_told(name, models[name]))
    for part in sorted(parts.glob("*.json*")):
        shutil.copyfile(part, folder.path / part.name)
    differences = {
        f"{after} - {before}": tasks.difference(samples[after], samples[before])
        for before, after in combinations(samples, 2)
        if config.tasks
    }
    files.write_json(folder.path / "scores.json", {"models": models, "differences": differences})


def score_model(
    folder: Path,
    tasks: Path | None = None,
    documents: Path | None = None,
    reading: Mapping[str, Any] | None = None,
    **knobs: Any,  # noqa: ANN401 - those of Config
) -> dict[str, Any]:
    """One model's entry of `scores.json`; nothing is written. For `baiwen eval MODEL`.

    reading: the knobs of `Model` that are not its folder.
    """
    given = {"tasks": tasks, "documents": documents, **knobs}
    models = {"model": {"folder": folder, **(reading or {})}}
    config = recipes.parse({"out": folder, "models": models, **given}, Config, COMMAND)
    recipes.require(config, COMMAND)
    _require(config, parts=None)
    return _measure(config, "model", config.models["model"], keep=None)[0]


class Subject:
    """A checkpoint under test, loaded when the first thing is asked of it."""

    def __init__(self, model: Model, device: str, dtype: str) -> None:
        self.model = model
        self.device, self.dtype = dist.place(device, dtype)

    @cached_property
    def engine(self) -> Engine:
        """The checkpoint, ready to answer."""
        knobs = self.model.knobs(weights.read_config(self.model.folder))
        loaded = pretrained.load(self.model.folder, self.device, self.dtype)
        return Engine(*loaded, **knobs)


def _measure(
    config: Config, name: str, model: Model, keep: Path | None
) -> tuple[dict[str, Any], list[tasks.Sample]]:
    """The model's scores, and the samples of its better form; finished parts lie in `keep`."""
    subject = Subject(model, config.device, config.dtype)
    scores: dict[str, Any] = {"folder": str(model.folder)}
    best: list[tasks.Sample] = []
    if config.tasks:
        samples = {}
        for form in model.forms:
            path = keep / f"samples-{name}-{form}.jsonl" if keep else None
            samples[form] = _samples(config, subject, form, path)
        forms = {form: tasks.score(found) for form, found in samples.items()}
        form = max(model.forms, key=lambda form: forms[form]["all"]["accuracy"])
        scores |= {"form": form, "tasks": forms[form], "forms": forms}
        best = samples[form]
    if config.documents:
        path = keep / f"compression-{name}.json" if keep else None
        scores["compression"] = _once(path, lambda: _compression(config, subject.engine))
    if config.long:
        path = keep / f"long-{name}.json" if keep else None
        scores["long"] = _once(path, lambda: _long(config, subject.engine, name, keep))
    return scores, best


def _samples(
    config: Config, subject: Subject, form: FormName, path: Path | None
) -> list[tasks.Sample]:
    """The samples of an earlier run where `path` has them, else new ones."""
    if path and path.is_file():
        rows = files.read_jsonl(path)
        return [tasks.Sample(**row | {"verdict": Verdict(row["verdict"])}) for row in rows]
    samples = list(_ask(config, subject.engine, form))
    if path:
        with files.jsonl_writer(path) as write:
            for sample in samples:
                write(asdict(sample))
    return samples


def _once(path: Path | None, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures of an earlier run where `path` has them, else measured."""
    if path and path.is_file():
        return dict(files.read_json(path))
    result = measure()
    if path:
        files.write_json(path, result)
    return result


def _compression(config: Config, engine: Engine) -> dict[str, Any]:
    return compression.measure(engine.model, engine.tokenizer, _documents(config))


def _long(config: Config, engine: Engine, name: str, keep: Path | None) -> dict[str, Any]:
    assert config.long
    forms = config.models[name].forms
    return suite.measure(engine, config.long, forms, config.seed, name, keep)


def _require(config: Config, parts: Path | None) -> None:
    """Stop before anything is computed where a question or a long text cannot be asked."""
    if config.tasks:
        _questions(config)
    for name, model in config.models.items():
        if config.long and not (parts and (parts / f"long-{name}.json").is_file()):
            shape = weights.read_config(model.folder)
            model.knobs(shape)  # which complains of patterns that are another model's
            suite.require(config.long, name, model.reach(shape).context)


def _place(config: Config) -> Path | None:
    """Where the long texts lie, if they are files."""
    bundled = config.long is None or config.long.haystack in (haystack.BUNDLED, haystack.NOISE)
    return None if bundled or config.long is None else Path(config.long.haystack)


def _ask(config: Config, engine: Engine, form: FormName) -> Iterable[tasks.Sample]:
    if form == "chat":
        way = tasks.chat(engine.tokenizer)
    else:
        assert config.shots_from  # checked with the recipe
        rows = tasks.rows(config.shots_from, "messages", "kind")
        shots = tasks.draw_shots(rows, document, config.shots, config.seed)
        room = engine.model.config.max_position_embeddings - config.max_tokens
        way = tasks.few_shot(engine.tokenizer, document, shots, room)
    return tasks.answer(engine, _questions(config), way, config.max_tokens)


def _questions(config: Config) -> list[tasks.Question]:
    assert config.tasks
    by_kind: dict[str, list[tasks.Question]] = defaultdict(list)
    for asked in tasks.questions(config.tasks):
        by_kind[asked.kind].append(asked)
    if not by_kind:
        raise UserError(f"tasks = {config.tasks} holds no question")
    return [asked for of_kind in by_kind.values() for asked in of_kind[: config.questions]]


def _documents(config: Config) -> list[compression.Document]:
    assert config.documents
    found = [asked for asked in read.documents(read.find([config.documents])) if asked.text]
    if not found:
        raise UserError(f"documents = {config.documents} holds no document")
    Random(config.seed).shuffle(found)
    chosen, room = [], config.characters
    for asked in found:
        if room <= 0:
            break
        chosen.append(compression.Document(asked.text, asked.domain))
        room -= len(asked.text)
    return chosen


def _told(name: str, scores: dict[str, Any]) -> str:
    """One line for the log."""
    parts = []
    if "tasks" in scores:
        every = scores["tasks"]["all"]
        interval = f"{every['low']:.1%} to {every['high']:.1%}, n = {every['n']}"
        parts.append(f"{every['accuracy']:.1%} right ({interval}, as {scores['form']})")
    if "compression" in scores:
        every = scores["compression"]["all"]
        parts.append(f"{every['bits_per_byte']:.3f} bits per byte (xz {every['xz']:.3f})")
    if "long" in scores:
        found = scores["long"]["tasks"].items()
        parts += [f"{task} {score['all']['strict']['value']:.1%}" for task, score in found]
    return f"{name}: {', '.join(parts) or 'nothing to measure'}"
