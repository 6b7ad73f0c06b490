"""Rewards, copies and contamination, and what is written of it all."""

from dataclasses import replace

from baiwen import files
from baiwen.data.contamination.decontaminate import Decontaminate
from baiwen.data.generate.drafts import BATCH, Draft, Refusal, batched
from baiwen.data.generate.prompts import Prompt, Seed
from baiwen.data.generate.sieve import Near, Reward, distinct, rewarded, uncontaminated
from baiwen.data.generate.writing import Writing
from baiwen.endpoint import Reply

MINE = Prompt(name="mine", text="{document}", domain="synthetic")
WORDS = [f"word{n}" for n in range(1000)]


def text(start, count=60):
    return " ".join(WORDS[start : start + count])


def draft(said, seed="s", document="", round=0, **meta):
    made, asked = Seed(seed, document, meta, round=round), [{"role": "user", "content": "?"}]
    return Draft(MINE, made, asked, {"seed": 3}, Reply(said), "m", text=said)


def rules(drafts):
    return [found.verdict and found.verdict.rule for found in drafts]


def test_of_the_samples_of_a_request_the_best_stays_and_all_reach_the_least(tmp_path):
    rewards = {"a": 1.0, "b": 3.0, "c": 3.0, "d": -2.0, "e": None, "f": 0.5}
    drafts = [draft(said, seed) for said, seed in zip("abcdef", "112345", strict=True)]
    drafts[2] = draft("c", "1")

    def score(talks):
        assert all(talk[-1]["role"] == "assistant" for talk in talks)
        return [rewards[talk[-1]["content"]] for talk in talks]

    found = list(rewarded(drafts, score, Reward(model=tmp_path, least=0.0)))
    better = "another sample is better"
    assert rules(found) == [better, None, better, "too low", "too long to be scored", None]
    assert found[0].verdict[2:] == (1.0, 3.0) and found[1].scores == {"reward.score": 3.0}
    found = list(rewarded(drafts, score, Reward(model=tmp_path, best=False)))
    assert rules(found) == [None, None, None, None, "too long to be scored", None]


def test_samples_of_the_same_seed_in_another_round_are_another_request(tmp_path):
    drafts = [draft("a", round=0), draft("b", round=1)]
    found = rewarded(drafts, lambda talks: [1.0, 2.0], Reward(model=tmp_path))
    assert rules(found) == [None, None]


def test_what_is_nearly_another_goes_and_what_is_like_no_other_stays():
    near = text(0).replace("word30", "other")
    drafts = [draft(text(0)), draft(text(100)), draft(near), draft(text(200)), draft(text(0))]
    found = list(distinct(drafts, Near(similarity=0.75)))
    assert rules(found) == [None, None, "near duplicate", None, "near duplicate"]
    assert found[2].verdict.value == 51 / 61 and found[4].verdict.value == 1.0


def test_what_is_nearly_a_seed_goes_or_copies_most_of_its_own():
    seed = text(0, 300)
    copy = f"{text(0, 50)} {text(900, 20)}"  # a piece of its seed, and something of its own
    drafts = [
        draft(copy, "s", seed),
        draft(text(0, 300), "other", text(600)),  # the seed that another draft has
        draft(text(400), "s", seed),
    ]
    found = list(distinct(drafts, Near()))
    assert rules(found) == ["copies its seed", "near duplicate", None]
    assert 0.6 < found[0].verdict.value < 0.8


def test_what_holds_a_test_goes_with_the_share_that_it_holds(tmp_path):
    path = tmp_path / "test.jsonl"
    with files.jsonl_writer(path) as write:
        write({"question": text(0, 20)})
    knobs = Decontaminate(against=(path,))
    drafts = [draft(f"{text(300)} {text(0, 20)} {text(500)}"), draft(text(700))]
    found = list(uncontaminated(drafts, knobs, str(files.fingerprint([path]))))
    assert found[0].verdict.step == "decontaminate" and found[0].verdict.value == 1.0
    assert found[1].verdict is None


def test_batches_do_not_part_the_samples_of_a_request():
    drafts = [draft(text(0), str(number // 5)) for number in range(2 * BATCH)]
    sizes = [len(batch) for batch in batched(drafts)]
    assert sum(sizes) == 2 * BATCH and all(size % 5 == 0 for size in sizes[:-1])


def test_what_another_text_of_a_prompt_has_made_is_another_document():
    one, other = (draft("x", "s", "the seed") for _ in range(2))
    assert one.document().id == other.document().id
    asked = [{"role": "user", "content": "in other words"}]
    assert replace(one, messages=asked).document().id != other.document().id


def test_a_document_tells_where_it_comes_from_and_is_of_its_seeds_family():
    meta = draft("x", "s", "the seed", license="MIT", domain="prose", family="f").document().meta
    assert meta["source"] == "generate/mine" and meta["license"] == "MIT"
    assert meta["domain"] == "synthetic" and meta["language"] == "en"
    lineage = meta["lineage"]
    assert lineage["parents"] == ["s"] and lineage["prompt"] == "mine" and lineage["model"] == "m"
    assert lineage["seed"] == 3 and lineage["sampling"] == {"seed": 3}
    assert meta["family"] == "f"


def test_what_is_written_is_counted(tmp_path):
    refused = [draft(text(n)).refused("near", "near duplicate", 0.9, 0.8) for n in (0, 1)]
    with Writing(tmp_path, ("model", "near")) as written:
        for one in (
            draft(text(2)).scored("reward.score", 2.0),
            *refused,
            draft("", "t").refused("model", "cannot be read"),
        ):
            written.put(one)
    card, size = written.card(), len(text(2))
    assert card["kept"] == {"synthetic": {"documents": 1, "bytes": size}}
    assert card["dropped"]["near"]["near duplicate"]["documents"] == 2
    assert [(step["step"], step["in"], step["out"]) for step in card["funnel"]] == [
        ("model", 4, 3), ("near", 3, 1)
    ]  # fmt: skip
    assert card["funnel"][-1]["bytes_out"] == size
    assert sum(card["histograms"]["reward.score"]["counts"]) == 1
    [kept] = files.read_jsonl(tmp_path / "documents-synthetic-00000.jsonl.zst")
    assert kept["text"] == text(2)
    dropped = list(files.read_jsonl(tmp_path / "dropped-00000.jsonl.zst"))
    assert dropped[0]["verdict"] == Refusal("near", "near duplicate", 0.9, 0.8)._asdict()
    assert written.prompts["mine"]["refused"] == {
        "near: near duplicate": 2, "model: cannot be read": 1
    }  # fmt: skip
