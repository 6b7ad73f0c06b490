import json
import random

import pytest

from baiwen import config, files, stages
from baiwen.errors import UserError
from baiwen.stages import data

# Of which texts are drawn that published filters let pass.
WORDS = ["the", "of", "and", "to", "in", "is", "was", "for", "with", "that", "have", "be"] + [
    f"{a}{b}" for a in ("ba", "den", "ful", "gor", "lim") for b in ("ka", "mo", "ri", "tus", "ven")
]


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    rng = random.Random(0)
    for i in range(30):
        files.write(
            folder / f"{i}.txt", f"This is the text {i}: {' '.join(rng.choices(WORDS, k=90))}"
        )
    rows = [{"id": f"t{i}", "text": f"{i} + {i} = {2 * i}", "meta": {}} for i in range(50)]
    with files.jsonl_writer(tmp_path / "tasks.jsonl.zst") as put:
        for row in rows:
            put(row)
    return folder


def run(tmp_path, corpus, **knobs):
    raw = {
        "out": str(tmp_path / "out"),
        "corpus": corpus if isinstance(corpus, list) else str(corpus),
        "extra": [{"name": "tasks", "path": str(tmp_path / "tasks.jsonl.zst")}],
        "workers": 1,
        "heldout_share": 0.1,
        **knobs,
    }
    settings = config.parse(raw, data.Config, "data.toml")
    with files.run_folder(settings.out, config.resolved(settings)) as folder:
        data.run(settings, folder)
    return settings.out


def test_the_corpus_is_filtered_and_extra_documents_are_a_source_as_they_are(tmp_path, corpus):
    out = run(tmp_path, corpus)
    counts = files.read_json(out / "data.json")
    assert counts["kept"]["prose"]["documents"] + counts["heldout"]["prose"]["documents"] == 30
    assert counts["kept"]["tasks"]["documents"] + counts["heldout"]["tasks"]["documents"] == 50
    tasks = list(files.read_jsonl(out / "documents-tasks-00000.jsonl.zst"))
    assert {row["meta"]["domain"] for row in tasks} == {"tasks"}
    assert files.complete(out)


def test_filters_of_the_recipe_change_what_is_kept(tmp_path, corpus):
    files.write(corpus / "long.txt", " ".join(random.Random(1).choices(WORDS, k=900)))
    out = run(tmp_path, corpus, filters={"word_count": {"least": 500}})
    dropped = files.read_json(out / "data.json")["dropped"]
    assert dropped["heuristics"]["gopher: too few words"]["documents"] == 30


def test_a_source_of_which_nothing_is_left_is_an_error_with_the_reasons(tmp_path, corpus):
    with pytest.raises(UserError, match="not one document of the corpus is left: gopher: too few"):
        run(tmp_path, corpus, filters={"word_count": {"least": 500}})
    files.write(tmp_path / "none.jsonl", "")


def test_a_source_of_which_nothing_can_be_read_is_told_before_any_step(tmp_path, corpus):
    files.write(tmp_path / "none.jsonl", "")
    with pytest.raises(UserError, match="not one document of the corpus is there: its files are"):
        run(tmp_path, tmp_path / "none.jsonl")
    files.write(tmp_path / "tasks.jsonl.zst", "no archive")
    with pytest.raises(UserError, match=r"not one document of tasks can be read:\n  .*tasks.jsonl"):
        run(tmp_path, corpus, out=str(tmp_path / "other"), max_unreadable=1)
    assert not (tmp_path / "other" / "parts" / "heuristics").exists()


def test_every_document_that_came_in_is_kept_held_out_or_dropped_once(tmp_path, corpus):
    files.write(corpus / "again.txt", (corpus / "3.txt").read_bytes())
    files.write(corpus / "short.txt", "too short")
    out = run(tmp_path, corpus, heldout_share=0.3, max_unreadable=1)
    card = files.read_json(out / "data.json")
    dropped = [tally for rules in card["dropped"].values() for tally in rules.values()]
    tallies = [*card["kept"].values(), *card["heldout"].values(), *dropped]
    assert card["heldout"] and dropped
    for what in ("documents", "bytes"):  # these steps change no text
        total = sum(tally[what] for tally in tallies)
        assert total == card["funnel"][0][f"{what}_in" if what == "bytes" else "in"]
    names = ("documents-*", "heldout*", "dropped-*")
    rows = [row for name in names for path in out.glob(name) for row in files.read_jsonl(path)]
    assert len(rows) == 82 == sum(tally["documents"] for tally in tallies)
    assert sum(len(row["text"].encode()) for row in rows) == sum(t["bytes"] for t in tallies)


