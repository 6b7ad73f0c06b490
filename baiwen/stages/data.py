"""Documents through a pipeline: filtered, without duplicates, scored, split, parted by domain.

Reads the corpus (the standard library of the Python that runs it, or files, folders, globs and URLs
of your own) and extra documents (report, section 3.1), and takes them through steps, which
are `STEPS` below. Writes, in its folder,

    documents-DOMAIN-00000.jsonl.zst    {"id", "text", "meta"}: to train on
    heldout.jsonl.zst                   to measure on, chosen by hash
    dropped-00000.jsonl.zst             the rest, each with its verdict: step, rule, value, bound
    data.json                           what became of how many documents, step by step
    parts/                              documents as they were read, and what each step found

Killed anywhere it goes on where it was. `baiwen data explain ID` tells a document's whole life.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from baiwen import files, log, mistakes
from baiwen.config import Count, Input, Knobs, Share
from baiwen.data import balance, domains, filters, quality, sources, split, writers
from baiwen.data.classifier import apply
from baiwen.data.classifier.apply import Classify
from baiwen.data.contamination.decontaminate import Decontaminate, coverage, decontaminate
from baiwen.data.dedup import exact, lines, near
from baiwen.data.dedup.exact import Exact
from baiwen.data.dedup.lines import Lines
from baiwen.data.dedup.near import Near
from baiwen.data.domains import Assign
from baiwen.data.filters import Setting, Settings, c4, known
from baiwen.data.filters.c4 import Lines as Sentences
from baiwen.data.filters.privacy import Privacy, mask
from baiwen.data.language import Language, identify
from baiwen.data.pipeline import checks, engines, keys
from baiwen.data.pipeline.card import Manifests, card, dropped, funnel, scores
from baiwen.data.pipeline.census import Census, added, census
from baiwen.data.pipeline.ending import HELDOUT, Ended, Ending
from baiwen.data.pipeline.engines import Engine, Work
from baiwen.data.pipeline.reading import CORPUS, read_all
from baiwen.data.pipeline.run import Done, Run, manifests, run_steps, sweep, write_steps
from baiwen.data.pipeline.sidecar import DOCUMENTS, PARTS, READ
from baiwen.data.pipeline.step import Global, Map, Step
from baiwen.data.quality import Quality
from baiwen.data.rates import Balance
from baiwen.data.read import Chunk, Reading
from baiwen.errors import UserError

READS = ("text", "domain", "language", "meta")  # what filters look at
Name = Annotated[str, Field(pattern=r"^\w[\w.]*$")]


class Extra(Knobs):
    """Further documents that are a source of their own."""

    name: Name  # of the source in the mixture
    path: Input  # a file or folder of documents
    steps: tuple[str, ...] = ("exact", "decontaminate")  # that see them

    @field_validator("steps")
    @classmethod
    def _there(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _steps(value)


class Config(Knobs):
    """What to read, the steps it goes through, and what each of them keeps."""

    out: Path  # the run folder
    corpus: str | tuple[str, ...] = "stdlib"  # "stdlib", or paths, folders, globs and URLs
    extra: tuple[Extra, ...] = ()  # further sources, each with a name and a path
    reading: Reading = Reading()
    max_bytes: Count | None = None  # bytes of text of the corpus that are read; none: all
    max_unreadable: Share = 0.01  # share of documents that may fail to be read or worked on
    steps: tuple[str, ...] = ("heuristics", "exact")  # in this order; each has its table below
    language: Language = Language()
    # Thresholds of filters (baiwen/data/filters/) by name, or false for off; all others run with
    # their published ones.
    filters: dict[str, Setting] | None = None
    sentences: Sentences = Sentences()
    mask: Privacy = Privacy()
    exact: Exact = Exact()
    lines: Lines = Lines()
    near: Near = Near()
    classify: Classify | None = None  # whose scores the step of that name gives
    quality: tuple[Quality, ...] = ()  # rules on scores, in order
    domain: Assign = Assign()
    decontaminate: Decontaminate | None = None  # against what
    balance: Balance = Balance()  # of the step `mixture`
    heldout_share: Share = 0.02  # of the documents, by hash
    heldout_bytes: Annotated[int, Field(ge=0)] = 4 << 20  # bytes of text held out at most
    reuse: tuple[Input, ...] = ()  # data runs whose findings are taken over where nothing changed
    engine: Engine = "local"  # processes of this machine; daft: the same by Daft; ray: a cluster
    workers: Annotated[int, Field(ge=0)] = 0  # processes; 0: one a core

    free: ClassVar = ("engine", "workers")  # of which not one byte depends

    @field_validator("filters")
    @classmethod
    def _known(cls, value: Settings | None) -> Settings | None:
        return known(value) if value else value

    @field_validator("steps")
    @classmethod
    def _there(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _steps(value)

    @field_validator("extra")
    @classmethod
    def _apart(cls, value: tuple[Extra, ...]) -> tuple[Extra, ...]:
        names = [CORPUS, *(one.name for one in value)]
        for name in names[1:]:
            if names.count(name) > 1:
                raise UserError(f"two sources are called {name!r}: give each a name of its own")
        return value

    @model_validator(mode="after")
    def _tables(self) -> Self:
        for name, table in KNOBS.items():
            if name in NEEDED and name in self.steps and not getattr(self, table):
                raise UserError(f"steps has {name!r}, but there is no [{table}]")
            if table in self.model_fields_set and name not in self.steps and getattr(self, table):
                raise UserError(f"[{table}] is given, but steps has no {name!r}")
        return self


def _steps(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of steps, if they are; a `UserError` names one that is not, or is there twice."""
    for name in names:
        if name not in STEPS:
            hint = mistakes.nearest(name, list(STEPS))
            raise UserError(f"there is no step {name!r}.{hint} There are: {', '.join(STEPS)}.")
        if names.count(name) > 1:
            raise UserError(f"the step {name!r} is there twice")
    return names


