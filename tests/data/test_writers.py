"""Which documents go into which file."""

import pytest

from baiwen import files
from baiwen.data.pipeline.census import Census
from baiwen.data.writers import by_source, plan, source_name
from baiwen.errors import UserError


def counted(*parts):
    """A census of each part, given the bytes kept by domain."""
    return [
        Census(kept={domain: {"documents": 1, "bytes": size} for domain, size in part.items()})
        for part in parts
    ]


def test_a_file_holds_whole_parts_of_one_domain_up_to_its_size(monkeypatch):
    monkeypatch.setattr("baiwen.data.writers.FILE_BYTES", 100)
    found = plan(counted({"code": 60, "web": 5}, {"code": 30}, {"web": 5}, {"code": 30}))
    assert [(one.name, one.parts) for one in found] == [
        ("documents-code-00000.jsonl.zst", (0, 1)),
        ("documents-code-00001.jsonl.zst", (3,)),
        ("documents-web-00000.jsonl.zst", (0, 2)),
    ]


def test_domains_whose_names_read_alike_share_their_files():
    (found,) = plan(counted({"Books (en)": 1}, {"Books_en": 1}))
    assert found.domains == ("Books (en)", "Books_en") and found.parts == (0, 1)


def test_a_domain_for_every_document_is_refused():
    with pytest.raises(UserError, match="has 101 domains, more than 100"):
        plan(counted({f"site{i}": 1 for i in range(101)}))


def test_documents_files_are_found_by_source(tmp_path):
    for name in ("code-00001", "code-00000", "Web_pages-00000"):
        files.write(tmp_path / f"documents-{name}.jsonl.zst", b"")
    found = by_source(tmp_path)
    assert {name: [path.name for path in paths] for name, paths in found.items()} == {
        "Web_pages": ["documents-Web_pages-00000.jsonl.zst"],
        "code": ["documents-code-00000.jsonl.zst", "documents-code-00001.jsonl.zst"],
    }
    with pytest.raises(UserError, match="holds no documents-NAME"):
        by_source(tmp_path / "none")


@pytest.mark.parametrize(
    ("domain", "name"),
    [("code", "code"), ("Books (en)", "Books_en"), ("../x", "x"), ("!", "unnamed")],
)
def test_a_domain_names_a_source_without_leaving_the_folder(domain, name):
    assert source_name(domain) == name
