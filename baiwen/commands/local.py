"""Answers from a model in this process, for `baiwen chat FOLDER`."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from baiwen import dist, mistakes
from baiwen.commands.conversation import Knobs, Messages
from baiwen.engine import pretrained
from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError


class Local:
    """An engine, asked for one answer at a time."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name
        self.context: int | None = engine.context

    def stream(self, messages: Messages, knobs: Knobs) -> Generator[str]:
        """The next answer in pieces; closing it ends the work."""
        yield from self.engine.stream(messages, Sampling(**knobs))

    def count(self, messages: Messages) -> int:
        """The tokens of a conversation, with the head of the next answer."""
        return len(self.engine.ids(messages))

    def check(self, knobs: Knobs) -> None:
        """UserError for a value that no sampling can have."""
        Sampling(**knobs)


@contextmanager
def opened(folder: Path, device: str, dtype: str) -> Iterator[Local]:
    """The model of an HF folder, loaded for as long as the block lasts."""
    if not folder.is_dir():
        raise UserError(mistakes.missing("model", folder))
    with dist.session(device, dtype) as world:
        model, tokenizer = pretrained.load(folder, world.device, world.dtype)
        yield Local(Engine(model, tokenizer), folder.name)
