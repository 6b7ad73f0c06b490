"""Tokenizer: training against `tokenizers` called bare, encoding against `tokenizers` and tiktoken.

    python benchmarks/tokenizer.py                    # 40 MB of the standard library's text
    python benchmarks/tokenizer.py --corpus PATH --megabytes 100 --vocab 32000 --write

The sides take turns (A B A B ...), and the least time of each counts, on the CPU and on the wall.
The last columns divide a side's time by ours: above 1, ours is faster. With --write the page goes
to `benchmarks/results/tokenizer.md`.
"""

import argparse
import datetime
import os
import platform
import sys
import sysconfig
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import tiktoken
import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

from baiwen.tokenizer import Tokenizer, train
from baiwen.tokenizer.vocabulary import PATTERN

RESULTS = Path(__file__).parent / "results" / "tokenizer.md"


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    texts = list(corpus(options.corpus, options.megabytes * 10**6))
    megabytes = sum(len(text.encode()) for text in texts) / 10**6
    title = f"{megabytes:.1f} MB in {len(texts):,} texts, {options.vocab:,} regular tokens"
    page = [title, "", *training(texts, options), "", *encoding(texts, options)]
    print("\n".join(page))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join([*heading(), "", *page, ""]), encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--vocab", type=int, default=32_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


def corpus(path: Path, size: int) -> Iterator[str]:
    """A file, or the .py, .txt, .rst and .md files of a folder, repeated up to `size` bytes."""
    endings = {".py", ".txt", ".rst", ".md"}
    found = sorted(file for file in path.rglob("*") if file.suffix in endings)
    files = [path] if path.is_file() else found
    texts = [text for file in files if (text := readable(file))]
    if not texts:
        sys.exit(f"{path}: no text there")
    total = 0
    while total < size:
        for text in texts:
            yield text
            total += len(text.encode())
            if total >= size:
                return


def readable(file: Path) -> str:
    """The text of a file; nothing where it is not UTF-8, as some of Python's own tests are."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def training(texts: list[str], options: argparse.Namespace) -> list[str]:
    """Training, ours and bare."""
    rounds = {
        "baiwen.tokenizer.train": lambda: train(iter(texts), options.vocab),
        "tokenizers, bare": lambda: bare(texts, options.vocab),
    }
    return table("training", alternate(rounds, options.rounds), texts)


def encoding(texts: list[str], options: argparse.Namespace) -> list[str]:
    """Encoding with one tokenizer, which all sides load from one folder or its ranks."""
    tokenizer = train(iter(texts[: len(texts) // 4 + 1]), min(options.vocab, 8_000))
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        library = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
        ours = Tokenizer.load(folder)
    fast = ranks(tokenizer)
    threads = os.cpu_count() or 1
    ours.encode("")  # builds both engines and compares them
    rounds: dict[str, Callable[[], object]] = {
        "baiwen encode_many, 1 thread": lambda: ours.encode_many(texts, threads=1),
        f"baiwen encode_many, {threads} threads": lambda: ours.encode_many(texts, threads=threads),
        f"tokenizers encode_batch, {threads} threads": lambda: library.encode_batch(texts),
        "tiktoken encode_to_numpy after NFC, 1 thread": lambda: [
            fast.encode_to_numpy(unicodedata.normalize("NFC", text)) for text in texts
        ],
    }
    return table("encoding", alternate(rounds, options.rounds), texts)


def bare(texts: list[str], vocab_size: int) -> tokenizers.Tokenizer:
    """What a user of `tokenizers` would write to train in the Qwen form."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, spell])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    return tokenizer


def ranks(tokenizer: Tokenizer) -> tiktoken.Encoding:
    """tiktoken with the same tokens."""
    spellings = {spelling: rank for rank, spelling in enumerate(tokenizer.vocabulary.spellings)}
    return tiktoken.Encoding("bare", pat_str=PATTERN, mergeable_ranks=spellings, special_tokens={})


def alternate(
    sides: dict[str, Callable[[], object]], rounds: int
) -> dict[str, tuple[float, float]]:
    """The least (CPU, wall) seconds of each side, over rounds in which all take turns."""
    best = dict.fromkeys(sides, (float("inf"), float("inf")))
    for _ in range(rounds):
        for name, run in sides.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            spent = (time.process_time() - cpu, time.perf_counter() - wall)
            best[name] = (min(best[name][0], spent[0]), min(best[name][1], spent[1]))
    return best


def table(what: str, best: dict[str, tuple[float, float]], texts: list[str]) -> list[str]:
    """A Markdown table; the first side is the one that the others are divided by."""
    size = sum(len(text.encode()) for text in texts) / 10**6
    ours = next(iter(best.values()))
    return [
        f"| {what} | CPU s | wall s | MB / CPU s | CPU s : ours | wall s : ours |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {cpu:.2f} | {wall:.2f} | {size / cpu:.2f} | {cpu / ours[0]:.2f} "
            f"| {wall / ours[1]:.2f} |"
            for name, (cpu, wall) in best.items()
        ),
    ]


def heading() -> list[str]:
    """Command, machine, date, versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("tokenizers", "tiktoken"))
    command = " ".join(["python", "benchmarks/tokenizer.py", *sys.argv[1:]])
    return [
        "# Tokenizer",
        "",
        f"- command: `{command}`",
        f"- date: {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}",
        f"- machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        f"- versions: Python {platform.python_version()}, {packages}",
        "- the least of alternating rounds; the last columns are a side's time over ours",
    ]


if __name__ == "__main__":
    main()
