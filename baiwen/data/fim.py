"""Code to fill in: documents with a hole, and the files of a repository as one document.

    write_shard(folder, 0, arranged(documents, Fim(rate=0.5)), tokenizer)

A document of the chosen domains becomes one with a hole with probability `rate`: it is cut at two
characters, drawn evenly, and the middle goes last (Bavarian et al. 2022, "Efficient Training of
Language Models to Fill in the Middle": cuts at characters rather than tokens or lines make the
hole begin and end anywhere). The forms are those of Qwen2.5-Coder (spec 2.3), with prefix, suffix,
middle (PSM) or suffix, prefix, middle (SPM). Every draw hangs on the document's id alone, and on
the number of the copy where a mixture repeats it (`meta.copies`): whatever the order and the
workers, the bytes are the same, and no two copies have the same hole.

With `repositories`, documents of one `meta.repo` that lie in one documents file are one document:
its files in the order of `meta.path`, but for the one with the hole, which is drawn and goes last.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import xxhash

from baiwen.config import Knobs, Share
from baiwen.data.document import CODE, Document
from baiwen.data.shards import Laid
from baiwen.tokenizer.chat import Piece
from baiwen.tokenizer.control import END_OF_TEXT
from baiwen.tokenizer.formats import Hole, Order, file_pieces, repository_pieces


class Fim(Knobs):
    """How many documents have a hole, and in which form."""

    rate: Share = 0.0  # of documents; report: not reported, nor by Coder; 0.5 in StarCoder (2023)
    spm: Share = 0.5  # of these in the order suffix, prefix, middle; not reported; StarCoder: 0.5
    domains: tuple[str, ...] = (CODE,)  # whose documents; report: code
    # the files of a repository as one document; report: Coder's last 300B tokens, at 32,768
    repositories: bool = False


def arranged(documents: Iterable[Document], knobs: Fim) -> Iterator[Laid]:
    """The documents as they are written, each as often as its `meta.copies` says.

    With `knobs.repositories` all of them are held in memory.
    """
    groups = _grouped(documents, knobs) if knobs.repositories else ([one] for one in documents)
    for group in groups:
        copies = [int(one.meta.get("copies", 1)) for one in group]
        for copy in range(max(copies)):
            left = [one for one, count in zip(group, copies, strict=True) if count > copy]
            yield Laid(_pieces(left, copy, knobs), repeated=copy > 0)


def holed(text: str, first: int, second: int) -> Hole:
    """The text cut at two characters, drawn as numbers much larger than its length."""
    begin, end = sorted(draw % (len(text) + 1) for draw in (first, second))
    return Hole(text[:begin], text[end:], text[begin:end])


def _grouped(documents: Iterable[Document], knobs: Fim) -> Iterable[list[Document]]:
    """The documents of each repository, by path; every other document by itself."""
    groups: dict[tuple[str, str], list[Document]] = defaultdict(list)
    for number, one in enumerate(documents):
        repo = one.meta.get("repo") if one.domain in knobs.domains else None
        groups[("repo", str(repo)) if repo else ("document", str(number))].append(one)
    return [sorted(group, key=lambda one: (_path(one), one.id)) for group in groups.values()]


def _pieces(group: Sequence[Document], copy: int, knobs: Fim) -> list[Piece]:
    """A document, or the files of a repository, with or without a hole."""
    name = group[0].id if len(group) == 1 else str(group[0].meta["repo"])

    def draw(what: str) -> int:
        return xxhash.xxh3_64_intdigest(f"{what}\0{copy}\0{name}".encode())

    has_hole = group[0].domain in knobs.domains and _is_below(draw("rate"), knobs.rate)
    last = group[draw("file") % len(group) if has_hole else -1]
    content = holed(last.text, draw("first"), draw("second")) if has_hole else last.text
    order: Order = "spm" if _is_below(draw("order"), knobs.spm) else "psm"
    if len(group) > 1:
        others = [(_path(one), one.text) for one in group if one is not last]
        return repository_pieces(name, [*others, (_path(last), content)], order)
    if isinstance(content, Hole):
        return file_pieces(content, order)
    return [Piece(content), Piece(END_OF_TEXT, control=True)]


def _is_below(draw: int, share: float) -> bool:
    return draw < share * 2**64


def _path(document: Document) -> str:
    return str(document.meta.get("path") or document.id)