# The pipeline: what each step of a recipe is made of, a line each. `heldout` comes by itself.
STEPS: dict[str, Callable[[Config], Sequence[Step]]] = {
    "language": lambda c: [
        Map("language", partial(identify, knobs=c.language), ("text", "domain"))
    ],
    "heuristics": lambda c: [_heuristics(c.filters or {})],
    "sentences": lambda c: [Map("sentences", partial(c4.lines, knobs=c.sentences), READS)],
    "mask": lambda c: [Map("mask", partial(mask, knobs=c.mask))],
    "exact": lambda c: exact.steps(c.exact),
    "lines": lambda c: lines.steps(c.lines),
    "near": lambda c: near.steps(c.near),
    "classify": lambda c: apply.steps(c.classify) if c.classify else (),
    "quality": lambda c: quality.steps(c.quality),
    "domain": lambda c: domains.steps(c.domain),
    "decontaminate": lambda c: [_decontaminate(c.decontaminate)] if c.decontaminate else (),
    "mixture": lambda c: balance.steps(c.balance),
}
KNOBS = {name: name for name in STEPS} | {"heuristics": "filters", "mixture": "balance"}  # tables
NEEDED = ("classify", "quality", "decontaminate")  # steps that do nothing without theirs
LAST = "mixture"  # comes after what is held out, so that it is measured on as it is


def pipeline(config: Config) -> dict[str, Sequence[Step]]:
    """The steps of a recipe in order, by the names that it gives them."""
    share, most = config.heldout_share, config.heldout_bytes
    held = Global(HELDOUT, partial(split.held_out, share=share, most=most), split.READS)
    before = {name: STEPS[name](config) for name in config.steps if name != LAST}
    after = {LAST: STEPS[LAST](config)} if LAST in config.steps else {}
    return {**before, HELDOUT: [held], **after}


def _heuristics(settings: Settings) -> Map:
    lists = tuple(filters.files(settings))
    return Map("heuristics", partial(filters.heuristics, settings=settings), READS, lists)


def _decontaminate(knobs: Decontaminate) -> Map:
    tests = files.fingerprint(list(knobs.against)) or ""
    return Map("decontaminate", partial(decontaminate, knobs=knobs, tests=tests))


def run(config: Config, folder: files.RunFolder) -> None:
    """Read, take through the steps, and write what is kept, held out and dropped."""
    for line in coverage(config.decontaminate) if config.decontaminate else ():
        log.say(f"decontaminate: {line}")
    files.write(folder.path / "state" / "begun", "")  # from here on there is something to lose
    with engines.opened(config.engine, config.workers) as work:
        made, ended, count = _worked(config, folder.path, work)
        counting = partial(census, ended=ended, scores=scores(made))
        counted: list[Census] = []
        census_of = log.track(work(counting, range(count)), "count", count, "parts")
        whole = added(_noted(census_of, counted))
        checks.check_kept(whole, list(_sources(config)))
        findings = keys.key({step: [one.digest for one in parts] for step, parts in made.items()})
        writers.write_all(ended, counted, findings, work)
    files.write_json(folder.path / "data.json", card(whole, made) | _mixture(ended, count))
    _report(made)


