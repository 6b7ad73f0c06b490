import random

import pytest

from baiwen import files
from baiwen.data import clean, read
from baiwen.data.document import document
from baiwen.data.split import HeldOut
from baiwen.data.writers import Writers, by_source, source_name
from baiwen.errors import UserError


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Files of several domains with duplicates, filtered and unreadable documents among them."""
    monkeypatch.setattr(read, "CHUNK", 3000)
    rng = random.Random(0)
    words = ["the", "cat", "and", "dog", "of", "house", "with", "tree", "that", "have", "to"]
    folder = tmp_path / "corpus"
    for i in range(60):
        text = " ".join(rng.choices(words, k=rng.randint(40, 120))) + f" {i}"
        files.write(folder / f"{i:02}.{rng.choice(['txt', 'py'])}", text)
    files.write(folder / "60.txt", (folder / text_name(folder)).read_text().replace(" ", "\n"))
    files.write(folder / "61.txt", b"\xff")
    return folder


def text_name(folder):
    return next(p.name for p in sorted(folder.glob("*.txt")) if len(p.read_text().split()) > 60)


def run(corpus, out, workers=1):
    chunks = read.chunks(read.find([corpus]))
    settings = {"repeated_lines": False, "mean_word_length": {"least": 1}}
    return clean.write(clean.judged(chunks, settings, workers), out, HeldOut(0.1, 10**6))


def ids(paths):
    return [row["id"] for path in paths for row in files.read_jsonl(path)]


def test_every_document_is_kept_or_held_out_or_dropped_and_counted(corpus, tmp_path):
    counts = run(corpus, tmp_path / "out")
    out = tmp_path / "out"
    kept = ids(sorted(out.glob("documents-*")))
    heldout, dropped = ids([out / "heldout.jsonl.zst"]), ids([out / "dropped.jsonl.zst"])
    assert len(kept) + len(heldout) + len(dropped) == 62 == counts.documents.total()
    assert not set(kept) & set(heldout)
    reasons = [row["reason"] for row in files.read_jsonl(out / "dropped.jsonl.zst")]
    assert {"duplicate", "unreadable", "gopher: too few words"} <= set(reasons)
    for (outcome, _), count in counts.documents.items():
        assert count <= {"kept": len(kept), "heldout": len(heldout)}.get(
            outcome, reasons.count(outcome)
        )
    assert heldout


def test_any_number_of_processes_writes_the_same_bytes(corpus, tmp_path):
    counts = [run(corpus, tmp_path / str(workers), workers).table() for workers in (1, 2, 3)]
    assert counts[0] == counts[1] == counts[2]
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    for workers in ("2", "3"):
        assert sorted(path.name for path in (tmp_path / workers).iterdir()) == names
        for name in names:
            one, other = tmp_path / "1" / name, tmp_path / workers / name
            assert one.read_bytes() == other.read_bytes()


def test_the_first_of_equal_documents_stays_whatever_their_spaces(tmp_path):
    def entry(text):
        (judged,) = clean.judge(
            read.Chunk(lambda items, meta: iter(items), [document(text, {})], {}, filtered=False),
            {},
        )
        return judged

    entries = [entry("a b"), entry("c"), entry("a\n b"), entry("a b")]
    clean.write(entries, tmp_path, HeldOut(0, 0))
    kept = [row["text"] for row in files.read_jsonl(tmp_path / "documents-prose-00000.jsonl.zst")]
    assert kept == ["a b", "c"]


def test_too_many_unreadable_documents_stop_the_run_with_their_places(corpus, tmp_path):
    counts = run(corpus, tmp_path / "out")
    counts.check_unreadable(0.02)
    with pytest.raises(UserError) as error:
        counts.check_unreadable(0.01)
    assert f"{corpus / '61.txt'}: not UTF-8 at byte 0" in str(error.value)
    assert "1 of 62 documents cannot be read, more than max_unreadable = 0.01" in str(error.value)


def test_a_limit_ends_the_reading(corpus):
    chunks = read.chunks(read.find([corpus]))
    every = list(clean.judged(chunks, {}, 1))
    some = list(clean.limited(iter(every), 5000))
    passed = [entry.document.size for entry in some if entry.reason is None]
    assert sum(passed) >= 5000 > sum(passed[:-1])
    assert list(clean.limited(every, None)) == every


def test_documents_files_are_parted_by_domain_and_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("baiwen.data.writers.FILE_BYTES", 100)
    with Writers(tmp_path) as keep:
        for i in range(20):
            keep.put(document(f"{i:030}", {"domain": "Web pages!" if i % 2 else "code"}))
    found = by_source(tmp_path)
    assert {name: len(paths) for name, paths in found.items()} == {"Web_pages": 4, "code": 4}
    assert [row["text"] for path in found["code"] for row in files.read_jsonl(path)] == [
        f"{i:030}" for i in range(0, 20, 2)
    ]


def test_after_an_exception_no_open_documents_file_appears(tmp_path):
    with pytest.raises(KeyError), Writers(tmp_path) as keep:
        keep.put(document("text", {}))
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_domain_for_every_document_is_refused(tmp_path):
    with pytest.raises(UserError, match="more than 100 domains"), Writers(tmp_path) as keep:
        for i in range(101):
            keep.put(document("text", {"domain": f"site{i}"}))


@pytest.mark.parametrize(
    ("domain", "name"),
    [("code", "code"), ("Books (en)", "Books_en"), ("../x", "x"), ("!", "unnamed")],
)
def test_a_domain_names_a_source_without_leaving_the_folder(domain, name):
    assert source_name(domain) == name
