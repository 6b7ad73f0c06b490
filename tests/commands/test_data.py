"""`baiwen data`, over a run of the stage."""

import argparse
import json

import pytest

from baiwen import files
from baiwen.commands import data
from baiwen.errors import UserError
from benchmarks.sides import data_same


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    corpus = data_same.write_corpus(folder / "corpus")
    data_same.run(data_same.settings(corpus, folder / "out"))
    return folder / "out"


def asked(capsys, what, *names, as_json=False):
    data.main(argparse.Namespace(what=what, names=[*map(str, names)], json=as_json))
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["dropped-00000", "documents-code-00000", "documents-web-00000", "heldout"]
)
def test_every_document_is_told_with_its_verdict_and_the_file_it_is_in(run, capsys, name):
    path = run / f"{name}.jsonl.zst"
    row = next(iter(files.read_jsonl(path)))
    life = json.loads(asked(capsys, "explain", row["id"], run, as_json=True))
    assert life["file"] == path.name
    assert life["text"] == row["text"] and life["meta"] == row["meta"]
    assert life["verdict"] == row.get("verdict") or name == "heldout"
    assert list(life["steps"]) == ["read", *row["meta"]["lineage"]["steps"]]


def test_a_dropped_document_is_told_in_words(run, capsys):
    row = next(iter(files.read_jsonl(run / "dropped-00000.jsonl.zst")))
    told = asked(capsys, "explain", row["id"], run)
    assert "goes: 'gopher: too few words' (9, bound 20)" in told
    assert "dropped, in dropped-00000.jsonl.zst" in told


def test_the_beginning_of_an_id_is_enough_where_no_other_begins_so(run, capsys):
    assert asked(capsys, "explain", "d4", run, as_json=True).count("\n") == 1  # not d40 ... d47
    with pytest.raises(UserError, match=r"48 ids begin with d: d0, d1, d10, d11, d12, \.\.\."):
        asked(capsys, "explain", "d", run)
    with pytest.raises(UserError, match=r"has the id d4x\. Nearest: d4, d40, d41, d42, d43"):
        asked(capsys, "explain", "d4x", run)


def test_the_funnel_is_a_line_a_step(run, capsys):
    lines = asked(capsys, "funnel", run).splitlines()
    steps = [row["step"] for row in json.loads(asked(capsys, "funnel", run, as_json=True))]
    assert [line.split()[0] for line in lines] == ["step", *steps]


def test_a_folder_that_is_no_data_run_is_told(tmp_path, capsys, monkeypatch):
    with pytest.raises(UserError, match="holds no finished run of the stage `data`"):
        asked(capsys, "funnel", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="below runs/ there is no finished data run"):
        asked(capsys, "explain", "d4")