def _noted(census_of: Iterable[Census], counted: list[Census]) -> Iterator[Census]:
    """Each part's census, of which `counted` gets what says which files it goes into."""
    for one in census_of:
        counted.append(Census(one.kept, one.heldout, one.dropped))
        yield one


def _mixture(ended: Ended, count: int) -> dict[str, Any]:
    """The card's table of the mixture before and after, where that is a step."""
    if LAST not in ended.steps:
        return {}
    counted = [balance.TOKENS] if balance.TOKENS.partition(".")[0] in ended.steps else []
    columns = [*balance.READS, balance.COPIES, *counted]
    parts = (Ending(ended, number) for number in range(count))
    return {LAST: balance.mixture(part.table(columns, part.alive | True) for part in parts)}


def _worked(config: Config, folder: Path, work: Work) -> tuple[Manifests, Ended, int]:
    """Read and take through the steps: their manifests, the run, and the number of its parts."""
    named = pipeline(config)
    steps = [step for of_name in named.values() for step in of_name]
    hidden = _hidden(config, named)
    chunks = _sources(config)
    count = read_all(folder, chunks, work, config.max_bytes, config.reuse)
    checks.check_sources(folder, _check(config, folder, (), count), list(chunks))
    write_steps(folder, steps, hidden)
    with files.Ledger(folder / "logs" / "steps.jsonl") as spent:
        for done in run_steps(steps, Run(folder, config.reuse, hidden), count, work):
            _tell(done, spent)
    names = tuple(step.name for step in steps)
    made = _check(config, folder, names, count)
    sweep(folder, steps, count)
    return made, Ended(folder, names, hidden), count


def check(config: Config, to_come: Sequence[Path]) -> None:
    """Stop unless the corpus and `reuse` are; what lies in the folders `to_come` is not missed."""
    sources.check(_places(config), to_come)
    for other in config.reuse:
        if other.is_dir() and other not in to_come and not (other / PARTS).is_dir():
            raise UserError(f"reuse: {other} holds no run of the stage `data`: it has no {PARTS}/")


def reads(config: Config) -> dict[str, list[Path]]:
    """The files of the corpus, where it is not the standard library."""
    found = sources.local(_places(config))
    return {"corpus": found} if found else {}


def plan(config: Config) -> dict[str, str | int]:
    """How much there is to read."""
    return sources.plan(_places(config), [one.path for one in config.extra])


def _sources(config: Config) -> dict[str, Iterator[Chunk]]:
    """What there is to read, by source: the corpus, then extra documents."""
    extra = {one.name: sources.extra(one.path, one.name, config.reading) for one in config.extra}
    return {CORPUS: sources.chunks(_places(config), config.reading), **extra}


def _places(config: Config) -> tuple[str, ...]:
    return (config.corpus,) if isinstance(config.corpus, str) else config.corpus


def _hidden(config: Config, named: Mapping[str, Sequence[Step]]) -> dict[str, tuple[str, ...]]:
    """Which sources each step does not see: extra ones that do not name it."""
    blind = {
        name: tuple(one.name for one in config.extra if name not in (*one.steps, HELDOUT))
        for name in named
    }
    return {step.name: blind[name] for name, steps in named.items() for step in steps}


def _check(config: Config, folder: Path, steps: Sequence[str], count: int) -> Manifests:
    """The manifests of the steps, which must not have failed on too many documents."""
    made = manifests(folder, (DOCUMENTS, READ, *steps), count)
    checks.check_failed(folder, made, config.max_unreadable)
    return made


def _tell(done: Done, spent: files.Ledger) -> None:
    """Record the CPU seconds of a part's steps, and say on which documents one failed."""
    for step, seconds in done.seconds.items():
        spent.add(f"{step}/{done.number}", {"step": step, "cpu_seconds": round(seconds, 3)})
    for line in done.told:
        log.say(line)


def _report(made: Manifests) -> None:
    for step, parts in made.items():
        if step != DOCUMENTS:
            found = funnel(step, parts)
            told = ", ".join(f"{rule} {n['documents']:,}" for rule, n in dropped(parts).items())
            log.say(f"{step}: {found['in']:,} -> {found['out']:,} documents  {told}".rstrip())
