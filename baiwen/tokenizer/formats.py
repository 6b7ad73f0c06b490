"""Code in the forms of Qwen2.5-Coder (spec 2.3): a hole to fill, a repository of files.

    Hole("def f(", "return x")   <|fim_prefix|>def f(<|fim_suffix|>return x<|fim_middle|>
    with its middle              ... <|fim_middle|>x):\\n    <|endoftext|>
    repository                   <|repo_name|>baiwen\\n<|file_sep|>a.py\\nimport b\\n<|file_sep|>...

Markers are written by id; a file that spells one in its text keeps it as text. A hole without its
middle makes a prompt, and `Form.stop` are the ids that end the answer to it (spec 13 #12: with a
shorter list, models run on).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from baiwen.errors import UserError
from baiwen.tokenizer import control
from baiwen.tokenizer.chat import Piece, joined
from baiwen.tokenizer.tokenizer import Tokenizer

_STOPS = (
    control.END_OF_TEXT,
    control.IM_END,
    control.FIM_PREFIX,
    control.FIM_MIDDLE,
    control.FIM_SUFFIX,
    control.FIM_PAD,
    control.REPO_NAME,
    control.FILE_SEP,
)

Order = Literal["psm", "spm"]  # prefix, suffix, middle as published; or suffix, prefix, middle


@dataclass(frozen=True)
class Hole:
    """A file with a hole; `middle` is what fills it, or None for a prompt."""

    prefix: str
    suffix: str
    middle: str | None = None


@dataclass(frozen=True)
class Form:
    """Ids of a document or prompt, and the ids that end an answer to it."""

    ids: list[int]
    stop: frozenset[int]


def fim(tokenizer: Tokenizer, hole: Hole, order: Order = "psm") -> Form:
    """One file with a hole."""
    return _form(tokenizer, file_pieces(hole, order))


def repository(
    tokenizer: Tokenizer,
    name: str,
    files: Sequence[tuple[str, str | Hole]],
    order: Order = "psm",
) -> Form:
    """A repository: (path, text) of each file; the last may have a hole."""
    return _form(tokenizer, repository_pieces(name, files, order))


def file_pieces(hole: Hole, order: Order = "psm") -> list[Piece]:
    """One file with a hole, before it is encoded."""
    return [*_hole(hole, order), *_end(hole)]


def repository_pieces(
    name: str, files: Sequence[tuple[str, str | Hole]], order: Order = "psm"
) -> list[Piece]:
    """A repository before it is encoded, neighbouring words as one."""
    if any(isinstance(content, Hole) for _, content in files[:-1]):
        raise UserError("repository: only the last file may have a hole; put that file last")
    pieces = [_mark(control.REPO_NAME), Piece(f"{name}\n")]
    for place, (path, content) in enumerate(files, start=1):
        pieces += [_mark(control.FILE_SEP), Piece(f"{path}\n")]
        if isinstance(content, Hole):
            pieces += _hole(content, order)
        else:
            pieces.append(Piece(content if place == len(files) else f"{content}\n"))
    return list(joined([*pieces, *_end(files[-1][1] if files else "")]))


def _form(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> Form:
    return Form(tokenizer.assemble(pieces), frozenset(map(tokenizer.id, _STOPS)))


def _hole(hole: Hole, order: Order) -> Iterator[Piece]:
    prefix = (_mark(control.FIM_PREFIX), Piece(hole.prefix))
    suffix = (_mark(control.FIM_SUFFIX), Piece(hole.suffix))
    yield from (*prefix, *suffix) if order == "psm" else (*suffix, *prefix)
    yield _mark(control.FIM_MIDDLE)
    yield Piece(hole.middle or "")


def _end(content: str | Hole) -> Iterator[Piece]:
    if isinstance(content, str) or content.middle is not None:
        yield _mark(control.END_OF_TEXT)


def _mark(name: str) -> Piece:
    return Piece(name, control=True)
