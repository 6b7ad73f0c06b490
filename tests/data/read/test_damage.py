"""Damage anywhere: nothing raises, and what lies before it is read as it was."""

import zlib
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TEXTS = [f"Text {number}: " + "one two three " * (number % 7) for number in range(24)]
many = settings(max_examples=40)


@st.composite
def damage(draw, size):
    """Where damage begins, and a function that does it to bytes."""
    at = draw(st.integers(0, size - 1))
    kind = draw(st.sampled_from(["flip", "cut", "insert", "delete", "zeros"]))
    some = draw(st.binary(min_size=1, max_size=20))
    done = {
        "flip": lambda data: data[:at] + bytes([data[at] ^ some[0] or 255]) + data[at + 1 :],
        "cut": lambda data: data[:at],
        "insert": lambda data: data[:at] + some + data[at:],
        "delete": lambda data: data[:at] + data[at + len(some) :],
        "zeros": lambda data: data[:at] + bytes(len(some)) + data[at + len(some) :],
    }
    return at, kind, done[kind]


def before(data, at, ending, made):
    """How many texts of a file end before a byte of it."""
    match ending:
        case ".jsonl":
            return data[:at].count(b"\n")
        case ".jsonl.gz":
            return zlib.decompressobj(31).decompress(data[:at]).count(b"\n")
        case ".warc":
            ends = accumulate(len(made[ending]([text])) for text in TEXTS)
        case "-whole.warc.gz":
            held = len(zlib.decompressobj(31).decompress(data[:at]))
            ends = accumulate(len(made[".warc"]([text])) for text in TEXTS)
            return sum(end <= held for end in ends)
        case _:
            ends = accumulate(len(made[ending]([text])) for text in TEXTS)
    return sum(end <= at for end in ends)


@pytest.mark.parametrize(
    "ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".warc", ".warc.gz", "-whole.warc.gz"]
)
@many
@given(data=st.data())
def test_what_lies_before_damage_is_read_as_it_was(read, stored, made, ending, data):
    whole = made[ending](TEXTS)
    at, _, damaged = data.draw(damage(len(whole)))
    chunk_bytes = data.draw(st.sampled_from([50, 1000, 1 << 22]))
    found = read(stored(damaged(whole), ending), chunk_bytes=chunk_bytes)
    safe = before(whole, at, ending, made)
    assert [one.text for one in found[:safe]] == TEXTS[:safe]
    assert not any(one.flaw for one in found[:safe])


@many
@given(data=st.data())
def test_damage_in_a_crawl_costs_only_the_records_it_hits(read, stored, made, data):
    parts = [made[".warc.gz"]([text]) for text in TEXTS]
    hit = data.draw(st.integers(0, len(parts) - 1))
    _, kind, damaged = data.draw(damage(len(parts[hit])))
    changed = damaged(parts[hit])
    url = stored(b"".join([*parts[:hit], changed, *parts[hit + 1 :]]), ".warc.gz")
    found = read(url, chunk_bytes=data.draw(st.sampled_from([300, 1 << 22])))
    texts = [one.text for one in found if not one.flaw]
    rest = TEXTS[:hit] + TEXTS[hit + 1 :]
    assert [text for text in texts if text in rest] == rest
    assert len(found) >= len(TEXTS) - 1 + (kind == "cut" and len(changed) > 1000)


@many
@given(data=st.data())
def test_damage_in_a_row_group_costs_no_earlier_one(read, stored, made, data):
    whole = made[".parquet"](TEXTS)
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    at = data.draw(st.integers(4, len(whole) - footer - 1))
    flipped = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    found = read(stored(flipped, ".parquet"))
    flaws = [one.meta["place"] for one in found if one.flaw]
    texts = [one.text for one in found if not one.flaw]
    if not flaws:
        assert texts == TEXTS
        return
    (place,) = flaws
    row = int(place.rpartition("#")[2])
    assert texts == TEXTS[: row - 1] + TEXTS[-(-row // 4) * 4 :]


@pytest.mark.parametrize(
    "ending", [".jsonl.gz", ".jsonl.zst", ".warc", ".warc.gz", "-whole.warc.gz", ".parquet"]
)
def test_a_cut_archive_gives_what_was_whole_and_one_flaw(read, stored, made, ending):
    whole = made[ending](TEXTS)
    for size in (len(whole) - 3, len(whole) * 2 // 3, len(whole) // 3):
        *kept, last = read(stored(whole[:size], ending))
        assert [one.flaw for one in kept] == [None] * len(kept)
        assert [one.text for one in kept] == TEXTS[: len(kept)]
        assert last.flaw
        if ending != ".parquet":  # whose footer says where everything lies
            assert len(kept) >= before(whole, size, ending, made)
            assert "@" in last.meta["place"]


@pytest.mark.parametrize("ending", [".html", ".pdf", ".txt"])
@many
@given(data=st.data())
def test_damage_in_a_file_of_one_document_gives_one_document(read, stored, a_pdf, ending, data):
    page = b"<html><body><p>One.</p><table><tr><td>two</td></tr></table></body></html>"
    whole = a_pdf("First page", "Second page") if ending == ".pdf" else page
    _, _, damaged = data.draw(damage(len(whole)))
    assert len(read(stored(damaged(whole), ending))) == 1


@many
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_as_any_format(read, stored, made, data):
    for ending in (*made, ".html", ".pdf", ".txt"):
        for one in read(stored(data, ending)):
            assert one.text.encode() is not None
