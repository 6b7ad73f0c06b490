"""The runner, by steps of a few lines over a small corpus: what is done again, and what is not."""

import json
from functools import partial

import pyarrow as pa
import pytest

from baiwen import files
from baiwen.data import read
from baiwen.data.pipeline import sidecar
from baiwen.data.pipeline.checks import check_failed
from baiwen.data.pipeline.ending import DROPPED, KEPT, Ended, Ending
from baiwen.data.pipeline.reading import read_all
from baiwen.data.pipeline.run import Run, manifests, run_steps, sweep
from baiwen.data.pipeline.step import Global, Map, Verdict, verdicts
from baiwen.data.read import Reading
from baiwen.errors import UserError

calls = []  # names of steps, as often as their functions were called


def longer(table, least):
    calls.append("longer")
    sizes = [len(text) for text in table["text"].to_pylist()]
    found = [None if size >= least else Verdict("too short", size, least) for size in sizes]
    return verdicts(found).append_column("size", pa.array(sizes, pa.float64()))


def kept_above(table, least):
    calls.append("above")
    sizes = table["longer.size"].to_pylist()
    return verdicts([None if s >= least else Verdict("below", s, least) for s in sizes])


def upper(table):
    calls.append("upper")
    texts = [text.upper() if text[0] == "b" else None for text in table["text"].to_pylist()]
    return pa.table({"text": pa.array(texts, pa.string())})


def first_letters(parts):
    """Keep the first document of each first letter, whatever its part."""
    calls.append("letters")
    seen = set()
    for part in range(len(parts)):
        found = []
        for text in parts.table(part, ("text",))["text"].to_pylist():
            found.append(Verdict("letter came before") if text[0] in seen else None)
            seen.add(text[0])
        yield verdicts(found)


def fragile(table):
    if "fire" in " ".join(table["text"].to_pylist()):
        raise RuntimeError("burnt")
    return pa.table({"burns": [0.0] * table.num_rows})


def steps(least=3):
    return [
        Map("longer", partial(longer, least=least)),
        Map("upper", upper),
        Global("letters", first_letters, ("text",)),
    ]


def worked(folder, corpus, steps, reuse=(), hidden=None, sources=("corpus",)):
    """Read and run in this process; how many parts there are."""
    reading = Reading(chunk_bytes=60)
    chunks = {name: read.chunks(read.find([corpus / name]), reading=reading) for name in sources}
    count = read_all(folder, chunks, lambda function, tasks: map(function, tasks), reuse=reuse)
    run = Run(folder, tuple(reuse), hidden or {})
    done = list(run_steps(steps, run, count, lambda function, tasks: map(function, tasks)))
    sweep(folder, steps, count)
    return count, done


def ended(folder, steps, count, outcome):
    run = Ended(folder, tuple(step.name for step in steps))
    parts = [Ending(run, number) for number in range(count)]
    return [row for part in parts for row in part.documents(part.rows_of(outcome))]


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.fixture
def corpus(tmp_path):
    calls.clear()
    texts = ["apple", "ant", "bee", "bear", "at", "cow", "b", "dog", "deer", "eel", "emu", "fox"]
    with files.jsonl_writer(tmp_path / "corpus" / "a.jsonl") as put:
        for number, text in enumerate(texts):
            put({"id": f"d{number}", "text": text})
    with files.jsonl_writer(tmp_path / "more" / "b.jsonl") as put:
        put({"id": "m0", "text": "a"})
    return tmp_path


def test_documents_go_through_the_steps_and_keep_what_was_found(corpus):
    count, _ = worked(corpus / "out", corpus, steps())
    assert count > 2
    kept = ended(corpus / "out", steps(), count, KEPT)
    assert [row["text"] for row in kept] == ["apple", "BEE", "cow", "dog", "eel", "fox"]
    assert kept[0]["meta"]["scores"] == {"longer.size": 5.0}
    assert kept[0]["meta"]["lineage"]["steps"] == ["longer", "upper", "letters"]
    dropped = {row["id"]: row for row in ended(corpus / "out", steps(), count, DROPPED)}
    assert len(kept) + len(dropped) == 12
    assert dropped["d4"]["verdict"] == {
        "step": "longer",
        "rule": "too short",
        "value": 2.0,
        "bound": 3.0,
    }
    assert dropped["d4"]["meta"]["lineage"]["steps"] == ["longer"]
    assert dropped["d1"]["verdict"]["step"] == "letters"


def test_a_job_that_runs_twice_calls_nothing_again_and_changes_no_byte(corpus):
    worked(corpus / "out", corpus, steps())
    before, called = content(corpus / "out"), len(calls)
    _, done = worked(corpus / "out", corpus, steps())
    assert len(calls) == called and not any(one.seconds for one in done)
    assert content(corpus / "out") == before


@pytest.mark.parametrize("torn", ["longer/00001.json", "upper/00001.parquet", "letters/00000.json"])
def test_what_is_not_whole_is_done_again_alone(corpus, torn):
    worked(corpus / "out", corpus, steps())
    before = content(corpus / "out")
    calls.clear()
    path = corpus / "out" / "parts" / torn
    path.write_bytes(path.read_bytes()[:-1]) if path.suffix == ".parquet" else path.unlink()
    worked(corpus / "out", corpus, steps())
    assert calls == [torn.split("/")[0]]
    assert content(corpus / "out") == before