def test_a_file_that_two_places_name_is_read_once(tmp_path, corpus):
    out = run(tmp_path, [str(corpus), f"{corpus}/1*.txt"], steps=["heuristics"])
    assert files.read_json(out / "data.json")["funnel"][0]["in"] == 80


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"steps": ["exact", "heuristic"]}, "no step 'heuristic'. Did you mean heuristics?"),
        ({"extra": [{"name": "corpus", "path": "x"}]}, "two sources are called 'corpus'"),
        ({"extra": [{"name": "a", "path": "x"}, {"name": "a", "path": "y"}]}, "are called 'a'"),
        ({"extra": [{"name": "a", "path": "x", "steps": ["exat"]}]}, "Did you mean exact?"),
    ],
)
def test_a_mistake_in_the_recipe_is_told(tmp_path, knobs, told):
    with pytest.raises(UserError) as error:
        config.parse({"out": str(tmp_path), **knobs}, data.Config, "data.toml")
    assert told in str(error.value)


def test_a_run_to_take_over_from_that_is_none_is_told(tmp_path, corpus):
    settings = data.Config(out=tmp_path / "out", corpus=str(corpus), reuse=(corpus,))
    with pytest.raises(UserError, match="corpus holds no run of the stage `data`"):
        data.check(settings, to_come=[])


def test_a_run_goes_on_with_another_number_of_workers(tmp_path, corpus):
    recipe = tmp_path / "data.toml"
    recipe.write_text(f'stage = "data"\nout = "{tmp_path}/out"\ncorpus = "{corpus}"\n')
    (one,) = stages.load(recipe, ["workers=1"])
    with pytest.raises(KeyboardInterrupt), files.run_folder(one.out, one.resolved) as folder:
        files.write(folder.path / "state" / "begun", "")
        raise KeyboardInterrupt
    (other,) = stages.load(recipe, ["workers=2"])
    stages.check([other])
    with files.run_folder(other.out, other.resolved, free=other.free) as folder:
        assert folder.resumable
    assert files.read_json(other.out / "recipe.json")["workers"] == 2
    (third,) = stages.load(recipe, ["heldout_share=0.5"])
    with pytest.raises(UserError, match=r"heldout_share: 0\.02 -> 0\.5"):
        stages.check([third])


def test_extra_documents_are_seen_by_the_steps_that_they_name(tmp_path, corpus):
    extra = {"name": "tasks", "path": str(tmp_path / "tasks.jsonl.zst"), "steps": ["heuristics"]}
    with pytest.raises(
        UserError, match="not one document of tasks is left: gopher: too few words 50"
    ):
        run(tmp_path, corpus, extra=[extra])


def test_a_limit_of_bytes_holds_for_the_corpus_and_not_for_extra_documents(tmp_path, corpus):
    counts = files.read_json(run(tmp_path, corpus, max_bytes=1500) / "data.json")
    assert counts["kept"]["prose"]["documents"] < 10
    assert counts["kept"]["tasks"]["documents"] > 40


def test_a_misspelt_filter_is_named_with_its_line(tmp_path):
    recipe = tmp_path / "data.toml"
    recipe.write_text('out = "x"\n[filters]\nword_cuont = false\n')
    with pytest.raises(UserError) as error:
        config.parse(config.read(recipe), data.Config, recipe)
    assert "there is no filter 'word_cuont'. Did you mean word_count?" in str(error.value)
    assert f"{recipe}:2" in str(error.value)


def test_a_corpus_that_is_not_there_is_told_unless_it_is_yet_to_be_written(tmp_path, corpus):
    settings = data.Config(out=tmp_path / "out", corpus=("stdlib", f"{corpus}/*.text"))
    with pytest.raises(UserError, match=r"corpus: .*\*\.text: holds no file that ends in \.txt"):
        data.check(settings, to_come=[tmp_path / "other"])
    data.check(settings, to_come=[corpus])
    data.check(data.Config(out=tmp_path / "out", corpus=str(corpus)), to_come=[])


def test_a_plan_counts_files_and_bytes(tmp_path, corpus):
    settings = data.Config(out=tmp_path / "out", corpus=str(corpus))
    assert data.plan(settings) == {
        "files": 30,
        "bytes on disk": sum(path.stat().st_size for path in corpus.iterdir()),
    }
    assert data.plan(data.Config(out=tmp_path / "out"))["files"] > 300
    absent = data.Config(out=tmp_path / "out", corpus=str(tmp_path / "none"))
    assert str(data.plan(absent)["files"]).startswith("unknown: there is no file, folder or glob")


def test_the_standard_library_is_the_default_corpus(tmp_path):
    settings = data.Config(
        out=tmp_path / "out", workers=1, max_bytes=300_000, filters={"letters": False}
    )
    with files.run_folder(settings.out, config.resolved(settings)) as folder:
        data.run(settings, folder)
    counts = json.loads((settings.out / "data.json").read_text())
    assert counts["kept"]["prose"]["bytes"] > 200_000
