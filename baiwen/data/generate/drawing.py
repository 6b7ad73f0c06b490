"""Drawing: which seeds a prompt is filled with.

    for seed in seeds(documents, topics, prompt, count=1000, draw=7, characters=6000):
        ...

A document is drawn by a hash of its id, so that the same ones are drawn in whatever order they lie;
topics are taken in turn. A prompt that wants more seeds than there are gets them again, and their
requests another seed of sampling. Documents that are known to be in another language than the
prompt's are passed over.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import xxhash

from baiwen.data.document import Document
from baiwen.data.generate.prompts import Prompt, Seed
from baiwen.errors import UserError

Documents = Callable[[], Iterable[Document]]  # all of them, from the beginning
NATURAL = 2  # letters of the code of a language that people speak
SHORTEST = 200  # characters of a document that says enough


def seeds(
    documents: Documents,
    topics: Sequence[str],
    prompt: Prompt,
    count: int,
    draw: int,
    characters: int,
) -> Iterator[Seed]:
    """`count` seeds of a prompt, fewer where there are fewer; UserError where there is none."""
    if "document" in prompt.wants:
        found = _documents(documents, prompt, count, draw, characters)
    else:
        found = (Seed(_name(topic), topic=topic) for topic in topics[:count])
    empty = True
    for number, seed in enumerate(found):
        empty = False
        topic = topics[number % len(topics)] if topics and "topic" in prompt.wants else ""
        yield replace(seed, topic=seed.topic or topic)
    if empty or ("topic" in prompt.wants and not topics):
        wants = " and ".join(sorted(prompt.wants))
        raise UserError(
            f"prompt {prompt.name}: there is no {wants} to fill it with. Documents have at least "
            f"{SHORTEST} characters, and no other language than {prompt.language!r}."
        )


def rounds(found: Callable[[], Iterable[Seed]], count: int) -> Iterator[Seed]:
    """`count` seeds: those that are found, as often as it takes."""
    every = (replace(seed, round=number) for number in itertools.count() for seed in found())
    return itertools.islice(every, count)


def _documents(
    documents: Documents, prompt: Prompt, count: int, draw: int, characters: int
) -> Iterator[Seed]:
    """The documents of the lowest hashes, in the order in which they lie."""
    ranks = (rank(one, prompt, draw) for one in documents() if fit(one, prompt))
    lowest = heapq.nsmallest(count, ranks)
    most = lowest[-1] if lowest else -1
    drawn = (one for one in documents() if fit(one, prompt) and rank(one, prompt, draw) <= most)
    for one in itertools.islice(drawn, count):
        meta = {**one.meta, "family": family(one)}
        yield Seed(one.id, excerpt(one.text, characters), meta)


def fit(document: Document, prompt: Prompt) -> bool:
    """Whether a prompt can be filled with it."""
    language = str(document.meta.get("language") or "")
    other = len(language) == NATURAL and language != prompt.language
    unknown = prompt.truth and document.meta.get("answer") is None
    short = len(document.text.strip()) < (1 if prompt.truth else SHORTEST)
    return not (document.flaw or other or unknown or short)


def rank(document: Document, prompt: Prompt, draw: int) -> int:
    """Its place in the draw for a prompt, below 2^64."""
    return xxhash.xxh3_64_intdigest(f"{draw}\0{prompt.name}\0{document.id}".encode())


def family(document: Document) -> str:
    """What `data/pipeline/reading.py` says that a document shares with its like."""
    own = xxhash.xxh3_128_hexdigest(document.squeezed.encode())
    return str(document.meta.get("family") or own)


def excerpt(text: str, characters: int) -> str:
    """The beginning of a text that has more characters, up to the end of a paragraph or line."""
    if len(text) <= characters:
        return text
    shown = text[:characters]
    for end in ("\n\n", "\n", "。", ". ", " "):
        if (place := shown.rfind(end)) > characters // 2:
            return shown[: place + len(end)].rstrip()
    return shown


def _name(topic: str) -> str:
    return f"topic {xxhash.xxh3_64_hexdigest(topic.encode())}"
