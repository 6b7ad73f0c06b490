"""Training: exact, ordered as published, the same every time."""

import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
import regex

from baiwen.errors import UserError
from baiwen.tokenizer import control, train
from baiwen.tokenizer.vocabulary import PATTERN, SYMBOLS

TEXT = """the theme of the thesis: 2024 them 'tis theirs, weather or whether
    def theorem(self, other): return self.other == other.self  # brothers bother
那是一个问题，这也是一个问题。一千个问题，百问不如一问。 aaaaaaa aaa banana bananas baaaa!!! ???!!!
"""


def merges_by_brute_force(text, count):
    """Merge the most frequent pair, the one of smaller ids among equals, `count` times."""
    words = Counter(regex.findall(PATTERN, text))
    split = {word: [SYMBOLS[byte] for byte in word.encode()] for word in words}
    ids = {symbol: index for index, symbol in enumerate(sorted(SYMBOLS))}
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, parts in split.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        best = max(pairs, key=lambda pair: (pairs[pair], -ids[pair[0]], -ids[pair[1]]))
        merges.append(best)
        ids.setdefault("".join(best), len(ids))
        split = {word: joined(parts, best) for word, parts in split.items()}
    return merges


def joined(parts, pair):
    out = []
    while parts:
        size = 2 if tuple(parts[:2]) == pair else 1
        out.append("".join(parts[:size]))
        parts = parts[size:]
    return out


def test_merges_are_those_of_a_brute_force_trainer():
    merges = merges_by_brute_force(TEXT, 60)
    assert list(train([TEXT], 256 + 60).vocabulary.merges) == merges


def test_vocabulary_has_exactly_the_size_asked_for(small):
    assert len(small.vocabulary.tokens) == 1_000
    assert len(small) == small.vocab_size == 1_022


def test_bytes_have_the_ids_of_the_published_vocabulary(small, qwen):
    assert small.vocabulary.tokens[:256] == qwen.vocabulary.tokens[:256]


def test_control_tokens_follow_in_the_published_order(small, qwen):
    assert small.vocabulary.control == qwen.vocabulary.control == control.PUBLISHED
    assert [small.id(name) for name in control.NAMES] == list(range(1_000, 1_022))
    assert (qwen.end_of_text, qwen.end_of_turn) == (151_643, 151_645)


def test_digits_stay_single(small):
    assert len(small.encode("31415926")) == 8


def test_training_reads_a_stream_once():
    documents = (document for document in [TEXT] * 3)
    assert len(train(documents, 300).vocabulary.tokens) == 300
    assert next(documents, None) is None


@pytest.mark.parametrize(("seed", "threads"), [("1", "1"), ("2", "2")])
def test_training_is_the_same_for_any_hash_seed_and_thread_count(small, seed, threads):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import conftest\n"
        "print(conftest.small.__wrapped__().fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads}
    command = [sys.executable, "-c", script, os.path.dirname(__file__)]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == small.fingerprint


def test_too_little_text_is_a_clear_error():
    with pytest.raises(UserError, match=r"only 3 merges, so at most 259 tokens"):
        train(["abc abc"], 1_000)


def test_a_vocabulary_below_the_bytes_is_a_clear_error():
    with pytest.raises(UserError, match="at least 256"):
        train([TEXT], 255)


def test_half_a_character_is_a_clear_error():
    with pytest.raises(UserError, match="lone surrogate"):
        train(["half \ud800"], 300)


def test_an_error_of_the_documents_comes_through():
    def broken():
        yield TEXT
        raise UserError("documents.jsonl:2: broken")

    with pytest.raises(UserError, match=r"documents\.jsonl:2"):
        train(broken(), 300)


MEASURED = """
import sys
from pathlib import Path
from baiwen.tokenizer import train

LETTERS = str.maketrans("0123456789", "abcdefghij")

def texts(times):
    for _ in range(times):
        for start in range(0, 20_000, 100):
            numbers = (str(number * 7919) for number in range(start, start + 100))
            yield " ".join(number.translate(LETTERS) for number in numbers)

train(texts(int(sys.argv[1])), 1_000)
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_memory_does_not_grow_with_the_text_but_with_its_words():
    """Eight times the text of the same words: 11 MB more, were it held."""
    peaks = []
    for times in (8, 64):
        command = [sys.executable, "-c", MEASURED, str(times)]
        environment = os.environ | {"RAYON_NUM_THREADS": "1"}
        told = subprocess.run(command, env=environment, capture_output=True, check=True)
        peaks.append(int(told.stdout))
    assert peaks[1] - peaks[0] < 4 << 20
