"""Manifests and whole folders."""

import errno
import hashlib
import json
from pathlib import Path

import pytest

from baiwen import files
from baiwen.errors import UserError
from baiwen.files.durable import is_partial


def fill(folder: Path, word: str) -> None:
    """Write as a foreign library does: neither fsynced nor renamed."""
    (folder / "deep").mkdir(exist_ok=True)
    (folder / "model.safetensors").write_text(word * 2000)
    (folder / "deep" / "config.json").write_text(f'"{word}"')


def save(path: Path, word: str) -> None:
    with files.writing_folder(path) as folder:
        fill(folder, word)


def content(folder: Path) -> str:
    files.check(folder)
    assert len(json.loads((folder / "manifest.json").read_text())["files"]) == 2
    word = json.loads((folder / "deep" / "config.json").read_text())
    assert (folder / "model.safetensors").read_text() == word * 2000
    return word


def test_a_manifest_lists_sha256_and_size_of_every_file(tmp_path):
    fill(tmp_path, "x")
    files.seal(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    text = b"x" * 2000
    assert manifest["files"]["model.safetensors"] == {
        "sha256": hashlib.sha256(text).hexdigest(),
        "bytes": 2000,
    }
    assert list(manifest["files"]) == ["deep/config.json", "model.safetensors"]


def test_excluded_names_are_not_listed(tmp_path):
    fill(tmp_path, "x")
    files.seal(tmp_path, exclude=("deep",))
    assert list(json.loads((tmp_path / "manifest.json").read_text())["files"]) == [
        "model.safetensors"
    ]


def test_any_flipped_byte_of_any_file_is_found(tmp_path):
    with files.writing_folder(tmp_path / "folder") as folder:
        (folder / "a").write_bytes(bytes(range(64)))
        (folder / "b").write_bytes(bytes(range(64, 128)))
    for path in (tmp_path / "folder" / "a", tmp_path / "folder" / "b"):
        whole = path.read_bytes()
        for index in range(len(whole)):
            path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
            with pytest.raises(UserError, match=rf"{path}: its bytes changed"):
                files.check(tmp_path / "folder")
        path.write_bytes(whole)
    files.check(tmp_path / "folder")


def test_a_truncated_file_and_a_missing_one_are_named_with_the_reason(tmp_path):
    save(tmp_path / "out", "x")
    (tmp_path / "out" / "model.safetensors").write_text("x" * 1999)
    with pytest.raises(UserError, match=r"model.safetensors: it has 1,999 bytes, not 2,000"):
        files.check(tmp_path / "out")
    assert not files.complete(tmp_path / "out")
    (tmp_path / "out" / "deep" / "config.json").unlink()
    with pytest.raises(UserError, match=r"deep/config.json: it is missing"):
        files.check(tmp_path / "out")


def test_files_that_the_manifest_does_not_list_are_ignored(tmp_path):
    save(tmp_path / "out", "x")
    (tmp_path / "out" / "note.txt").write_text("mine")
    files.check(tmp_path / "out")
    assert files.complete(tmp_path / "out")


def test_a_folder_without_a_manifest_is_not_complete(tmp_path):
    fill(tmp_path, "x")
    assert not files.complete(tmp_path)
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        files.check(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"files": {"a": {}}}', '{"files": {"../a": {"sha256": "", "bytes": 0}}}', "\xff"],
)
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="it is not a manifest"):
        files.check(tmp_path)


def test_a_folder_killed_anywhere_is_whole_or_absent(tmp_path, faults):
    path = tmp_path / "disk" / "deep" / "out"
    for ending in faults(tmp_path / "disk", lambda: None, lambda: save(path, "new")):
        assert not path.exists() or content(path) == "new"
        assert path.exists() or ending == "killed"


def test_a_replaced_folder_killed_anywhere_is_the_old_or_the_new_one(tmp_path, faults):
    root, path = tmp_path / "disk", tmp_path / "disk" / "out"
    seen = set()
    for ending in faults(root, lambda: save(path, "old"), lambda: save(path, "new")):
        seen.add((ending, content(path)))
    assert seen == {("killed", "old"), ("killed", "new"), ("finished", "new")}
    assert [child.name for child in root.iterdir()] == ["out"]


def test_a_folder_that_the_disk_refuses_leaves_the_old_one(tmp_path, faults):
    root, path = tmp_path / "disk", tmp_path / "disk" / "out"
    save_old, save_new = lambda: save(path, "old"), lambda: save(path, "new")
    for ending in faults(root, save_old, save_new, errno.ENOSPC):
        assert content(path) in (("old", "new") if ending == "refused" else ("new",))
        assert all(child == path or is_partial(child.name) for child in root.iterdir())


def test_sealing_killed_anywhere_never_leaves_a_wrong_manifest(tmp_path, faults):
    root = tmp_path / "disk"
    for ending in faults(root, lambda: fill(root, "x"), lambda: files.seal(root)):
        assert ending == "killed" or files.complete(root)
        if (root / "manifest.json").exists():
            assert content(root) == "x"


def test_a_folder_whose_deletion_is_killed_anywhere_is_whole_or_gone(tmp_path, faults):
    root, path = tmp_path / "disk", tmp_path / "disk" / "out"
    seen = set()
    for ending in faults(root, lambda: save(path, "x"), lambda: files.remove_folder(path)):
        seen.add((ending, path.exists() and content(path)))
        assert all(child == path or is_partial(child.name) for child in root.iterdir())
    assert seen == {("killed", "x"), ("killed", False), ("finished", False)}


def test_an_exception_while_building_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.writing_folder(tmp_path / "out") as folder:
        fill(folder, "x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_foreign_files_is_never_replaced(tmp_path):
    save(tmp_path / "out", "x")
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"thesis\.txt, which would be lost"):
        save(tmp_path / "out", "y")
    (tmp_path / "out" / "thesis.txt").unlink()
    save(tmp_path / "out", "y")
    assert content(tmp_path / "out") == "y"


def test_of_a_link_the_folder_is_replaced(tmp_path):
    (tmp_path / "link").symlink_to("real")
    for name in ("old", "new"):
        save(tmp_path / "link", name)
        assert content(tmp_path / "real") == name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_a_file_in_the_place_of_a_folder_is_never_replaced(tmp_path):
    files.write(tmp_path / "out", "mine")
    with pytest.raises(UserError, match="out is a file"):
        save(tmp_path / "out", "x")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_run_folder_is_never_replaced(tmp_path):
    with files.run_folder(tmp_path / "out", {"a": 1}) as run:
        fill(run.path, "x")
    with pytest.raises(UserError, match=r"holds \.lock"):
        save(tmp_path / "out", "y")
