"""What is learned, saved and loaded: against formulas, and people's own labels."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from baiwen import files
from baiwen.data.classifier import agreement, apply, marks, training
from baiwen.data.classifier.features import Features, features
from baiwen.data.classifier.model import ABOUT, WEIGHTS, Classifier, softmax
from baiwen.data.classifier.training import UNJUDGED, Examples, Training, fit
from baiwen.data.document import document
from baiwen.data.rubric import Dimension, Domain, Marks, Rubric
from baiwen.data.sample import sample
from baiwen.errors import UserError

LOOK = Features(bits=14)
RUBRIC = Rubric(
    (Dimension(name="clarity"), Dimension(name="noise", least=0, most=2, better="low")),
    (Domain(name="one"), Domain(name="two"), Domain(name="three")),
)


def drawn(count=300, seed=0):
    """Texts of 30 words, whose clarity is by how many are `clear`, noise by `noisy` ones."""
    rng = np.random.default_rng(seed)
    clear, noisy, subject = (
        rng.integers(0, 5, count),
        rng.integers(0, 3, count),
        rng.integers(0, 3, count),
    )
    texts = []
    for a, b, c in zip(clear, noisy, subject, strict=True):
        words = [f"w{n}" for n in rng.integers(0, 200, 30)]
        texts.append(
            " ".join(
                [
                    *words,
                    *["lucid", "plain", "crisp", "neat"][:a],
                    *["spam", "click"][:b],
                    f"about{c}",
                ]
            )
        )
    return pa.array(texts), np.stack([clear, noisy], 1), subject


@pytest.fixture(scope="module")
def taught():
    texts, levels, domains = drawn()
    examples = Examples(features(texts, LOOK), levels, domains)
    places = np.arange(300)
    made, losses = fit(
        examples.take(places[60:]), examples.take(places[:60]), RUBRIC, LOOK, Training()
    )
    return made, losses


def test_all_heads_are_learned_in_one_go(taught):
    made, losses = taught
    texts, levels, domains = drawn(200, seed=1)
    scores = made.scores(texts)
    assert agreement.spearman(scores.levels[:, 0], levels[:, 0]) > 0.9
    assert agreement.spearman(scores.levels[:, 1], levels[:, 1]) > 0.8
    assert (scores.domains.argmax(1) == domains).mean() > 0.97
    assert losses.keys() == {"clarity", "noise", "domain"}
    assert all(min(told) < 0.8 * told[0] for told in losses.values())


def test_each_head_is_that_of_its_best_epoch():
    """Clarity means nothing here, so that more of it is worse at once."""
    texts, levels, domains = drawn()
    levels[:, 0] = np.random.default_rng(9).permutation(levels[:, 0])
    examples = Examples(features(texts, LOOK), levels, domains)
    places = np.arange(300)
    train, tune = examples.take(places[60:]), examples.take(places[:60])
    made, losses = fit(train, tune, RUBRIC, LOOK, Training(epochs=8, patience=8))
    found = training.loss(made, made.seen(tune.found), training._truth(tune, RUBRIC))
    assert found == pytest.approx([min(told) for told in losses.values()], abs=1e-5)
    assert np.argmin(losses["clarity"]) < 3 < np.argmin(losses["domain"])


def test_scores_lie_on_their_scales_and_chances_add_up(taught):
    scores = taught[0].scores(pa.array(["", "lucid plain crisp neat " * 9, "spam click", "中文"]))
    assert ((scores.levels[:, 0] >= 1) & (scores.levels[:, 0] <= 5)).all()
    assert ((scores.levels[:, 1] >= 0) & (scores.levels[:, 1] <= 2)).all()
    assert scores.domains.sum(1) == pytest.approx(1)


def test_a_score_is_the_sum_of_its_parts(taught):
    """The expected level, from the definition, for one text."""
    made, _ = taught
    found = features(pa.array(["lucid plain w3 w4 spam"]), LOOK)
    rows = made.table[found.ids]
    rows = rows[rows > 0]
    score = made.words[rows].sum(0) / np.sqrt(len(rows))
    for place, value in enumerate(found.shapes[0]):
        score = score + 0.3 * made.shapes[place * 8 + (made.edges[place] < value).sum()]
    levels = 1 + sum(1 / (1 + np.exp(t - score[0])) for t in made.thresholds[0])
    scores = made.scores(pa.array(["lucid plain w3 w4 spam"]))
    assert scores.levels[0, 0] == pytest.approx(levels, abs=1e-4)
    assert scores.domains[0] == pytest.approx(softmax(score[2:] + made.bias), abs=1e-4)


def test_slopes_are_those_of_the_loss(taught):
    """Against differences of the loss itself."""
    texts, levels, domains = drawn(1, seed=5)
    made = replace(taught[0], **{
        name: getattr(taught[0], name).astype(np.float64) for name in ("thresholds", "bias")
    })  # fmt: skip
    examples = Examples(features(texts, LOOK), levels, domains)
    truth, seen = training._truth(examples, RUBRIC), made.seen(examples.found)
    slopes = training._slopes(made, made.summed(seen)[0].astype(np.float64), truth, 0)
    for array, slope, sign in ((made.thresholds, slopes[0], -1), (made.bias, slopes[1], 1)):
        for place in zip(*np.nonzero(np.isfinite(array)), strict=True):
            before, step = array[place], 1e-4
            array[place] = before + step
            up = training.loss(made, seen, truth).sum()
            array[place] = before - step
            down = training.loss(made, seen, truth).sum()
            array[place] = before
            assert slope[place] == pytest.approx(sign * (up - down) / (2 * step), abs=1e-4)


def test_what_is_not_judged_teaches_nothing(taught):
    texts, levels, domains = drawn(100, seed=2)
    examples = Examples(features(texts, LOOK), levels.copy(), domains.copy())
    examples.levels[:, 1], examples.domains[:] = UNJUDGED, UNJUDGED
    made, _ = fit(examples, examples, RUBRIC, LOOK, Training(epochs=2))
    assert not made.words[:, 1:].any() and made.words[:, 0].any()


def test_the_same_marks_give_the_same_bytes(taught, tmp_path):
    for name in ("one", "two"):
        texts, levels, domains = drawn(100)
        examples = Examples(features(texts, LOOK), levels, domains)
        made, _ = fit(examples, examples, RUBRIC, LOOK, Training(epochs=2))
        made.save(tmp_path / name, {})
    assert (tmp_path / "one" / WEIGHTS).read_bytes() == (tmp_path / "two" / WEIGHTS).read_bytes()


def test_a_classifier_comes_back_from_its_folder_as_it_was(taught, tmp_path):
    made, _ = taught
    made.save(tmp_path, {"agreement": {"more": 1}})
    again = Classifier.load(tmp_path)
    texts = drawn(20, seed=3)[0]
    for one, other in zip(made.scores(texts), again.scores(texts), strict=True):
        assert np.array_equal(one, other)
    assert again.rubric == RUBRIC and again.features == LOOK


def test_a_folder_that_is_damaged_is_named(taught, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Classifier.load(tmp_path)
    taught[0].save(tmp_path, {})
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[:-8])
    with pytest.raises(UserError, match="this is no classifier"):
        Classifier.load(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(whole)
    about = json.loads((tmp_path / ABOUT).read_text())
    (tmp_path / ABOUT).write_text(json.dumps({**about, "domains": about["domains"][:2]}))
    with pytest.raises(UserError, match="words is of shape"):
        Classifier.load(tmp_path)


def test_the_step_finds_a_column_for_each_dimension_and_the_likeliest_domain(taught, tmp_path):
    taught[0].save(tmp_path, {})
    [step] = apply.steps(apply.Classify(folder=tmp_path))
    texts = drawn(10, seed=4)[0]
    found = step.function(pa.table({"id": [str(n) for n in range(10)], "text": texts}))
    assert found.column_names == ["clarity", "noise", "label", "probability"]
    scores = taught[0].scores(texts)
    assert np.abs(found["clarity"].to_numpy() - scores.levels[:, 0]).max() <= 0.0006
    names = ["one", "two", "three"]
    assert found["label"].to_pylist() == [names[place] for place in scores.domains.argmax(1)]
    assert found["probability"].to_numpy() == pytest.approx(scores.domains.max(1), abs=0.0006)
    none = step.function(
        pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    )
    assert none.num_rows == 0 and none.column_names == found.column_names


def test_parts_follow_the_family_and_nothing_else():
    documents = [document(f"text {n}", {"family": str(n // 2)}, id=str(n)) for n in range(400)]
    found = marks.parts(documents, heldout=0.2, tuned=0.1, seed=0)
    assert sorted(np.concatenate(list(found.values()))) == list(range(400))
    assert 50 < len(found["heldout"]) < 110 and 15 < len(found["tune"]) < 65
    families = [{place // 2 for place in part.tolist()} for part in found.values()]
    assert not families[0] & families[1] and not families[1] & families[2]
    backwards = marks.parts(documents[::-1], heldout=0.2, tuned=0.1, seed=0)
    assert sorted(399 - backwards["heldout"]) == found["heldout"].tolist()


def test_a_sample_is_parted_as_all_documents_are():
    there = [document(f"line {n}", {"family": f"{n:x}"}, id=f"{n:x}") for n in range(4000)]
    chosen = sample(lambda: there, 400, (), 0)  # those of the lowest hashes
    sizes = [len(part) for part in marks.parts(chosen, heldout=0.2, tuned=0.1, seed=0).values()]
    assert 250 < sizes[0] < 310 and 20 < sizes[1] < 65 and 50 < sizes[2] < 110


def test_it_agrees_with_people_about_quality(shared):
    """DCLM's labels, five folds; benchmarks/sides/data_quality.py prints ten with intervals."""
    path = shared / "pipeline" / "dclm_quality_labels_dev.jsonl.gz"
    rows = list(files.read_jsonl(path))
    rubric = Rubric((Dimension(name="quality", least=0, most=1),))
    documents = [document(row["text"], {}) for row in rows]
    said = [Marks({"quality": int(row["label"])}) for row in rows]
    examples = marks.examples(documents, said, rubric, Features())
    fold = np.random.default_rng(0).permutation(len(rows)) % 5
    scores = np.zeros(len(rows))
    for number in range(5):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        learned = examples.take(train)
        tune = learned.take(np.arange(20))
        made, _ = fit(learned.take(np.arange(20, len(train))), tune, rubric, Features(), Training())
        scores[test] = made.read(made.seen(examples.found.take(test))).levels[:, 0]
    good = examples.levels[:, 0] == 1
    assert agreement.auc(scores, good) > 0.83 and ((scores > 0.5) == good).mean() > 0.75
