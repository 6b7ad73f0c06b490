"""Words and n-grams of many texts at once, against a reading of each text letter by letter."""

import unicodedata
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from baiwen.data.words import BASE, PIECE, STRIDE, mixed, ngrams, slices, utf8, words

LONG = 64 * PIECE  # bytes of a word of many pieces
TEXTS = st.lists(
    st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("aB1 ._\nÉéΣ中文、カ한"))),
    max_size=6,
)
FROZEN = unicodedata.ucd_3_2_0  # the same under every version of Python


def plain_words(text: str) -> list[tuple[str, int, int]]:
    """What the module's first lines promise, a character at a time: lower case, start, end."""
    found: list[tuple[str, int, int]] = []
    place, together = 0, False
    for char in text:
        size = len(char.encode())
        if is_apart(char):
            together = False
        elif together and not is_alone(char):
            word, start, _ = found[-1]
            found[-1] = word + lowered(char), start, place + size
        else:
            found.append((lowered(char), place, place + size))
            together = not is_alone(char)
        place += size
    return found


def is_apart(char: str) -> bool:
    category = FROZEN.category(char)
    return not char.isalnum() if char.isascii() else category[0] in "PZ" or category == "Cc"


def is_alone(char: str) -> bool:
    point = ord(char)
    kana = 0x3040 <= point < 0x3100 or 0x31F0 <= point < 0x3200 or 0xFF66 <= point < 0xFFA0
    cjk = 0x3400 <= point < 0x4DC0 or 0x4E00 <= point < 0xA000 or 0xF900 <= point < 0xFB00
    return not is_apart(char) and (kana or cjk or 0x20000 <= point < 0x40000)


def lowered(char: str) -> str:
    lower = char.lower()
    known = FROZEN.category(char) != "Cn"
    return lower if known and len(lower.encode()) == len(char.encode()) else char


@given(TEXTS)
@example(["İI", "ǅ", "Ⱥ", "_a_B", "", " ", "中a文", "A" * (LONG - 1) + "中b"])
def test_words_are_those_of_a_reading_letter_by_letter(texts):
    found = words(pa.array(texts, pa.large_string()))
    encoded = [text.encode() for text in texts]
    begins = np.cumsum([0, *map(len, encoded)])
    assert found.data.tobytes() == b"".join(encoded)
    for number, text in enumerate(texts):
        rows = slice(found.bounds[number], found.bounds[number + 1])
        got = np.stack([found.starts[rows], found.ends[rows]], axis=1) - begins[number]
        assert got.tolist() == [[start, end] for _, start, end in plain_words(text)]


@given(TEXTS)
def test_words_have_one_hash_exactly_if_they_are_equal_in_lower_case(texts):
    found = words(pa.array(texts, pa.large_string()))
    spelled = [word for text in texts for word, *_ in plain_words(text)]
    hashes = found.hashes.tolist()
    assert len(set(spelled)) == len(set(hashes))
    assert len(set(zip(spelled, hashes, strict=True))) == len(set(spelled))


@given(st.integers(0, 3 * LONG), st.sampled_from(["word", "x" * 70, "é" * LONG]))
@example(LONG, "word")
@example(LONG - 2, "word")
def test_a_word_has_the_same_hash_wherever_it_stands(place, word):
    alone, shifted = (words(pa.array([" " * at + word])).hashes for at in (0, place))
    assert alone.tolist() == shifted.tolist()


@pytest.mark.parametrize("size", [1, PIECE, PIECE + 1, 5 * PIECE, LONG, LONG + 1, 3 * LONG])
def test_a_hash_is_the_polynomial_of_the_pieces_of_the_word(size):
    word = ("ndÜ" * size).encode()[:size].decode(errors="ignore").lower().encode()
    pieces = [word[at : at + PIECE] for at in range(0, len(word), PIECE)]
    numbers = mixed(np.array([int.from_bytes(piece, "little") for piece in pieces], np.uint64))
    wanted = polynomial(numbers.tolist(), BASE)
    assert words(pa.array([f"({word.decode().upper()})"])).hashes.tolist() == [wanted]


@given(TEXTS, st.integers(1, 7))
def test_an_ngram_is_the_polynomial_of_its_words(texts, n):
    found = words(pa.array(texts, pa.large_string()))
    hashes, bounds = ngrams(found, n)
    wanted = []
    for first, last in pairwise(found.bounds):
        row = found.hashes[first:last].tolist()
        starts = range(max(len(row) - n + 1, min(len(row), 1)))
        wanted.append([polynomial(row[start : start + n], STRIDE) for start in starts])
    assert np.diff(bounds).tolist() == [len(row) for row in wanted]
    assert hashes.tolist() == mixed(np.array([*chain(*wanted)], np.uint64)).tolist()


def polynomial(hashes: list[int], base: int) -> int:
    value = 0
    for one in hashes:
        value = (value * base + one) % 2**64
    return value


@given(TEXTS)
def test_words_do_not_depend_on_how_many_texts_are_worked_on_at_a_time(texts):
    rows = pa.array(texts, pa.large_string())
    whole = words(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("baiwen.data.words.SPAN", 3)
        parted = words(rows)
        patch.setattr("baiwen.data.words.SLICE", 3)
        assert pa.chunked_array(slices(rows), rows.type).to_pylist() == texts
    for name in ("hashes", "starts", "ends", "bounds"):
        assert getattr(parted, name).tolist() == getattr(whole, name).tolist()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_slices_chunks_and_nulls_are_read_like_any_strings(kind):
    rows = pa.array(["not this", "one two", None, "", "three"], kind)
    sliced = words(pa.chunked_array([rows[1:3], rows[3:]]))
    assert sliced.bounds.tolist() == [0, 2, 2, 2, 3]
    assert sliced.hashes.tolist() == words(pa.array(["one two three"])).hashes.tolist()


def test_the_bytes_are_those_that_arrow_holds():
    texts = pa.array(["one", "two"], pa.large_string())
    assert utf8(texts)[0].ctypes.data == texts.buffers()[2].address
    assert not len(words(pa.array([], pa.large_string())).hashes)
