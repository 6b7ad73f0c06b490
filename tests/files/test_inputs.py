"""Fingerprints: the same for the same content, another for another."""

import os
import shutil

import pytest

from baiwen import files
from baiwen.files import inputs


@pytest.fixture
def run(tmp_path):
    """A sealed run folder."""
    folder = tmp_path / "runs" / "data"
    with files.run_folder(folder, {"stage": "data"}):
        files.write(folder / "documents.jsonl", "one\n")
        files.write(folder / "best" / "model", "weights")
    return folder


def of(*paths):
    return files.fingerprint(paths)


def test_a_file_and_a_folder_count_by_their_content(tmp_path):
    for name in ("a", "b"):
        files.write(tmp_path / name / "text", "one")
        files.write(tmp_path / name / ".hidden", name)
    os.utime(tmp_path / "b" / "text", (1, 1))
    for name in ("a", "a/text"):
        before = of(tmp_path / name)
        assert before.startswith("sha256 ")
        assert before == of(tmp_path / name.replace("a", "b"))
    files.write(tmp_path / "b" / "text", "two")
    assert of(tmp_path / "a") != of(tmp_path / "b")
    files.write(tmp_path / "a" / "more", "")
    assert before != of(tmp_path / "a")


def test_a_run_that_is_made_again_in_the_same_bits_is_the_same_input(run):
    before = of(run), of(run / "documents.jsonl"), of(run / "best")
    assert len(set(before)) == 3
    shutil.rmtree(run)
    with files.run_folder(run, {"stage": "data"}):
        files.write(run / "documents.jsonl", "one\n")
        files.write(run / "best" / "model", "weights")
    assert (of(run), of(run / "documents.jsonl"), of(run / "best")) == before
    shutil.rmtree(run)
    with files.run_folder(run, {"stage": "data"}):
        files.write(run / "documents.jsonl", "two\n")
        files.write(run / "best" / "model", "weights")
    after = of(run), of(run / "documents.jsonl"), of(run / "best")
    assert [one == other for one, other in zip(after, before, strict=True)] == [False, False, True]


def test_what_a_manifest_lists_is_not_read(run, monkeypatch):
    monkeypatch.setattr(inputs, "sha256", pytest.fail)
    assert of(run) and of(run / "documents.jsonl")


def test_a_listed_file_that_was_changed_by_hand_is_read(run):
    before = of(run)
    (run / "documents.jsonl").write_text("one\ntwo\n")
    assert of(run) != before


def test_a_large_input_counts_by_size_and_time(tmp_path, monkeypatch):
    files.write(tmp_path / "corpus" / "text", "one")
    monkeypatch.setattr(inputs, "READ", 2)
    before = of(tmp_path / "corpus")
    assert before.startswith("stat ") and before == of(tmp_path / "corpus")
    os.utime(tmp_path / "corpus" / "text", (1, 1))
    assert of(tmp_path / "corpus") != before


def test_another_programs_manifest_is_a_file_like_any_other(tmp_path):
    files.write(tmp_path / "manifest.json", "{}")
    assert of(tmp_path).startswith("sha256 ")


def test_what_is_not_there_has_no_fingerprint(tmp_path):
    assert of(tmp_path / "none") is None
    assert of(tmp_path, tmp_path / "none") is None
