"""Prompts that cannot be answered or judged are named before anything is computed."""

import json

import pytest

from baiwen.errors import UserError
from baiwen.rl import prompts

ROW = {"prompt": [{"role": "user", "content": "1 + 1?"}], "answer": "2", "verifier": "number"}


def written(tmp_path, *rows):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_prompt_ends_with_the_head_of_the_answer(tmp_path, tokenizer):
    [found] = prompts.read(written(tmp_path, ROW), tokenizer, room=500)
    assert found.ids == tokenizer.render(ROW["prompt"], generate=True).ids
    assert (found.number, found.answer, found.verifier) == (0, "2", "number")


def test_mistakes_are_named_with_their_row(tmp_path, tokenizer):
    unknown = {**ROW, "verifier": "numbr"}
    with pytest.raises(UserError, match=r"row 2 names the verifier 'numbr'; there are .*number"):
        prompts.rows(written(tmp_path, ROW, unknown))
    with pytest.raises(UserError, match="row 1 has no `answer`"):
        prompts.rows(written(tmp_path, {"prompt": ROW["prompt"], "verifier": "number"}))
    with pytest.raises(UserError, match="holds no prompt"):
        prompts.rows(written(tmp_path))
    with pytest.raises(UserError, match=r"row 1 has \d+ tokens; .* room for 10: 1 \+ 1\?"):
        prompts.read(written(tmp_path, ROW), tokenizer, room=10)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"prompt": "1 + 1?"}, "messages must be a list"),
        ({"prompt": [{"role": "user"}]}, r"messages\[0\].content must be a text"),
        ({"tools": 5}, "tools must be a list of objects, not int"),
        ({"kind": ["sums"]}, r"`kind` must be a text, not \['sums'\]"),
        ({"responses": None}, "`responses` must be a list"),
    ],
)
def test_a_row_of_another_form_is_named_without_a_tokenizer(tmp_path, change, told):
    with pytest.raises(UserError, match=f"prompts.jsonl: row 2: {told}"):
        prompts.rows(written(tmp_path, ROW, {**ROW, **change}))


def test_what_was_asked_last_may_be_a_call(tmp_path):
    call = {"role": "assistant", "tool_calls": [{"name": "weather", "arguments": {}}]}
    [row] = prompts.rows(written(tmp_path, {**ROW, "prompt": [*ROW["prompt"], call]}))
    assert prompts.asked(row["prompt"]) == ""


def test_without_a_verifier_a_prompt_is_enough(tmp_path):
    assert prompts.rows(written(tmp_path, {"prompt": ROW["prompt"]}), verified=False)
