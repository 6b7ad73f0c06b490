"""Preference pairs: rendered, checked, counted and drawn."""

import json

import numpy as np
import pytest

from baiwen.data import pairs, trees
from baiwen.errors import UserError

LIMITS = {"context": 2048, "micro_tokens": 4096}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"name": "add", "arguments": {"a": 1}}


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


def row(words=3, chosen="the of and", rejected="to in", **more):
    return {
        "prompt": [user("the " * words)],
        "chosen": [said(chosen)],
        "rejected": [said(rejected)],
        **more,
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pairs.jsonl"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path, folder, workers=1, **limits):
    return pairs.read(path, folder, pairs.Limits(**{**LIMITS, **limits}), workers)


def test_prompt_and_answer_are_the_whole_conversation(tokenizer, tokenizer_folder, path):
    """Also with tools, a system prompt, earlier turns, and calls as answers."""
    earlier = [{"role": "system", "content": "in"}, user("a"), said("b"), user("c")]
    called = [{"role": "assistant", "content": None, "tool_calls": [CALL]}]
    rows = [
        row(),
        {"prompt": earlier, "chosen": [said("is")], "rejected": called, "tools": [TOOL]},
        {"prompt": "the", "chosen": "of", "rejected": "and"},
    ]
    found = read(write(path, rows), tokenizer_folder)
    for given, tree in zip(rows, found, strict=True):
        for name, answer, mask in zip(
            ("chosen", "rejected"), tree.answers, tree.masks, strict=True
        ):
            prompt = given["prompt"] if isinstance(given["prompt"], list) else [user("the")]
            answered = given[name] if isinstance(given[name], list) else [said(given[name])]
            whole = tokenizer.render([*prompt, *answered], given.get("tools"), train="last")
            assert [*tree.prompt, *answer, *tokenizer.encode("\n")] == whole.ids
            assert [0] * len(tree.prompt) + mask + [0] == whole.mask
            assert answer[-1] == tokenizer.end_of_turn


def test_what_a_tool_says_within_an_answer_is_not_learned(tokenizer, tokenizer_folder, path):
    steps = [
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "that was"},
        said("is"),
    ]
    [tree] = read(write(path, [row() | {"chosen": steps}]), tokenizer_folder)
    learned = [t for t, m in zip(tree.answers[0], tree.masks[0], strict=True) if m]
    text = tokenizer.decode(learned)
    assert text == '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>' + (
        "<|im_end|>is<|im_end|>"
    )
    assert "that was" in tokenizer.decode(tree.answers[0])


def test_lengths_values_and_labels_go_with_each_pair(tokenizer_folder, path):
    rows = [row(n, chosen="of " * (n + 1), kind=f"k{n}", source="s") for n in range(5)]
    found = read(write(path, rows), tokenizer_folder)
    numbers = np.arange(10, dtype=np.float32).reshape(5, 2)
    valued = found.with_values(reward=numbers)
    assert found.tokens.tolist() == [tree.tokens for tree in found]
    assert [tree.values["reward"] for tree in valued] == numbers.tolist()
    assert (found.kinds, set(found.sources)) == (("k0", "k1", "k2", "k3", "k4"), {"s"})


def test_fingerprints_tell_pairs_apart(tokenizer_folder, path):
    one = read(write(path, [row(1), row(2), row(3)]), tokenizer_folder)
    other = read(write(path, [row(1), row(2), row(3, rejected="was")]), tokenizer_folder)
    assert one.fingerprint(0, 2) == other.fingerprint(0, 2)
    assert one.fingerprint(1, 3) != other.fingerprint(1, 3)
    assert one.fingerprint(0, 1) != one.fingerprint(1, 2)


