"""Synthetic long-range documents and conversations (Qwen2.5-1M report, section 3.2; spec 5, 10).

    stage = "synthesize"
    out = "runs/mine/synthesize"
    documents = "runs/mine/data"
    tokenizer = "runs/mine/tokenizer"
    lengths = [[16_384, 32_768]]     # tokens

Reads the folders of data stages and a tokenizer. Writes, in its folder,

    documents-longrange-00000.jsonl.zst    {"id", "text", "meta"}: a source for `shards`
    conversations.jsonl.zst                {"messages", "kind", "answer", "verifier"}: for `sft`
    data.json                              documents and bytes, as the stage `data` says it
    exercises.json                         how many of each kind, and why how many fell out

Each is made of a text of the user's own that is as long as asked for: documents that are too short
are joined with others of their domain (`baiwen/data/longrange`). Processes make them; the same
recipe writes the same bytes, however many there are and wherever a run was killed.
"""

import itertools
import shutil
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from baiwen import files, log
from baiwen.config import Count, Input, Inputs, Knobs
from baiwen.data import read
from baiwen.data.executor import ordered
from baiwen.data.longrange.haystacks import haystacks
from baiwen.data.longrange.making import Form, Made, Recipe, Task, make_row
from baiwen.data.longrange.passages import language
from baiwen.data.order import interleave
from baiwen.data.writers import FILE_BYTES, by_source
from baiwen.errors import UserError
from baiwen.tokenizer.tokenizer import Tokenizer

Number = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^\w[\w.]*$")]

SAMPLE = 50  # documents of each source that tell how many characters a token has
MEASURED = 10_000  # characters of each of them
HOPELESS = 200  # texts in a row that give nothing
SMALLEST = 10_000  # a source has at least one turn in so many


class Kinds(Knobs):
    """How many of each kind there are, as weights; report: the first four, their shares unknown."""

    fim: Weight = 1.0  # a missing part, asked for at the end
    keyword: Weight = 1.0  # a passage, by words that only it holds
    position: Weight = 1.0  # a passage, by its neighbour or its number
    reorder: Weight = 1.0  # the right order of shuffled passages
    passkey: Weight = 0.0  # a number hidden in the text
    needle: Weight = 0.0  # several numbers under keys (RULER's form)
    echo: Weight = 0.0  # words in random order, to be written again; short, for the first steps


class Config(Knobs):
    """What to make, of what."""

    out: Path  # the run folder
    documents: Inputs  # folder of a data stage, or several
    tokenizer: Input  # that of the model, which measures the lengths
    # Tokens of a document with its end, or of a conversation: least and most; ranges take turns.
    # Report: rows of 32,768 to 262,144.
    lengths: Annotated[tuple[tuple[Count, Count], ...], Field(min_length=1)] = ((16_384, 32_768),)
    kinds: Kinds = Kinds()
    count: Number = 1_000  # documents; report: unknown
    conversations: Number = 0  # for the second stage of sft; report: unknown
    questions: Count = 2  # about one text, at most; fim, reorder, passkey, echo: one
    join: bool = True  # short documents of a domain, into a long one; false: they fall out
    name: Name = "longrange"  # of the source in the mixture
    seed: int = 0  # of every draw
    workers: Number = 0  # processes; 0: one a core

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not any(vars(self.kinds).values()):
            raise ValueError("kinds: all weights are 0, so there is nothing to make")
        for least, most in self.lengths:
            if least > most:
                raise ValueError(f"lengths: [{least}, {most}] has its least above its most")
        return self


@dataclass
class Tally:
    """What has been made: with the finished files, all that a run goes on from."""

    tried: int = 0  # texts
    written: int = 0
    bytes: int = 0  # of text
    kinds: Counter[str] = field(default_factory=Counter)
    unfit: Counter[str] = field(default_factory=Counter)  # "KIND: REASON"

    @classmethod
    def read(cls, path: Path) -> Self:
        """The tally that `write` left."""
        noted = files.read_json(path)
        counters = {name: Counter(noted[name]) for name in ("kinds", "unfit")}
        return cls(**{**noted, **counters})

    def add(self, made: Made) -> None:
        """Count a text that was tried."""
        self.tried = made.number + 1
        self.unfit.update(f"{kind}: {reason}" for kind, reason in made.unfit)
        if made.row is not None:
            self.written += 1
            self.bytes += made.size
            self.kinds[made.kind] += 1


def run(config: Config, folder: files.RunFolder) -> None:
    """Make and write the documents, then the conversations."""
    estimate = _estimate(config)
    tallies = {
        "documents": _write(config, folder.path, "documents", config.count, estimate),
        "conversations": _write(
            config, folder.path, "conversations", config.conversations, estimate
        ),
    }
    if config.conversations:
        _join(folder.path)
    made = tallies["documents"]
    kept = {config.name: {"documents": made.written, "bytes": made.bytes}}
    told = {form: {"kinds": each.kinds, "unfit": each.unfit} for form, each in tallies.items()}
    files.write_json(folder.path / "data.json", {"kept": kept})
    files.write_json(folder.path / "exercises.json", told)
    for form, each in tallies.items():
        parts = ", ".join(f"{kind} {number:,}" for kind, number in sorted(each.kinds.items()))
        log.say(f"{each.written:,} {form} of {each.tried:,} texts ({parts or 'none asked for'})")


