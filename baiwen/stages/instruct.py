"""Procedural tasks: conversations to teach, instances to answer and to test, documents to read.

Reads nothing. Writes, in its folder,

    train.jsonl            {"messages": [...], "tools"?, "kind"}: an instance, or several in turn
    heldout.jsonl          {"prompt": [...], "tools"?, "answer", "verifier", "kind"}
    prompts.jsonl          the same, for `pairs` and `grpo` to answer and a program to judge
    documents.jsonl.zst    {"id", "text", "meta"}: instances as text, several of a kind in each
    instruct.json          how many of each kind, and how many of them differ

No instance of `heldout.jsonl` is in the others, and none of `prompts.jsonl` in `train.jsonl`,
whatever the phrasing, the seed and the counts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from baiwen import files, log
from baiwen.config import Knobs
from baiwen.instruct import draw
from baiwen.instruct.task import Task, document

Count = Annotated[int, Field(ge=0)]


class Config(Knobs):
    """What to draw; how hard each kind is stands in `baiwen/instruct/KIND.py`."""

    out: Path  # the run folder
    # kinds of task, files of baiwen/instruct, which take turns; named twice: two turns; default all
    kinds: Annotated[tuple[str, ...], Field(min_length=1)] = draw.KINDS
    train: Count = 20_000  # conversations to teach, the kinds in turn; report: > 1,000,000
    # Kinds that are scarce in `train`, and in how many conversations of one question they are shown
    # there: what is dear to show and cheap to judge is left to online RL. They are in no document.
    # Not in the report, which trains the policy on the reward model's prompts (section 4.3).
    demonstrations: dict[str, Count] | None = None
    turns: Annotated[int, Field(gt=0)] = 1  # instances in a conversation, at most; drawn
    heldout: Count = 50  # instances to test of each kind, all different
    # instances to answer in post-training, the kinds in turn, all different
    prompts: Count = 2_000
    documents: Count = 4_000  # plain documents for pre-training
    per_document: Annotated[int, Field(gt=0)] = 4  # instances in a document, all of one kind
    seed: int = 0  # of every draw

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            draw.producer(kind)
        return kinds

    @model_validator(mode="after")
    def _taught(self) -> Self:
        for kind in self.scarce:
            if kind not in self.kinds:
                raise ValueError(f"demonstrations.{kind}: kinds has no {kind!r}")
        if self.train and not self.plenty:
            raise ValueError("demonstrations names all kinds: leave one out, to fill train")
        if sum(self.scarce.values()) > self.train:
            raise ValueError("demonstrations has more conversations than train")
        return self

    @property
    def scarce(self) -> dict[str, int]:
        """The kinds that have few demonstrations, and how many."""
        return self.demonstrations or {}

    @property
    def plenty(self) -> tuple[str, ...]:
        """The other kinds."""
        return tuple(kind for kind in self.kinds if kind not in self.scarce)


def run(config: Config, folder: files.RunFolder) -> None:
    """Draw and write the four sets."""
    taught = _train(config, folder.path / "train.jsonl")
    counts = {
        "train": Counter(kind for kind, _ in taught),
        "heldout": _write(_heldout(config), folder.path / "heldout.jsonl"),
        "prompts": _write(_prompts(config, frozenset(taught)), folder.path / "prompts.jsonl"),
    }
    _documents(config, folder.path / "documents.jsonl.zst")
    kinds = {kind: {split: count[kind] for split, count in counts.items()} for kind in config.kinds}
    files.write_json(folder.path / "instruct.json", {"kinds": kinds, "documents": config.documents})
    log.say(
        f"{config.train:,} conversations, {config.heldout:,} held-out instances of each of "
        f"{len(kinds)} kinds, {config.prompts:,} prompts, {config.documents:,} documents"
    )


def _train(config: Config, path: Path) -> list[tuple[str, str]]:
    """Write the conversations; kind and key of each instance in them."""
    taught: list[tuple[str, str]] = []
    with files.jsonl_writer(path) as write:
        for tasks in log.track(_conversations(config), "conversations", total=config.train):
            messages = [message for task in tasks for message in task.messages]
            write({"messages": messages, **_tools(tasks[0]), "kind": tasks[0].kind})
            taught += [(task.kind, task.key) for task in tasks]
    return taught


def _conversations(config: Config) -> Iterator[list[Task]]:
    """Those of the scarce kinds evenly among the rest."""
    many = draw.conversations(config.plenty, config.seed, config.turns)
    few = draw.demonstrations(config.scarce, config.seed)
    count = sum(config.scarce.values())
    for index in range(config.train):
        due = (index + 1) * count // config.train > index * count // config.train
        yield [next(few)] if due else next(many)


def _heldout(config: Config) -> Iterator[Task]:
    for kind in dict.fromkeys(config.kinds):
        yield from draw.heldout(kind, config.heldout, config.seed)


def _prompts(config: Config, taught: frozenset[tuple[str, str]]) -> Iterator[Task]:
    drawn = draw.prompts(config.kinds, config.prompts, config.seed, taught)
    return log.track(drawn, "prompts", total=config.prompts)


def _write(tasks: Iterable[Task], path: Path) -> Counter[str]:
    """Write what is asked and how an answer is judged; how many of each kind."""
    counts: Counter[str] = Counter()
    with files.jsonl_writer(path) as write:
        for task in tasks:
            prompt = {"prompt": task.messages[:-1], **_tools(task)}
            truth = {"answer": task.answer, "verifier": task.verifier, "kind": task.kind}
            write(prompt | truth)
            counts[task.kind] += 1
    return counts


def _documents(config: Config, path: Path) -> None:
    with files.jsonl_writer(path) as write:
        for index in log.track(range(config.documents), "documents", total=config.documents):
            kind = config.plenty[index % len(config.plenty)]
            tasks = islice(
                draw.training([kind], config.seed, f"document {index}"), config.per_document
            )
            text = "\n\n".join(document(task.messages, task.tools) for task in tasks)
            meta = {"source": "tasks", "kind": kind}
            write({"id": f"tasks-{index:06d}", "text": f"{text}\n", "meta": meta})


def _tools(task: Task) -> dict[str, Any]:
    return {"tools": task.tools} if task.tools else {}
