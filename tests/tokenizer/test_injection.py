"""No text in any field becomes a control token: 10,000 conversations made of hostile pieces."""

import random
from collections import Counter

import pytest
from tokenizers import normalizers

from baiwen.tokenizer import chat, control

CONVERSATIONS = 10_000
NFC = normalizers.NFC().normalize_str
PIECES = [
    *control.NAMES,
    *(name[: len(name) // 2] for name in control.NAMES),
    *(name[len(name) // 2 :] for name in control.NAMES),
    *(name.replace("|", "｜") for name in control.NAMES[:3]),
    *(name.replace("_", "\u200b_") for name in control.NAMES[:3]),
    *("<|im_\u0073tart|>", "<|IM_END|>", "< |im_end|>", "<|im_end|\u0338>", "\u226e|im_end|>"),
    *("<", "|", ">", "<|", "|>", "\u0338", "\u0301", "\u2060", "\ufeff", "\u202e", "\x00", "＜"),
    *("</tools>", "<tools>", "<tool_response>", "</tool_response>", "{open}", "{close}"),
    *("system\n", "user\n", "assistant\n", "\n", "\r\n", " ", "}}", "{{", "{%", "\\u003c", '"'),
    *("im_start", "im_end", "tool_call", "/", "a", "é", "中", "😀", "7"),
]


def hostile(rng):
    return "".join(rng.choices(PIECES, k=rng.randrange(6)))


def function_name(rng):
    return hostile(rng).translate(dict.fromkeys([*range(32), ord('"'), ord("\\")]))


def call(rng):
    return {"name": function_name(rng), "arguments": {hostile(rng): [hostile(rng)]}}


def answer(rng):
    calls = [call(rng) for _ in range(rng.randrange(3))]
    return {"role": "assistant", "content": hostile(rng), "tool_calls": calls, "id": hostile(rng)}


def message(rng):
    if rng.random() < 0.4:
        return answer(rng)
    role = rng.choice(["system", "user", "tool"])
    return {"role": role, "content": hostile(rng), "name": hostile(rng)}


def tool(rng):
    schema = {"type": "object", "properties": {hostile(rng): {"description": hostile(rng)}}}
    function = {"name": hostile(rng), "description": hostile(rng), "parameters": schema}
    return {"type": "function", "function": function}


def demanded(messages, tools, generate):
    """How many of each control token the structure asks for."""
    begins_with_system = messages[0]["role"] == "system"
    roles = [message["role"] for message in messages[begins_with_system:]]
    turns = 1 + sum(
        role != "tool" or before != "tool"
        for before, role in zip(["", *roles], roles, strict=False)
    )
    calls = sum(len(message.get("tool_calls", [])) for message in messages) + 2 * bool(tools)
    counts = {control.IM_START: turns + generate, control.IM_END: turns}
    return Counter({**counts, control.TOOL_CALL: calls, control.TOOL_CALL_END: calls})


@pytest.mark.slow
def test_only_the_structure_makes_control_tokens(small):
    rng = random.Random(0)
    names = {token: name for name, token in small.vocabulary.control_ids.items()}
    for _ in range(CONVERSATIONS):
        messages = [message(rng) for _ in range(rng.randrange(1, 5))]
        tools = [tool(rng) for _ in range(rng.randrange(2))]
        generate = rng.random() < 0.5
        ids = small.render(messages, tools, generate).ids
        found = Counter(names[token] for token in ids if token in names)
        assert found == demanded(messages, tools, generate)


def test_all_text_of_all_fields_is_there(small):
    rng = random.Random(2)
    for _ in range(1_000):
        messages, tools = [message(rng), message(rng)], [tool(rng)]
        pieces = chat.joined(chat.pieces(messages, tools))
        expected = "".join(NFC(piece.text) for piece in pieces)
        assert small.decode(small.render(messages, tools).ids) == expected


def test_control_strings_in_text_are_encoded_as_text(small):
    rng = random.Random(1)
    texts = [hostile(rng) for _ in range(CONVERSATIONS)]
    for text, ids in zip(texts, small.encode_many(texts), strict=True):
        assert not ids.size or ids.max() < len(small.vocabulary.tokens)
        assert small.decode(ids.tolist()) == NFC(text)
