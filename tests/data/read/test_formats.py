import gzip
import io

import pyarrow as pa
import pyarrow.parquet
import pypdf
import pytest

from baiwen.data.read import text
from baiwen.data.read.html import DEPTH

PAGE = """<html><head><title>T</title></head><body>
<nav><a href="/">Home</a> <a href="/x">Shop</a></nav>
<main><h1>Owls</h1>
<p>An owl turns its head by {degrees} degrees, which few other birds can.</p></main>
<footer>All rights reserved</footer></body></html>"""
TOLD = "Owls\n\nAn owl turns its head by 270 degrees, which few other birds can."


def one(documents):
    (found,) = documents
    return found


def test_code_knows_its_language(stored, read):
    for ending, language in ((".rs", "rust"), (".py", "python"), (".CPP", "c++")):
        found = one(read(stored(b"x = 1\n", ending)))
        assert (found.domain, found.meta["language"]) == ("code", language)
    assert one(read(stored(b"# Title\n", ".md"))).domain == "prose"


def test_no_ending_belongs_to_two_languages():
    endings = " ".join(text.LANGUAGES.values()).split()
    assert len(endings) == len(set(endings))


def test_broken_bytes_come_with_their_place_and_offset(stored, read):
    url = stored(b"good \xff bad", ".txt")
    found = one(read(url))
    assert found.flaw == "not UTF-8 at byte 5"
    assert (found.meta["place"], found.text) == (url, "good \ufffd bad")
    lines = stored(b'{"text": "fine"}\n\n{"text": "\xff"}\n[1]\n{"body": "x"}\n', ".jsonl")
    fine, line, no_object, no_text = read(lines)
    assert (fine.flaw, fine.meta["place"]) == (None, f"{lines}@0")
    assert line.flaw == "not UTF-8 at byte 10 of the line"
    assert line.meta["place"] == f"{lines}@18"
    assert no_object.flaw == "not a JSON object"
    assert no_text.flaw == "no string `text` (its fields: body)"


def test_a_byte_order_mark_is_no_text(stored, read):
    assert one(read(stored(b"\xef\xbb\xbfx", ".txt"))).text == "x"
    assert one(read(stored(b'\xef\xbb\xbf{"text": "x"}', ".jsonl"))).text == "x"


def test_a_line_longer_than_a_document_is_one_flaw_between_its_neighbours(stored, read, made):
    data = made[".jsonl"](["before", "a" * 5000, "after"])
    for ending, file in ((".jsonl", data), (".jsonl.gz", gzip.compress(data))):
        for chunk in (100, 1 << 20):
            url = stored(file, ending)
            before, long, after = read(url, document_bytes=2000, chunk_bytes=chunk)
            assert (before.text, after.text) == ("before", "after")
            assert long.flaw == "5,013 bytes, more than document_bytes = 2,000"
            assert (long.meta["place"], len(long.text)) == (f"{url}@19", 1000)


def test_other_files_longer_than_a_document_are_flaws(stored, read, made, a_record, a_pdf):
    for ending in (".txt", ".html", ".pdf"):
        found = one(read(stored(b"a" * 5000, ending), document_bytes=2000))
        assert found.flaw == "longer than document_bytes = 2,000"
    for ending in (".parquet", ".warc", ".warc.gz", "-whole.warc.gz"):
        url = stored(made[ending](["before", "a" * 5000, "after"]), ending)
        before, long, after = read(url, document_bytes=2000)
        assert (before.text, after.text) == ("before", "after")
        assert "more than document_bytes = 2,000" in long.flaw
    found = one(read(stored(a_pdf("a" * 500, "b" * 500), ".pdf"), document_bytes=900))
    assert found.flaw == "longer than document_bytes = 900"


def test_meta_that_is_nested_too_deeply_is_a_flaw(stored, read):
    line = b'{"text": "x", "meta": ' + b'{"a":' * 900 + b"1" + b"}" * 901
    found = one(read(stored(line, ".jsonl")))
    assert found.flaw == "`meta` is nested too deeply"


def test_of_a_parquet_file_only_the_columns_that_a_document_has_are_read(stored, read):
    rows = pa.Table.from_pylist([{"text": "a", "lang": "zh", "embedding": [0.5] * 999}])
    file = io.BytesIO()
    pyarrow.parquet.write_table(rows, file, compression=None, use_dictionary=False)
    about = pyarrow.parquet.ParquetFile(file).metadata.row_group(0).column(2)
    start, length = about.data_page_offset, about.total_compressed_size
    broken = file.getvalue()[:start] + b"\xff" * length + file.getvalue()[start + length :]
    found = one(read(stored(broken, ".parquet")))
    assert (found.text, found.meta["language"], found.flaw) == ("a", "zh", None)


def test_parquet_without_texts_is_told_by_its_columns(stored, read):
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"body": ["x"], "n": [1]}), file)
    found = one(read(stored(file.getvalue(), ".parquet")))
    assert found.flaw == "no column `text` (its columns: body, n)"


def test_parquet_text_that_is_not_utf8_costs_one_row(stored, read):
    raw = pa.array([b"one", b"t\xffo", b"three"], pa.binary())
    broken = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"text": broken}), file)
    before, two, after = read(stored(file.getvalue(), ".parquet"))
    assert (before.text, after.text) == ("one", "three")
    assert two.flaw == "not UTF-8 at byte 1 of a column"
    assert two.meta["place"].endswith("#2")


def test_of_html_the_main_content_is_read(stored, read):
    page = PAGE.format(degrees=270).encode()
    assert one(read(stored(page, ".html"))).text == TOLD
    whole = one(read(stored(page, ".html"), main_content=False)).text
    assert "Shop" in whole
    assert "All rights reserved" in whole


