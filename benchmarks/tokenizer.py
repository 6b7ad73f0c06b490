"""Tokenizer: training against `tokenizers` called bare, encoding against `tokenizers` and tiktoken.

    python -m benchmarks.tokenizer                    # 40 MB of the standard library's text
    python -m benchmarks.tokenizer --corpus PATH --megabytes 100 --vocab 32000 --write

The sides take turns (A B A B ...); times are medians over the rounds, on the CPU and on the wall. A
claim is the median of the ratios within the rounds, each peer against our side on as many threads:
above 1, ours is faster. With --write the page goes to `benchmarks/results/tokenizer.md`.
"""

import argparse
import os
import sys
import sysconfig
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median

import tiktoken
import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

from baiwen.tokenizer import Tokenizer, train
from baiwen.tokenizer.vocabulary import PATTERN
from benchmarks import page
from benchmarks.turns import Spent, alternate

RATE = 0.95  # the target: times the rate of a peer, which does nothing besides


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    texts = list(corpus(options.corpus, options.megabytes * 10**6))
    megabytes = sum(len(text.encode()) for text in texts) / 10**6
    body = [
        f"{megabytes:.1f} MB in {len(texts):,} texts, {len(set(texts)):,} of them different; "
        f"{options.vocab:,} regular tokens; {options.rounds} rounds in turn, medians"
    ]
    verdicts = []
    for what, measure in (("training", training), ("encoding", encoding)):
        spent = measure(texts, options)
        body += ["", *table(what, spent, megabytes)]
        verdicts += claims(what, spent)
    page.publish("tokenizer", "Tokenizer", [*body, "", *page.claims(verdicts)], options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--corpus", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--vocab", type=int, default=32_000)
    parser.add_argument("--rounds", type=int, default=3)
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


def training(texts: list[str], options: argparse.Namespace) -> dict[str, list[Spent]]:
    """Training, ours and bare, on all cores."""
    rounds = {
        "baiwen.tokenizer.train": lambda: train(iter(texts), options.vocab),
        "tokenizers": lambda: bare(texts, options.vocab),
    }
    return alternate(rounds, options.rounds)


def encoding(texts: list[str], options: argparse.Namespace) -> dict[str, list[Spent]]:
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
        f"tokenizers encode_batch_fast, {threads} threads": lambda: library.encode_batch_fast(
            texts
        ),
        "tiktoken encode_to_numpy after NFC, 1 thread": lambda: [
            fast.encode_to_numpy(unicodedata.normalize("NFC", text)) for text in texts
        ],
    }
    return alternate(rounds, options.rounds)


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


def claims(what: str, spent: dict[str, list[Spent]]) -> list[tuple[str, str, str, bool]]:
    """Each peer against our side on as many threads."""
    rows = []
    for name, theirs in spent.items():
        if "baiwen" not in name:
            ours = spent[alike(name, spent)]
            rate = median(peer.cpu / own.cpu for own, peer in zip(ours, theirs, strict=True))
            told = f"{what} against {name}, CPU seconds"
            rows.append((told, f">= {RATE}x", f"{rate:.2f}x", rate >= RATE))
    return rows


def alike(peer: str, names: Iterable[str]) -> str:
    """Our side whose name ends as the peer's does, or the first."""
    ours = [name for name in names if "baiwen" in name]
    threads = peer.partition(", ")[2]
    return next((name for name in ours if name.partition(", ")[2] == threads), ours[0])


def table(what: str, spent: dict[str, list[Spent]], megabytes: float) -> list[str]:
    """The median times of each side."""
    rows = []
    for name, found in spent.items():
        cpu, wall = median(each.cpu for each in found), median(each.wall for each in found)
        rows.append([name, *(f"{x:.2f}" for x in (cpu, wall, megabytes / cpu, megabytes / wall))])
    return page.table([what, "CPU s", "wall s", "MB / CPU s", "MB / s"], rows)


if __name__ == "__main__":
    main()
