"""Tools: calls that the model makes of itself, and those that it is made to make."""

import json

import pytest

PATH = "/v1/chat/completions"


@pytest.fixture
def ask(http, weather):
    """Ask with the tool; the message, the reason to finish, and what a stream adds up to."""

    def answered(question, **fields):
        body = {
            "messages": [{"role": "user", "content": question}],
            "tools": [weather],
            "temperature": 0,
            **fields,
        }
        response = http.post(PATH, json=body)
        assert response.status_code == 200, response.text
        (choice,) = response.json()["choices"]
        assert summed(http.post(PATH, json={**body, "stream": True}).text) == known(choice)
        return choice["message"], choice["finish_reason"]

    return answered


def known(choice):
    calls = [call["function"] for call in choice["message"].get("tool_calls", [])]
    return choice["message"]["content"] or "", calls, choice["finish_reason"]


def summed(text):
    content, calls, finish = "", [], None
    for frame in text.split("\n\n")[:-2]:
        (choice,) = json.loads(frame.removeprefix("data: "))["choices"]
        content += choice["delta"].get("content") or ""
        finish = choice["finish_reason"]
        for call in choice["delta"].get("tool_calls", []):
            if "id" in call:
                assert call["index"] == len(calls) and call["type"] == "function"
                calls.append(dict(call["function"]))
            else:
                calls[call["index"]]["arguments"] += call["function"]["arguments"]
    return content, calls, finish


def arguments(message):
    return [json.loads(call["function"]["arguments"]) for call in message["tool_calls"]]


def test_a_call_is_read_from_the_answer(ask):
    message, finish = ask("Rome?")
    assert finish == "tool_calls" and message["content"] is None
    assert message["tool_calls"][0]["function"]["name"] == "weather"
    assert arguments(message) == [{"city": "Rome"}]


def test_several_calls_and_words_before_them(ask):
    message, finish = ask("Rome and Oslo?")
    assert (message["content"], finish) == ("Both.", "tool_calls")
    assert arguments(message) == [{"city": "Rome"}, {"city": "Oslo"}]
    assert len({call["id"] for call in message["tool_calls"]}) == 2


def test_one_call_where_parallel_ones_are_off(ask):
    message, finish = ask("Rome and Oslo?", parallel_tool_calls=False)
    assert arguments(message) == [{"city": "Rome"}] and finish == "tool_calls"


def test_an_end_of_calls_in_a_string_ends_nothing(ask):
    message, finish = ask("tricky?")
    assert arguments(message) == [{"city": 'say "</tool_call>" and {not} <tool_call>'}]
    assert finish == "tool_calls"


def test_words_are_words(ask):
    assert ask("thanks")[0]["content"] == "Any time."
    assert ask("thanks")[1] == "stop"


def test_with_none_the_model_sees_no_tools(ask, http):
    message, _ = ask("hello", tool_choice="none")
    assert message["content"].startswith("Hi!") and "tool_calls" not in message


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_forced_call_is_made_whatever_the_model_would_say(ask, weather, choice):
    cities = {**weather["function"]["parameters"], "properties": {"city": {"enum": ["Oslo"]}}}
    cities["additionalProperties"] = False
    known = {"type": "function", "function": {**weather["function"], "parameters": cities}}
    message, finish = ask("thanks", tools=[known], tool_choice=choice, parallel_tool_calls=False)
    assert finish == "tool_calls" and message["content"] is None
    assert arguments(message) == [{"city": "Oslo"}]


def test_strict_functions_keep_to_their_schema(ask, weather, tokenizer):
    schema = {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
    schema["additionalProperties"] = False
    strict = {**weather["function"], "parameters": schema, "strict": True}
    calling = {"logit_bias": {str(tokenizer.id("<tool_call>")): 100}, "parallel_tool_calls": False}
    message, finish = ask("Rome?", tools=[{"type": "function", "function": strict}], **calling)
    assert finish == "tool_calls"
    assert all(isinstance(made["days"], int) for made in arguments(message))


def test_strict_functions_leave_words_free(ask, weather):
    strict = {**weather["function"], "strict": True}
    message, _ = ask("thanks", tools=[{"type": "function", "function": strict}])
    assert message["content"] == "Any time."


def test_a_call_that_is_cut_says_so(ask):
    assert ask("Rome?", max_tokens=12)[1] == "length"


def test_results_stand_in_the_order_of_their_calls(http):
    def turns(results):
        calls = [
            {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}
            for name in ("a", "b")
        ]
        first = [{"role": "user", "content": "x"}]
        first.append({"role": "assistant", "content": None, "tool_calls": calls})
        return first + [
            {"role": "tool", "tool_call_id": name, "content": f"of {name}"} for name in results
        ]

    one, two = (
        http.post("/tokenize", json={"messages": turns(order)}).json() for order in ("ab", "ba")
    )
    assert one == two
    wrong = http.post("/tokenize", json={"messages": turns("ac")})
    assert wrong.json()["error"]["param"] == "messages[3].tool_call_id"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
        ({"tools": None, "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "tool_choice"),
        ({"functions": []}, "functions"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
def test_what_cannot_be_done_is_refused(http, weather, fields, param):
    body = {"messages": [{"role": "user", "content": "x"}], "tools": [weather], **fields}
    response = http.post(PATH, json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].startswith(param)
