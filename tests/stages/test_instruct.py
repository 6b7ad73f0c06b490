"""What the instruct stage writes."""

from itertools import islice, pairwise

import pytest

from baiwen import config as recipes
from baiwen import files
from baiwen.errors import UserError
from baiwen.instruct import draw
from baiwen.stages import instruct


def made(out, **knobs):
    config = instruct.Config(
        out=out, **({"train": 132, "heldout": 3, "prompts": 44, "documents": 24} | knobs)
    )
    with files.run_folder(out, recipes.resolved(config)) as folder:
        instruct.run(config, folder)
    return out


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return made(tmp_path_factory.mktemp("runs") / "instruct")


def test_conversations_are_messages_with_tools_where_there_are_any(out):
    rows = list(files.read_jsonl(out / "train.jsonl"))
    assert len(rows) == 132
    for row in rows:
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert ("tools" in row) == (row["kind"] in draw.WITH_TOOLS)


def test_kinds_take_turns(out):
    kinds = [row["kind"] for row in files.read_jsonl(out / "train.jsonl")]
    assert kinds[: len(draw.KINDS)] == list(draw.KINDS)
    assert kinds.count("table") == 132 / len(draw.KINDS)


def test_a_conversation_has_up_to_as_many_turns_as_asked_and_tools_only_for_the_first(tmp_path):
    rows = list(files.read_jsonl(made(tmp_path / "out", turns=3) / "train.jsonl"))
    assert {len(row["messages"]) for row in rows} == {2, 4, 6}
    for row in rows:
        calls = [index for index, said in enumerate(row["messages"]) if said.get("tool_calls")]
        assert calls == ([1] if row["kind"] in draw.WITH_TOOLS else [])


def test_heldout_rows_carry_what_a_verifier_needs(out):
    rows = list(files.read_jsonl(out / "heldout.jsonl"))
    assert len(rows) == 3 * len(draw.KINDS)
    for row in rows:
        assert row["prompt"][-1]["role"] == "user"
        assert {"answer", "verifier", "kind"} <= row.keys()


def test_prompts_are_new_instances_of_every_kind_in_turn(out):
    rows = list(files.read_jsonl(out / "prompts.jsonl"))
    assert [row["kind"] for row in rows] == [*draw.KINDS] * 4
    asked = [row["prompt"][-1]["content"] for row in rows]
    taught = {row["messages"][0]["content"] for row in files.read_jsonl(out / "train.jsonl")}
    tested = {row["prompt"][-1]["content"] for row in files.read_jsonl(out / "heldout.jsonl")}
    assert len({*asked}) == 44 and not {*asked} & (taught | tested)
    assert rows[0].keys() == next(files.read_jsonl(out / "heldout.jsonl")).keys()


def test_no_prompt_is_an_instance_that_was_taught_whatever_its_phrasing():
    taught = {
        (task.kind, task.key) for task in islice(draw.training(["counting"], 0, "train"), 900)
    }
    fresh = list(draw.prompts(["counting"], 300, 0, taught))
    keys = {(task.kind, task.key) for task in fresh}
    assert len(keys) == 300 and not keys & taught
    assert not any(task.heldout for task in fresh)


def test_a_kind_whose_instances_are_all_taught_gives_no_prompts(monkeypatch):
    task = next(draw.training(["table"], 0, "train"))
    monkeypatch.setitem(draw.PRODUCERS, "table", lambda _: task)
    with pytest.raises(UserError, match="the kind 'table' gave only 0 instances that the conv"):
        list(draw.prompts(["table"], 1, 0, {("table", task.key)}))


def test_a_document_holds_several_instances_of_a_kind_with_a_blank_line_between(out):
    rows = list(files.read_jsonl(out / "documents.jsonl.zst"))
    assert len(rows) == len({row["id"] for row in rows}) == 24
    for row in rows:
        parts = row["text"].rstrip("\n").split("\n\n")
        assert len(parts) == 4
        assert all("\nAnswer: " in part for part in parts)
        assert row["meta"] == {"source": "tasks", "kind": row["meta"]["kind"]}


def test_heldout_prompts_are_in_no_document(out):
    text = "\n".join(row["text"] for row in files.read_jsonl(out / "documents.jsonl.zst"))
    for row in files.read_jsonl(out / "heldout.jsonl"):
        assert f"Question: {row['prompt'][-1]['content']}\n" not in text


def test_the_same_recipe_writes_the_same_bytes(out, tmp_path):
    again = made(tmp_path / "again")
    drawn = ("train.jsonl", "heldout.jsonl", "prompts.jsonl", "documents.jsonl.zst")
    for name in (*drawn, "instruct.json"):
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_counts_are_told(out):
    told = files.read_json(out / "instruct.json")
    assert told["kinds"]["table"] == {"train": 12, "heldout": 3, "prompts": 4}


def test_a_kind_named_twice_is_drawn_twice_as_often_and_tested_once(tmp_path):
    out = made(tmp_path / "out", train=90, prompts=30, kinds=("table", "table", "counting"))
    prompts = [
        row["messages"][0]["content"]
        for row in files.read_jsonl(out / "train.jsonl")
        if row["kind"] == "table"
    ]
    assert len(prompts) == len(set(prompts)) == 60
    assert files.read_json(out / "instruct.json")["kinds"] == {
        "table": {"train": 60, "heldout": 3, "prompts": 20},
        "counting": {"train": 30, "heldout": 3, "prompts": 10},
    }
    assert len(list(files.read_jsonl(out / "heldout.jsonl"))) == 6


SCARCE = {"demonstrations": {"any_person": 5, "any_call": 2}}


def test_scarce_kinds_are_shown_as_often_as_said_and_evenly_among_the_rest(tmp_path):
    out = made(tmp_path / "out", turns=3, **SCARCE)
    rows = list(files.read_jsonl(out / "train.jsonl"))
    at = {
        kind: [index for index, row in enumerate(rows) if row["kind"] == kind]
        for kind in SCARCE["demonstrations"]
    }
    assert len(rows) == 132 and [len(found) for found in at.values()] == [5, 2]
    places = sorted(index for found in at.values() for index in found)
    assert max(later - one for one, later in pairwise([0, *places, 131])) <= 20
    assert all(len(rows[index]["messages"]) == 2 for index in places)
    told = files.read_json(out / "instruct.json")["kinds"]
    assert told["any_person"] == {"train": 5, "heldout": 3, "prompts": 4}  # in no follow-up either


def test_scarce_kinds_are_in_no_document(tmp_path):
    rows = files.read_jsonl(made(tmp_path / "out", **SCARCE) / "documents.jsonl.zst")
    kinds = {row["meta"]["kind"] for row in rows}
    assert kinds == {*draw.KINDS} - SCARCE["demonstrations"].keys()


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"kinds": ["table"], "demonstrations": {"counting": 1}}, "kinds has no 'counting'"),
        ({"kinds": ["table"], "demonstrations": {"table": 1}}, "names all kinds"),
        ({"train": 4, "demonstrations": {"table": 5}}, "more conversations than train"),
    ],
)
def test_demonstrations_that_cannot_be_are_refused(knobs, says):
    with pytest.raises(UserError, match=says):
        recipes.parse({"out": "x", **knobs}, instruct.Config, "instruct.toml")


def test_a_kind_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"kinds: no task kind 'tables'; .* Did you mean table\?"):
        recipes.parse({"out": "x", "kinds": ["tables"]}, instruct.Config, "instruct.toml")