def test_another_threshold_takes_over_what_was_found_before(corpus):
    def scored(least):
        return [
            Map("longer", partial(longer, least=0)),
            Map("above", partial(kept_above, least=least), ("longer.size",)),
        ]

    count, _ = worked(corpus / "out", corpus, scored(3))
    calls.clear()
    worked(corpus / "again", corpus, scored(4), reuse=[corpus / "out"])
    assert calls == ["above"] * count
    alone = content(corpus / "again")
    worked(corpus / "alone", corpus, scored(4))
    assert content(corpus / "alone") == alone
    shared = (sidecar.place(corpus / name, "documents", 0) for name in ("out", "again"))
    assert len({path.stat().st_ino for path in shared}) == 1  # links, not copies


def test_findings_of_another_run_hold_only_for_the_rows_that_were_there(corpus):
    worked(corpus / "out", corpus, steps(3))
    calls.clear()
    worked(corpus / "again", corpus, steps(4), reuse=[corpus / "out"])
    assert {"longer", "upper", "letters"} == set(calls)


def test_a_step_does_not_see_the_sources_that_are_hidden_from_it(corpus):
    both = ("corpus", "more")
    count, _ = worked(corpus / "out", corpus, steps(), sources=both)
    assert "m0" in [row["id"] for row in ended(corpus / "out", steps(), count, DROPPED)]
    hidden = {step.name: ("more",) for step in steps()}
    count, _ = worked(corpus / "hidden", corpus, steps(), hidden=hidden, sources=both)
    assert "m0" in [row["id"] for row in ended(corpus / "hidden", steps(), count, KEPT)]


def test_a_document_that_a_step_raises_on_goes_and_the_others_of_its_part_stay(corpus):
    with files.jsonl_writer(corpus / "corpus" / "a.jsonl") as put:
        for number, text in enumerate(["water", "fire", "air"]):
            put({"id": f"d{number}", "text": text})
    burning = [Map("fragile", fragile)]
    count, done = worked(corpus / "out", corpus, burning)
    kept = ended(corpus / "out", burning, count, KEPT)
    assert [row["text"] for row in kept] == ["water", "air"]
    assert kept[0]["meta"]["scores"] == {"fragile.burns": 0.0}
    (gone,) = ended(corpus / "out", burning, count, DROPPED)
    assert gone["verdict"]["rule"] == "error: RuntimeError"
    assert [line for one in done for line in one.told] == [
        "fragile cannot take d1: RuntimeError: burnt"
    ]
    made = manifests(corpus / "out", ("documents", "read", "fragile"), count)
    check_failed(corpus / "out", made, 0.34)
    with pytest.raises(UserError, match=r"1 of 3 documents .* max_unreadable = 0.3:\n.*burnt"):
        check_failed(corpus / "out", made, 0.3)


def test_a_step_that_raises_on_every_document_stops_the_run(corpus):
    with files.jsonl_writer(corpus / "corpus" / "a.jsonl") as put:
        for number in range(2):
            put({"id": f"d{number}", "text": "fire"})
    with pytest.raises(RuntimeError, match="burnt"):
        worked(corpus / "out", corpus, [Map("fragile", fragile)])


def test_what_another_recipe_left_among_the_parts_is_swept(corpus):
    worked(corpus / "out", corpus, [*steps(), Map("fragile", fragile)])
    path = corpus / "out" / "parts" / "longer" / "00099.json"
    path.write_text("{}")
    torn = path.with_name(".00001.json.0123abcd.partial")  # of a worker that was killed
    torn.write_text("{")
    worked(corpus / "out", corpus, steps())
    assert not torn.exists()
    worked(corpus / "alone", corpus, steps())
    assert content(corpus / "out") == content(corpus / "alone")


def test_a_manifest_never_stands_beside_findings_that_it_does_not_tell_of(corpus, monkeypatch):
    table = pa.table({"found": [1.0, 2.0]})
    first = sidecar.store(corpus, "longer", 0, table, key="first")

    def killed(path, text):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write", killed)  # between the findings and their manifest
    with pytest.raises(KeyboardInterrupt):
        sidecar.store(corpus, "longer", 0, pa.table({"found": [3.0, 4.0]}), key="second")
    assert sidecar.place(corpus, "longer", 0).stat().st_size == first.size
    assert sidecar.manifest(corpus, "longer", 0) is None


def test_a_manifest_says_what_went_in_and_came_out(corpus):
    count, _ = worked(corpus / "out", corpus, steps())
    rows = [
        json.loads((corpus / f"out/parts/longer/{number:05}.json").read_text())
        for number in range(count)
    ]
    assert sum(row["before"]["documents"] for row in rows) == 12
    assert sum(row["after"]["documents"] for row in rows) == 10
    dropped = [row["dropped"]["too short"]["prose"] for row in rows if row["dropped"]]
    assert sum(tally["documents"] for tally in dropped) == 2
    assert sum(tally["bytes"] for tally in dropped) == 3
