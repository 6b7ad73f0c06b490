"""A chat model that is asked over HTTP, many questions at a time, none of them twice.

reply       Ask, Reply, Refused, Stopped: what is asked and said, whoever answers
chat        Endpoint, opened: a model behind OpenAI's protocol
connection  Server, Connection: requests made until the server answers, to one server or several
pace        Pace: requests and tokens a minute
answers     answers: many requests side by side, in order, kept in a ledger, read and retried
bill        Bill: tokens and money

    with Ledger("state/said.jsonl") as cache, opened(endpoint) as ask:
        for answer in answers(ask, requests, cache, endpoint.concurrency, read=score):
            ...
"""

from baiwen.endpoint.answers import Answer, Request, answers, telling
from baiwen.endpoint.bill import Bill
from baiwen.endpoint.chat import FREE, Chat, Endpoint, opened
from baiwen.endpoint.connection import Connection, Server, connected
from baiwen.endpoint.reply import Ask, Messages, Refused, Reply, Sampling, Stopped, key, objects

__all__ = [
    "FREE",
    "Answer",
    "Ask",
    "Bill",
    "Chat",
    "Connection",
    "Endpoint",
    "Messages",
    "Refused",
    "Reply",
    "Request",
    "Sampling",
    "Server",
    "Stopped",
    "answers",
    "connected",
    "key",
    "objects",
    "opened",
    "telling",
]
