"""Marks of work that gets on: what tells the slow from what stands still.

Of ranks `dist/watch.py` asks for them, of workers that Ray places `dist/crew.py`.

    for chunk in progress.marked(chunks):     # a mark after each
        ...
    progress.mark()

A mark is made wherever a rank may work for minutes without a collective while others wait for it:
with each step of the engine or of training, each judged answer, each tensor read, each item of
`log.track`. Those of the main thread count, since it is the one that others wait for.
"""

import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_marks = 0


def mark() -> None:
    """Note that this process gets on."""
    global _marks
    if threading.current_thread() is threading.main_thread():
        _marks += 1


def marked(items: Iterable[T]) -> Iterator[T]:
    """The items, with a mark as each of them comes."""
    for item in items:
        mark()
        yield item


def marks() -> int:
    """How many this process has made."""
    return _marks
