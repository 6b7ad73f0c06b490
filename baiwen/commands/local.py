"""Answers from a model in this process, for `baiwen chat FOLDER`."""

import argparse
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from baiwen import dist, mistakes
from baiwen.commands import loading
from baiwen.commands.conversation import Knobs, Messages
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
def opened(options: argparse.Namespace) -> Iterator[Local]:
    """The model of the HF folder that the command line names, for as long as the block lasts."""
    folder = Path(options.model)
    if not folder.is_dir():
        raise UserError(mistakes.missing("model", folder))
    with dist.session(options.device, options.dtype) as world:
        yield Local(loading.engine(options, folder, world), folder.name)