def plan(config: Config) -> dict[str, str | int]:
    """How many tokens there will be, about."""
    mean = statistics.mean(sum(each) / 2 for each in config.lengths)
    return {
        "tokens of documents (estimate)": round(config.count * mean),
        "tokens of conversations (estimate)": round(config.conversations * mean),
    }


def _write(
    config: Config, folder: Path, form: Form, count: int, estimate: Callable[[str], float]
) -> Tally:
    """Write `count` rows in files of a bounded size, from the first file that is not noted on."""
    notes = sorted((folder / "state").glob(f"{form}-*.json"))
    tally = Tally.read(notes[-1]) if notes else Tally()
    _sweep(folder, config.name, form, len(notes))
    kinds = {kind: weight for kind, weight in vars(config.kinds).items() if weight}
    recipe = Recipe(form, config.name, kinds, config.questions, config.seed, config.tokenizer)
    tasks = (task for task in _tasks(config, form, estimate) if task.number >= tally.tried)
    made = ordered(partial(make_row, recipe), tasks, config.workers)
    rows = log.track(
        _given(made, tally, config), "synthesize", total=count - tally.written, unit=form
    )
    for number in itertools.count(len(notes)):
        if tally.written >= count:
            break
        with files.jsonl_writer(_path(folder, config.name, form, number)) as put:
            size = 0
            while size < FILE_BYTES and tally.written < count:
                row, bytes_of_row = next(rows)
                put(row)
                size += bytes_of_row
        files.write_json(folder / "state" / f"{form}-{number:05}.json", vars(tally))
    return tally


def _given(
    made: Iterable[Made], tally: Tally, config: Config
) -> Iterator[tuple[dict[str, Any], int]]:
    """Rows and the bytes of their texts, counted; a `UserError` where no text gives any."""
    poor = 0
    for each in made:
        tally.add(each)
        poor = 0 if each.row else poor + 1
        if each.row is not None:
            yield each.row, each.size
        if poor == HOPELESS:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in tally.unfit.most_common(3))
            raise UserError(
                f"{HOPELESS} texts in a row gave nothing ({reasons}). Give other documents, more "
                "kinds, or other lengths."
            )
    longest = max(most for _, most in config.lengths)
    raise UserError(
        f"no text is long enough for lengths of up to {longest:,} tokens: "
        + ("the documents of no domain are, even together." if config.join else "no document is.")
        + " Give longer documents or lower lengths."
    )


def _tasks(config: Config, form: Form, estimate: Callable[[str], float]) -> Iterator[Task]:
    """Texts without end, each of one domain, the domains in turn by their size."""
    sources = by_source(*config.documents)
    sizes = [sum(path.stat().st_size for path in paths) for paths in sources.values()]
    weights = [max(size, sum(sizes) / SMALLEST) for size in sizes]
    streams = [
        haystacks(
            partial(read.documents, paths),
            partial(_target, config, f"{form}/{source}"),
            estimate,
            join=config.join,
        )
        for source, paths in sources.items()
    ]
    turns, dry, number = interleave(weights, list(sources)), set[int](), 0
    for turn in itertools.count():
        which, _ = turns.turn(turn)
        haystack = next(streams[which], None)
        if haystack is not None:
            yield Task(number, haystack)
            number += 1
        else:
            dry.add(which)
        if len(dry) == len(streams):
            return


def _target(config: Config, stream: str, nth: int) -> int:
    """Tokens of the nth text of a stream."""
    least, most = config.lengths[nth % len(config.lengths)]
    return Random(f"{config.seed}/{stream}/{nth}").randint(least, most)


def _estimate(config: Config) -> Callable[[str], float]:
    """About how many tokens a text has: by its language, as the first documents encode."""
    tokenizer = Tokenizer.load(config.tokenizer)
    rates: defaultdict[str, list[float]] = defaultdict(list)
    for paths in by_source(*config.documents).values():
        for document in itertools.islice(read.documents(paths), SAMPLE):
            tokens = len(tokenizer.encode(document.text[:MEASURED]))
            rates[language(document.text)].append(len(document.text[:MEASURED]) / max(tokens, 1))
    # Rather too many characters than too few: what is too much is cut off.
    high = {spoken: sorted(found)[int(0.9 * len(found))] for spoken, found in rates.items()}
    return lambda text: len(text) / high.get(language(text), max(high.values(), default=1.0))


def _path(folder: Path, name: str, form: Form, number: int) -> Path:
    if form == "documents":
        return folder / f"documents-{name}-{number:05}.jsonl.zst"
    return folder / "state" / f"conversations-{number:05}.jsonl.zst"


def _sweep(folder: Path, name: str, form: Form, number: int) -> None:
    """Delete the files of a form that are not noted: another run's, or one that was killed."""
    known = {_path(folder, name, form, before) for before in range(number)}
    where, begin = (folder, "documents") if form == "documents" else (folder / "state", form)
    for path in where.glob(f"{begin}-*.jsonl.zst"):
        if path not in known:
            path.unlink()


def _join(folder: Path) -> None:
    """One archive of all conversations: the frames of their files, one after the other."""
    with files.writing(folder / "conversations.jsonl.zst") as whole:
        for path in sorted((folder / "state").glob("conversations-*.jsonl.zst")):
            with path.open("rb") as part:
                shutil.copyfileobj(part, whole)