@pytest.mark.parametrize(
    ("charset", "told"),
    [
        ("utf-8", ""),
        ("utf-16", ""),
        ("gb18030", '<meta charset="gb2312">'),
        ("shift_jis", '<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">'),
        ("utf-8", '<meta charset="iso-8859-7">' + "一二三" * 40),
    ],
)
def test_html_is_read_in_its_own_charset(stored, read, charset, told):
    words = "一つの時間と人々の世界"
    page = f"<html><head>{told}</head><body><p>{words}</p></body></html>".encode(charset)
    assert words in one(read(stored(page, ".html"))).text


@pytest.mark.parametrize(
    ("charset", "codec", "words"),
    [
        ("gb2312", "gb18030", "价格是㐀元€"),
        ("shift_jis", "cp932", "手順は①と②です"),
        ("big5", "big5hkscs", "佢嘅咗嚟"),
        ("euc-kr", "cp949", "똠방각하 펲시콜라"),
    ],
)
def test_html_has_all_letters_that_browsers_read_in_its_charset(
    stored, read, charset, codec, words
):
    page = f'<meta charset="{charset}"><body><p>{words * 20}</p></body>'.encode(codec)
    (found,) = read(stored(page, ".html"))
    assert found.text == words * 20


def test_a_broken_byte_in_a_long_page_is_no_flaw_and_broken_pages_are(stored, read):
    page = b'<meta charset="utf-8"><p>' + "über ".encode() * 300
    found = one(read(stored(page + b"\xff</p>", ".html")))
    assert (found.flaw, found.text.count("\ufffd")) == (None, 1)
    zeros = one(read(stored(b"<p>" + bytes(9), ".html")))
    assert zeros.flaw == "no HTML: a zero byte as character 3"


def test_html_nested_without_end_takes_no_time(stored, read):
    found = one(read(stored(b"<div>" * 100_000 + b"x", ".html")))
    assert found.flaw == f"no HTML: more than {DEPTH} elements within each other"
    nested = b"<div>" * (DEPTH - 5) + b"<p>Some words that are said.</p>"
    assert one(read(stored(nested, ".html"))).flaw is None


def test_pages_of_a_pdf_are_its_text(stored, read, a_pdf):
    assert one(read(stored(a_pdf("First page", "Second page"), ".pdf"))).text == (
        "First page\n\nSecond page"
    )


def test_pdfs_that_hold_no_text_say_why(stored, read, a_pdf):
    empty = one(read(stored(a_pdf("", ""), ".pdf")))
    assert empty.flaw == "no text in its 2 pages: images of pages?"
    assert one(read(stored(b"hello", ".pdf"))).flaw.startswith("no whole PDF: page 1: ")
    for password, flaw in (("secret", "encrypted: it wants a password"), ("", None)):
        writer, file = pypdf.PdfWriter(clone_from=io.BytesIO(a_pdf("Hidden"))), io.BytesIO()
        writer.encrypt(password, "owner", algorithm="RC4-128")
        writer.write(file)
        assert one(read(stored(file.getvalue(), ".pdf"))).flaw == flaw


def test_pages_of_a_crawl_come_with_url_and_date(stored, read, a_record):
    html = PAGE.format(degrees=270).encode()
    file = b"".join(
        gzip.compress(part)
        for part in (
            a_record(html, url="https://a.example/owls"),
            a_record(b"gone", status="404 Not Found"),
            a_record(b"\x89PNG", kind="image/png"),
            a_record("naïve".encode("latin-1"), kind="text/plain; charset=ISO-8859-1"),
        )
    )
    url = stored(file, ".warc.gz")
    page, plain = read(url)
    assert page.text == TOLD
    assert page.meta["url"] == "https://a.example/owls"
    assert page.meta["date"] == "2024-09-19T00:00:00+00:00"
    assert page.meta["place"] == f"{url}@0"
    assert plain.text == "naïve"


def test_a_page_that_was_packed_for_its_way_is_unpacked(stored, read, a_record):
    body = gzip.compress(PAGE.format(degrees=270).encode())
    kind = "text/html; charset=utf-8\r\nContent-Encoding: gzip"
    assert one(read(stored(a_record(body, kind), ".warc"))).text == TOLD


@pytest.mark.parametrize(("ending", "pack"), [(".warc", bytes), (".warc.gz", gzip.compress)])
def test_a_page_that_unpacks_to_more_than_a_document_is_one_flaw(
    stored, read, a_record, ending, pack
):
    kind = "text/plain\r\nContent-Encoding: gzip"
    bomb, after = a_record(gzip.compress(bytes(10**6)), kind), a_record(b"after", "text/plain")
    first, second = read(stored(pack(bomb) + pack(after), ending), document_bytes=10**5)
    assert first.flaw == "longer than document_bytes = 100,000"
    assert (second.text, second.flaw) == ("after", None)


def test_a_real_crawl_is_read_alike_in_one_piece_and_in_many(shared, read):
    path = shared / "pipeline" / "dolma" / "warc__sample-0000.warc.gz"
    found = read(path)
    assert len(found) == 22
    assert not any(document.flaw for document in found)
    assert read(path, chunk_bytes=5000) == found
    talk = next(one for one in found if "mastodon" in one.meta["url"])
    assert "Some things to know about Mastodon" in talk.text


def test_a_text_file_of_a_corpus_says_no_more_of_itself_than_it_is_told(tmp_path):
    """What the standard library's documents are must not depend on where it is installed."""
    (tmp_path / "a.py").write_text("x = 1\n")
    assert text.text_file(tmp_path / "a.py", {"path": "a.py"}).meta == {"path": "a.py"}