@pytest.mark.slow
def test_processes_render_the_same_pairs_as_one(tokenizer_folder, path, monkeypatch):
    monkeypatch.setattr(pairs, "CHUNK", 3)
    write(path, [row(n, kind=str(n)) for n in range(10)])
    one, two = (read(path, tokenizer_folder, workers=workers) for workers in (1, 2))
    for name in ("ids", "mask", "lengths"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
    assert one.kinds == two.kinds


def test_too_long_pairs_are_an_error_or_dropped_and_counted(tokenizer_folder, path, capsys):
    write(path, [row(), row(1500), row(2)])
    with pytest.raises(
        UserError, match=r"pairs\.jsonl:2: .* longest answer has .* the context has 1,000"
    ):
        read(path, tokenizer_folder, context=1000)
    with pytest.raises(
        UserError, match=r"pairs\.jsonl:3: .* all its answers has .*; micro_tokens = 300"
    ):
        write(path, [row(), row(), row(chosen="of " * 150, rejected="in " * 150)])
        read(path, tokenizer_folder, micro_tokens=300)
    found = read(path, tokenizer_folder, micro_tokens=300, too_long="drop")
    assert len(found) == 2
    assert "1 of 3 pairs are too long: dropped" in capsys.readouterr().err
    with pytest.raises(UserError, match="all 3 pairs are longer"):
        read(path, tokenizer_folder, context=10, too_long="drop")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (row(rejected="the of and"), "chosen and rejected are the same answer"),
        (row(chosen=""), "chosen: it is empty"),
        (row(rejected=" \n"), "rejected: it is empty"),
        (row() | {"chosen": ""}, "chosen: it is empty"),
        (row() | {"chosen": []}, "chosen: an answer is a text, or messages"),
        (row() | {"chosen": [user("a")]}, "chosen: an answer is a text, or messages"),
        (row() | {"chosen": 3}, "its 'chosen' is 3"),
        ({"prompt": "a", "chosen": "b"}, "its 'rejected' is absent"),
        ({"messages": []}, "this line has 'messages'"),
        (row() | {"prompt": []}, "at least one message"),
        (row() | {"prompt": [{"role": "bot", "content": "a"}]}, "expected one of system"),
        (row() | {"tools": {}}, "`tools` must be a list"),
    ],
)
def test_a_wrong_pair_is_named(wrong, message, tokenizer_folder, path):
    with pytest.raises(UserError) as error:
        read(write(path, [row(), wrong]), tokenizer_folder)
    assert f"{path}:2" in str(error.value)
    assert message in str(error.value)


def test_a_file_without_pairs_is_refused(tokenizer_folder, path):
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no pair"):
        read(path, tokenizer_folder)


def test_every_epoch_draws_every_pair_once_in_an_order_of_its_own(tokenizer_folder, path):
    found = read(write(path, [row(n) for n in range(7)]), tokenizer_folder)
    loader = trees.Loader(found, trees_per_step=2, micro_tokens=512, seed=3)
    epochs = [[loader.tree(7 * epoch + i) for i in range(7)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert loader.steps(2) == 7 and loader.steps(1) == 4


def test_ranks_share_a_step(tokenizer_folder, path):
    found = read(write(path, [row(n % 5) for n in range(12)]), tokenizer_folder)
    numbered = found.with_values(pair=np.arange(12).repeat(2).reshape(12, 2))
    drawn = []
    for ranks in (1, 2):
        loaders = [trees.Loader(numbered, 6, 256, rank=r, ranks=ranks) for r in range(ranks)]
        micro = [loader.step(1) for loader in loaders]
        assert len({len(batches) for batches in micro}) == 1
        drawn.append(sorted(n for part in micro for b in part for n in b.values["pair"].tolist()))
    assert drawn[0] == drawn[1] and len(drawn[0]) == 12


def test_real_preferences_are_read(shared, tmp_path):
    folder = shared / "tokenizer" / "qwen2.5"
    given = shared / "preference" / "ifeval_execution_pairs_dev.jsonl.gz"
    found = pairs.read(given, folder, pairs.Limits(8192, 16_384))
    assert len(found) == 331
    assert found.mask.sum() == found.lengths[:, 1:].sum()
