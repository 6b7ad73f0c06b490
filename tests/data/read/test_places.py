import functools
import http.server
import os
import threading

import pytest

from baiwen.data.read import find, local, size
from baiwen.errors import UserError


def test_folders_globs_and_files_are_found_in_order(tmp_path):
    names = ("b.txt", "a.md", "sub/c.rst", "sub/D.PY", "e.csv", ".hidden/f.txt", "__pycache__/g.py")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    wanted = [tmp_path / name for name in ("a.md", "b.txt", "sub/D.PY", "sub/c.rst")]
    assert find([tmp_path]) == wanted
    assert find([tmp_path / "**/*.rst", tmp_path / "a.md"]) == [wanted[3], wanted[0]]


def test_a_file_that_two_places_name_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert find([tmp_path, tmp_path / "a.txt", tmp_path / "*.txt"]) == [tmp_path / "a.txt"]


def test_of_a_run_folder_the_documents_that_were_kept_are_found(tmp_path):
    kept = ["documents-code-00000.jsonl.zst", "documents-prose-00000.jsonl.zst"]
    others = ["heldout.jsonl.zst", "dropped-00000.jsonl.zst", "parts/documents/00000.parquet"]
    for name in (*kept, *others, "data.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert find([tmp_path]) == [tmp_path / name for name in kept]
    assert find([tmp_path / "heldout.jsonl.zst"]) == [tmp_path / "heldout.jsonl.zst"]


def test_places_that_hold_nothing_are_named(tmp_path):
    (tmp_path / "table.csv").write_text("a")
    with pytest.raises(UserError, match="there is no file, folder or glob of documents at"):
        find([tmp_path / "tabel"])
    with pytest.raises(
        UserError, match=r"table.csv: documents are read from files that end in .txt"
    ):
        find([tmp_path / "table.csv"])
    for place in (tmp_path, tmp_path / "*.txt"):
        with pytest.raises(UserError, match="holds no file that ends in"):
            find([place])


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is denied to root")
def test_a_folder_that_is_denied_is_named_and_not_passed_over(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "sub").mkdir(mode=0)
    (tmp_path / ".hidden").mkdir(mode=0)
    with pytest.raises(UserError, match=r"cannot be read: Permission denied \(.*sub\)"):
        find([tmp_path])
    (tmp_path / "sub").chmod(0o700)
    assert find([tmp_path]) == [tmp_path / "a.txt"]


def test_urls_are_found_by_file_folder_and_glob(stored, made, read):
    first = stored(made[".jsonl"](["one"]), "-urls/b.jsonl")
    folder = first.rpartition("/")[0]
    second = stored(made[".jsonl"](["two"]), ".jsonl")
    assert find([first, second]) == [first, second]
    assert [place.rpartition("/")[2] for place in find([folder])] == ["b.jsonl"]
    assert [place.rpartition("/")[2] for place in find([f"{folder}/*.jsonl"])] == ["b.jsonl"]
    (found,) = read(folder)
    assert found.text == "one"
    assert found.meta["place"].startswith("memory://")
    assert (local(find([first])), size(first)) == ([], len(made[".jsonl"](["one"])))


def test_urls_that_hold_nothing_are_named(stored):
    with pytest.raises(UserError, match=r"a.csv: documents are read from files that end in"):
        find([stored(b"", "/a.csv")])
    with pytest.raises(UserError, match="memory://nothing: there is no such file or folder"):
        find(["memory://nothing"])
    with pytest.raises(UserError, match="no such kind of place: Protocol not known: gopher"):
        find(["gopher://a.example/b.txt"])


def test_a_driver_that_is_missing_is_named():
    """`adlfs` is in no environment of this project."""
    with pytest.raises(UserError, match="pip install adlfs"):
        find(["abfs://container/a.jsonl"])


def test_files_of_a_web_server_are_read(tmp_path, made, read):
    pytest.importorskip("aiohttp")
    texts = [f"text {number}" for number in range(9)]
    for ending in made:
        (tmp_path / f"a{ending}").write_bytes(made[ending](texts))
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for ending in (".jsonl", ".jsonl.gz", ".warc.gz"):
            url = f"http://127.0.0.1:{server.server_port}/a{ending}"
            assert [found.text for found in read(url)] == texts
        with pytest.raises(UserError, match="Parquet is read from its end, and this server gives"):
            read(f"http://127.0.0.1:{server.server_port}/a.parquet")
        with pytest.raises(UserError, match=r"b.jsonl: there is no such file"):
            read(f"http://127.0.0.1:{server.server_port}/b.jsonl")
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass
