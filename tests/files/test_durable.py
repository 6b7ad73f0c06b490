"""Durable writing: old or new, whatever happens."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from baiwen import files
from baiwen.errors import UserError
from baiwen.files.durable import is_partial, sweep

OLD, NEW = b"old" * 1000, b"new content" * 1000


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not is_partial(path.name))


def test_a_write_that_is_killed_anywhere_leaves_old_or_new(tmp_path, faults):
    root = tmp_path / "disk"
    path = root / "file"
    seen = set()
    for ending in faults(root, lambda: path.write_bytes(OLD), lambda: files.write(path, NEW)):
        assert path.read_bytes() in (OLD, NEW)
        assert visible(root) == ["file"]
        seen.add((ending, path.read_bytes() == NEW))
    assert seen == {("killed", False), ("killed", True), ("finished", True)}


def test_a_new_file_in_new_folders_is_there_whole_or_not_at_all(tmp_path, faults):
    root = tmp_path / "disk"
    path = root / "a" / "b" / "file"
    for ending in faults(root, lambda: None, lambda: files.write(path, NEW)):
        assert not path.exists() or path.read_bytes() == NEW
        assert path.exists() or ending == "killed"


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
def test_a_write_that_the_disk_refuses_leaves_the_old_file_and_nothing_else(
    tmp_path, faults, fault
):
    root = tmp_path / "disk"
    path = root / "file"
    for ending in faults(
        root, lambda: path.write_bytes(OLD), lambda: files.write(path, NEW), fault
    ):
        assert path.read_bytes() in ((OLD, NEW) if ending == "refused" else (NEW,))
        assert os.listdir(root) == ["file"]


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    with files.writing(tmp_path / "file", "w") as file:
        file.write("百问\n")
    assert (tmp_path / "file").read_bytes() == "百问\n".encode()


def test_an_exception_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    files.write(tmp_path / "file", OLD)
    with pytest.raises(KeyboardInterrupt), files.writing(tmp_path / "file") as file:
        file.write(NEW)
        raise KeyboardInterrupt
    assert (tmp_path / "file").read_bytes() == OLD
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_an_error_that_names_the_file_and_the_remedy(tmp_path):
    path = tmp_path / "file"
    files.write(path, OLD)
    script = "import sys; from baiwen import files; files.write(sys.argv[1], bytes(1 << 20))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16)),
        capture_output=True,
        text=True,
    )
    assert f"UserError: cannot write {path}: the file passes the size limit" in done.stderr
    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["file"]


def test_a_path_through_a_file_is_an_error_that_says_so(tmp_path):
    files.write(tmp_path / "file", OLD)
    with pytest.raises(UserError, match=r"file/x: a part of the path is a file"):
        files.write(tmp_path / "file" / "x", NEW)


def test_a_folder_in_the_place_of_a_file_is_an_error_that_says_so(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder: this is a folder"):
        files.write(tmp_path / "folder", NEW)


def test_an_error_of_another_file_keeps_its_own_words(tmp_path):
    with pytest.raises(NotADirectoryError), files.writing(tmp_path / "file"):
        os.listdir(__file__)


def test_sweep_deletes_unfinished_writes_and_nothing_else(tmp_path):
    for name in (".a.0123abcd.partial", "deep/.b.0123abcd.partial/c", ".hidden", "x.partial"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "deep", "x.partial"]
    assert os.listdir(tmp_path / "deep") == []


def test_a_refusal_below_a_folder_that_is_written_names_the_folder(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match=rf"cannot write {out}: the name is too long"):  # noqa: SIM117
        with files.writing_folder(out) as folder:
            (folder / ("x" * 300)).write_text("x")
    assert os.listdir(tmp_path) == []
