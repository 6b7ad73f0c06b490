import pytest

from baiwen import config, files
from baiwen.data.document import document
from baiwen.data.shards import Shards, names
from baiwen.errors import UserError
from baiwen.stages import shards
from baiwen.tokenizer import bpe


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    bpe.train(["a few words, again and again and again a few words"] * 5, 260).save(folder)
    return folder


def write(folder, domain, *files_of_texts):
    """Documents files as the data stage writes them."""
    for number, texts in enumerate(files_of_texts):
        with files.jsonl_writer(folder / f"documents-{domain}-{number:05}.jsonl.zst") as put:
            for text in texts:
                put(document(text, {"domain": domain}).row())


@pytest.fixture
def settings(tmp_path, tokenizer_folder):
    for domain, first in (("code", 0), ("web", 1)):
        texts = [f"a few words, number {i} " * 5 for i in range(first, 90, 2)]
        write(tmp_path / "data", domain, texts[:17], texts[17:34], texts[34:])
    kept = {name: {"documents": 45, "bytes": 5355} for name in ("code", "web")}
    files.write_json(tmp_path / "data" / "data.json", {"kept": kept})
    return shards.Config(
        out=tmp_path / "out", documents=tmp_path / "data", tokenizer=tokenizer_folder, workers=1
    )


def run(settings):
    with files.run_folder(settings.out, config.resolved(settings)) as folder:
        shards.run(settings, folder)


def content(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.glob("*/*"))
        if path.parent.name != "state"
    }


def test_every_domain_becomes_a_source_with_a_shard_for_each_file(settings):
    run(settings)
    assert names(settings.out) == ["code", "web"]
    source = Shards.open(settings.out / "web")
    assert len(source.tokens) == len(list(settings.documents[0].glob("documents-web-*"))) > 1
    assert len(source.ends) == 45
    assert files.complete(settings.out)


def test_folders_of_documents_are_read_together(settings, tmp_path):
    for domain in ("web", "long"):
        write(tmp_path / "more", domain, ["a few words more"])
    files.write_json(tmp_path / "more" / "data.json", {"kept": {"long": {"bytes": 16}}})
    both = settings.model_copy(
        update={"documents": (*settings.documents, tmp_path / "more"), "out": tmp_path / "both"}
    )
    assert shards.plan(both)["tokens (estimate)"] > shards.plan(settings)["tokens (estimate)"]
    run(both)
    assert names(both.out) == ["code", "long", "web"]
    assert len(Shards.open(both.out / "web").ends) == 46


def test_processes_write_the_same_bytes_as_one(settings, tmp_path):
    run(settings)
    run(settings.model_copy(update={"out": tmp_path / "two", "workers": 2}))
    assert content(settings.out) == content(tmp_path / "two")


def test_a_killed_run_writes_only_what_was_not_finished(settings, monkeypatch):
    finished = 0

    def dying(job):
        nonlocal finished
        if finished == 3:
            raise KeyboardInterrupt
        finished += 1
        return tokenize(job)

    tokenize = shards.tokenize
    monkeypatch.setattr(shards, "tokenize", dying)
    with pytest.raises(KeyboardInterrupt):
        run(settings)
    times = {path: path.stat().st_mtime_ns for path in settings.out.glob("*/tokens-*.bin")}
    assert len(times) == 3
    victim = min(times)
    victim.write_bytes(victim.read_bytes()[:-1])
    monkeypatch.setattr(shards, "tokenize", tokenize)
    run(settings)
    again = [path for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert again == [victim]
    once = content(settings.out)
    whole = settings.model_copy(update={"out": settings.out.parent / "whole"})
    run(whole)
    assert content(whole.out) == once


def test_a_plan_estimates_the_tokens(settings):
    planned = shards.plan(settings)["tokens (estimate)"]
    run(settings)
    written = sum(len(Shards.open(settings.out / name)) for name in ("code", "web"))
    assert abs(planned - written) < 0.05 * written


def test_a_folder_without_documents_is_refused(settings, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="Give the folder of a data stage"):
        run(settings.model_copy(update={"documents": (tmp_path / "empty",)}))


def test_a_document_without_text_is_named(settings):
    path = settings.documents[0] / "documents-mine-00000.jsonl.zst"
    with files.jsonl_writer(path) as put:
        put({"body": "a"})
    with pytest.raises(UserError, match=f"{path}@0: no string `text`"):
        run(settings)


def test_an_empty_documents_file_is_an_empty_source(settings):
    with files.jsonl_writer(settings.documents[0] / "documents-none-00000.jsonl.zst"):
        pass
    run(settings)
    assert len(Shards.open(settings.out / "none")) == 0


def test_a_plan_counts_all_domains_of_a_source(settings):
    planned = shards.plan(settings)
    parts = {name: {"documents": 45, "bytes": 5355} for name in ("code", "web!", "(web)")}
    files.write_json(settings.documents[0] / "data.json", {"kept": parts})
    assert shards.plan(settings)["tokens (estimate)"] > 1.4 * planned["tokens (estimate)"]


def test_a_resumed_run_leaves_nothing_of_documents_that_are_gone(settings, tmp_path, monkeypatch):
    with monkeypatch.context() as unsealed, pytest.raises(KeyboardInterrupt):
        unsealed.setattr(shards.log, "say", _interrupt)  # after the first source's index
        run(settings)
    files_of_code = sorted(settings.documents[0].glob("documents-code-*"))
    for path in [*settings.documents[0].glob("documents-web-*"), files_of_code[-1]]:
        path.unlink()
    run(settings)
    whole = settings.model_copy(update={"out": tmp_path / "whole"})
    run(whole)
    assert content(settings.out) == content(whole.out)
    assert names(settings.out) == ["code"]


def _interrupt(_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("domain", ["state", "Logs"])
def test_a_domain_with_a_name_of_the_run_folder_is_refused(settings, domain):
    write(settings.documents[0], domain, ["a few words"])
    with pytest.raises(UserError, match=f"documents of the domain '{domain}', but that is the na"):
        shards.check(settings, to_come=[])
    with pytest.raises(UserError, match="Give these documents another"):
        run(settings)
    shards.check(settings, to_come=[settings.documents[0]])
