"""Procedural tasks: conversations to teach, instances held out to test, documents to pre-train on.

Reads nothing. Writes, in its folder,

    train.jsonl            {"messages": [...], "tools"?, "kind"}: an instance, or several in turn
    heldout.jsonl          {"prompt": [...], "tools"?, "answer", "verifier", "kind"}
    documents.jsonl.zst    {"id", "text", "meta"}: instances as text, several of a kind in each
    instruct.json          how many of each kind, and how many of them differ

No instance of `heldout.jsonl` is in the other two, whatever the phrasing, the seed and the counts.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

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
    turns: Annotated[int, Field(gt=0)] = 1  # instances in a conversation, at most; drawn
    heldout: Count = 50  # instances to test of each kind, all different
    documents: Count = 4_000  # plain documents for pre-training
    per_document: Annotated[int, Field(gt=0)] = 4  # instances in a document, all of one kind
    seed: int = 0  # of every draw

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            draw.producer(kind)
        return kinds


def run(config: Config, folder: files.RunFolder) -> None:
    """Draw and write the three sets."""
    counts = {"train": _train(config, folder.path / "train.jsonl")}
    counts["heldout"] = _heldout(config, folder.path / "heldout.jsonl")
    _documents(config, folder.path / "documents.jsonl.zst")
    kinds = {kind: {split: count[kind] for split, count in counts.items()} for kind in config.kinds}
    files.write_json(folder.path / "instruct.json", {"kinds": kinds, "documents": config.documents})
    log.say(
        f"{config.train:,} conversations, {config.heldout:,} held-out instances of each of "
        f"{len(kinds)} kinds, {config.documents:,} documents"
    )


def _train(config: Config, path: Path) -> Counter[str]:
    drawn = islice(draw.conversations(config.kinds, config.seed, config.turns), config.train)
    counts: Counter[str] = Counter()
    with files.jsonl_writer(path) as write:
        for tasks in log.track(drawn, "conversations", total=config.train):
            messages = [message for task in tasks for message in task.messages]
            write({"messages": messages, **_tools(tasks[0]), "kind": tasks[0].kind})
            counts.update(task.kind for task in tasks)
    return counts


def _heldout(config: Config, path: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    with files.jsonl_writer(path) as write:
        for task in _all_heldout(config):
            prompt = {"prompt": task.messages[:-1], **_tools(task)}
            truth = {"answer": task.answer, "verifier": task.verifier, "kind": task.kind}
            write(prompt | truth)
            counts[task.kind] += 1
    return counts


def _all_heldout(config: Config) -> Iterator[Task]:
    for kind in dict.fromkeys(config.kinds):
        yield from draw.heldout(kind, config.heldout, config.seed)


def _documents(config: Config, path: Path) -> None:
    with files.jsonl_writer(path) as write:
        for index in log.track(range(config.documents), "documents", total=config.documents):
            kind = config.kinds[index % len(config.kinds)]
            tasks = islice(
                draw.training([kind], config.seed, f"document {index}"), config.per_document
            )
            text = "\n\n".join(document(task.messages, task.tools) for task in tasks)
            meta = {"source": "tasks", "kind": kind}
            write({"id": f"tasks-{index:06d}", "text": f"{text}\n", "meta": meta})


def _tools(task: Task) -> dict[str, Any]:
    return {"tools": task.tools} if task.tools else {}
