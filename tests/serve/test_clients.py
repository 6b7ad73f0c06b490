"""OpenAI's own client, unmodified, against the server."""

import asyncio
import json
from typing import Literal

import openai
import pytest
from pydantic import BaseModel

SENTENCE = "Hi! 你好 👋🏽 é 👨‍👩‍👧"


@pytest.fixture
def client(served):
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def user(text):
    return [{"role": "user", "content": text}]


def test_chat_completions(client):
    told = client.chat.completions.create(model="tiny", messages=user("hello"), temperature=0)
    assert told.choices[0].message.content == SENTENCE
    assert told.choices[0].finish_reason == "stop" and told.usage.total_tokens > 0


def test_streams(client):
    asked = {"model": "tiny", "messages": user("hello"), "temperature": 0, "stream": True}
    with client.chat.completions.create(**asked, stream_options={"include_usage": True}) as stream:
        *chunks, last = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SENTENCE
    assert last.usage.completion_tokens > 0


def test_the_asynchronous_client_many_at_once(served):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
            create = client.chat.completions.create
            asked = [
                create(model="tiny", messages=user(text), temperature=0)
                for text in ["hello", "count"] * 6
            ]
            return [told.choices[0].message.content for told in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == [SENTENCE, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"] * 6


class Weather(BaseModel):
    city: Literal["Rome", "Oslo"]
    warm: bool


def test_structured_answers_are_parsed(client):
    told = client.chat.completions.parse(
        model="tiny", messages=user("hm"), response_format=Weather, max_tokens=200
    )
    assert isinstance(told.choices[0].message.parsed, Weather)


def test_structured_streams_are_parsed(client):
    asked = {"model": "tiny", "messages": user("hm"), "response_format": Weather}
    with client.chat.completions.stream(**asked, max_tokens=200) as stream:
        kinds = [event.type for event in stream]
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Weather)
    assert "content.delta" in kinds and kinds[-1] == "content.done"


def test_tools_are_called_and_their_results_taken(client, weather):
    messages = user("Rome and Oslo?")
    asked = {"model": "tiny", "tools": [weather], "temperature": 0}
    told = client.chat.completions.create(messages=messages, **asked).choices[0]
    assert told.finish_reason == "tool_calls" and told.message.content == "Both."
    messages.append(told.message)
    for call in told.message.tool_calls:
        city = json.loads(call.function.arguments)["city"]
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"mild in {city}"})
    again = client.chat.completions.create(messages=messages, max_tokens=4, **asked)
    assert again.choices[0].finish_reason in ("length", "stop", "tool_calls")


def test_streamed_calls_are_put_together(client, weather):
    asked = {"model": "tiny", "messages": user("tricky?"), "tools": [weather], "temperature": 0}
    with client.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert "tool_calls.function.arguments.delta" in kinds
    assert json.loads(call.function.arguments)["city"].startswith('say "</tool_call>"')


def test_pydantic_tools(client):
    tool = openai.pydantic_function_tool(Weather)
    asked = {"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False}
    told = client.chat.completions.parse(model="tiny", messages=user("hm"), **asked)
    (call,) = told.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)


def test_completions_embeddings_and_models(client):
    told = client.completions.create(model="tiny", prompt="Rome", max_tokens=3, logprobs=1)
    assert len(told.choices[0].logprobs.tokens) <= 3
    assert len(client.embeddings.create(model="tiny", input="Rome").data[0].embedding) == 96
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_mistakes_are_the_exceptions_that_clients_know(client):
    with pytest.raises(openai.BadRequestError, match="temperature") as caught:
        client.chat.completions.create(model="tiny", messages=user("x"), temperature=9)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=user("x"))
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=user("x " * 2000))
    assert caught.value.code == "context_length_exceeded"


# Responses.


def test_a_response(client):
    told = client.responses.create(model="tiny", input="hello", temperature=0)
    assert told.output_text == SENTENCE and told.status == "completed"
    assert told.usage.total_tokens == told.usage.input_tokens + told.usage.output_tokens


def test_a_response_that_is_cut_says_so(client):
    told = client.responses.create(model="tiny", input="count", temperature=0, max_output_tokens=3)
    assert told.status == "incomplete"
    assert told.incomplete_details.reason == "max_output_tokens"


def test_a_response_streams_its_events_in_order(client):
    with client.responses.create(model="tiny", input="hello", temperature=0, stream=True) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = "".join(event.delta for event in events if event.type.endswith("text.delta"))
    assert said == events[-1].response.output_text == SENTENCE


def test_a_response_calls_functions_and_takes_their_results(client, weather):
    tools = [{"type": "function", "strict": False, **weather["function"]}]
    asked = {"model": "tiny", "tools": tools, "temperature": 0}
    told = client.responses.create(input="Rome and Oslo?", **asked)
    kinds = [item.type for item in told.output]
    assert kinds == ["message", "function_call", "function_call"]
    turns = [{"role": "user", "content": "Rome and Oslo?"}, *told.output]
    for call in told.output[1:]:
        turns.append({"type": "function_call_output", "call_id": call.call_id, "output": "mild"})
    again = client.responses.create(input=turns, max_output_tokens=4, **asked)
    assert again.status in ("completed", "incomplete")


def test_streamed_calls_of_a_response_are_put_together(client, weather):
    tools = [{"type": "function", "strict": False, **weather["function"]}]
    asked = {"model": "tiny", "tools": tools, "temperature": 0, "input": "Rome?"}
    with client.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds.count("response.function_call_arguments.done") == 1
    (call,) = final.output
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Rome"})


def test_a_structured_response_is_parsed(client):
    told = client.responses.parse(
        model="tiny", input="hm", text_format=Weather, max_output_tokens=200
    )
    assert isinstance(told.output_parsed, Weather)


@pytest.mark.parametrize(
    "fields", [{"previous_response_id": "resp_1"}, {"background": True}, {"truncation": "auto"}]
)
def test_what_needs_a_memory_is_refused(client, fields):
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="tiny", input="hm", **fields)
