"""A chat model that is asked over HTTP, many questions at a time, none of them twice.

chat       Endpoint, opened: a model behind OpenAI's protocol, asked until it answers
reply      Ask, Reply, Refused, Stopped: what is asked and said, whoever answers
answers    answers: many requests side by side, in order, kept in a ledger, read and retried

    with Ledger("state/said.jsonl") as cache, opened(endpoint) as ask:
        for answer in answers(ask, requests, cache, endpoint.concurrency, read=score):
            ...
"""

from baiwen.endpoint.answers import Answer, Request, answers
from baiwen.endpoint.chat import Chat, Endpoint, connected, opened
from baiwen.endpoint.reply import Ask, Messages, Refused, Reply, Sampling, Stopped, key

__all__ = [
    "Answer",
    "Ask",
    "Chat",
    "Endpoint",
    "Messages",
    "Refused",
    "Reply",
    "Request",
    "Sampling",
    "Stopped",
    "answers",
    "connected",
    "key",
    "opened",
]
