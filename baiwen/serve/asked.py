"""From a request's fields to what the engine is asked: its sampling, its grammar, its limits.

    sampling(service, asked, room=500, grammar=None, logprobs=0)

A request that says nothing of how to draw (temperature, top_p, top_k, min_p, repetition_penalty) is
answered by the model's `generation_config.json`; one that does is taken at its word, and what it
leaves out is OpenAI's default: so `temperature: 0` alone is the likeliest token always.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from baiwen.engine.grammar import Grammar
from baiwen.engine.sampler import Sampling
from baiwen.serve.errors import APIError
from baiwen.serve.limits import Limits
from baiwen.serve.protocol import Format, ObjectFormat, SamplingFields, SchemaFormat
from baiwen.serve.service import Served, Service
from baiwen.tokenizer.tokenizer import Tokenizer

OPENAI = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
OUTPUTS: dict[str, Callable[..., Grammar]] = {  # by the fields of `StructuredOutputs`
    "json_": Grammar.json_schema,
    "regex": Grammar.regex,
    "choice": Grammar.choice,
    "grammar": Grammar.lark,
}
T = TypeVar("T")

SMALL = 4096  # characters that are encoded at once; longer ones in a thread, as it takes a while


def check_model(service: Served, name: str | None) -> None:
    """APIError 404 for a model that is not the one served."""
    if name is not None and name != service.name:
        raise APIError(
            f"the model {name[:80]!r} is not here; this server has {service.name!r}",
            404,
            param="model",
            code="model_not_found",
        )


def check_count(what: str, count: int, most: int) -> None:
    """APIError for more of something than the server's limit."""
    if count > most:
        raise APIError(f"{what} is {count:,}; this server takes at most {most:,}", param=what)


async def encoded(size: int, encode: Callable[[], T]) -> T:
    """What `encode` gives, without holding up the other requests; size: characters."""
    return encode() if size <= SMALL else await run_in_threadpool(encode)


async def prompts(service: Served, given: Any, param: str) -> list[list[int]]:  # noqa: ANN401
    """The ids of a text, of ids, or of a list of either; `param` is the field they stand in."""
    many = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    check_count(param, len(many), service.limits.prompts)
    texts = [prompt for prompt in many if isinstance(prompt, str)]
    if texts:

        def encode() -> list[list[int]]:
            return [service.tokenizer.encode(text) for text in texts]

        found = await encoded(sum(map(len, texts)), encode)
    else:
        found = many
    size = len(service.tokenizer)
    for place, ids in enumerate(found):
        where = param if len(found) == 1 else f"{param}[{place}]"
        if not ids:
            raise APIError(f"{where} is empty; give it at least one token", param=param)
        if max(ids) >= size:
            told = f"{where} holds the id {max(ids)}; the model has 0 to {size - 1}"
            raise APIError(told, param=param)
    return found


def sampling(
    service: Service,
    asked: SamplingFields,
    prompt: int,
    *,
    max_tokens: int | None,
    grammar: Grammar | None = None,
    logprobs: int = 0,
    prompt_logprobs: int | None = None,
    stop_ids: tuple[int, ...] = (),
    param: str = "prompt",
) -> Sampling:
    """The engine's sampling for a prompt of `prompt` tokens, which stands in the field `param`.

    max_tokens: None for as many as fit the context, without reading the prompt differently for it
    (`Engine.answer`); stop_ids: beside the ends of turn and text.
    """
    tokenizer = service.tokenizer
    most = answer_tokens(service, prompt, max_tokens, param)
    if max_tokens is None:
        most = min(most, service.front.engine.answer(prompt))
    ends = (tokenizer.end_of_turn, tokenizer.end_of_text)
    return Sampling(
        **_drawn(asked, service.defaults),
        presence_penalty=asked.presence_penalty or 0.0,
        frequency_penalty=asked.frequency_penalty or 0.0,
        logit_bias=_biases(asked.logit_bias or {}, len(tokenizer), service.limits),
        max_tokens=most,
        min_tokens=_least(asked.min_tokens or 0, most),
        stop=_stops(asked.stop, service.limits),
        stop_ids=(*ends, *stop_ids, *_ids(asked.stop_token_ids or [], len(tokenizer))),
        seed=asked.seed,
        n=answers(asked.n or 1, service.limits),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        grammar=grammar,
    )


def answers(n: int, limits: Limits) -> int:
    """The number of answers to a prompt, within the limit."""
    check_count("n", n, limits.n)
    return n


def answer_tokens(service: Served, prompt: int, most: int | None, param: str) -> int:
    """How long an answer may be; APIError says by how much prompt and answer are too long."""
    room = service.context - prompt
    asked = 1 if most is None else most
    if asked <= room:
        return room if most is None else most
    answer = "" if most is None else f" and an answer of up to {most:,}"
    raise APIError(
        f"this model reads and writes {service.context:,} tokens at most; a prompt of {prompt:,} "
        f"tokens{answer} is {asked - room:,} too many",
        param="max_tokens" if room > 0 and most is not None else param,
        code="context_length_exceeded",
    )


async def grammar(
    service: Service, asked: SamplingFields, form: Format | None = None
) -> Grammar | None:
    """The grammar that the request asks for, if it asks for one."""
    outputs = asked.structured_outputs
    given = {} if outputs is None else outputs.model_dump(exclude_none=True)
    if outputs is not None and len(given) != 1:
        raise APIError("exactly one structured output must be given", param="structured_outputs")
    wants: list[tuple[Any, ...]] = [(OUTPUTS[name], value) for name, value in given.items()]
    if isinstance(form, SchemaFormat):
        wants.append((Grammar.json_schema, form.json_schema.schema_))
    elif isinstance(form, ObjectFormat):
        wants.append((Grammar.json_object,))
    if len(wants) > 1:
        raise APIError("one of response_format and structured_outputs must be left out")
    return await compiled(service.tokenizer, *wants[0]) if wants else None


async def compiled(
    tokenizer: Tokenizer, make: Callable[..., Grammar], *arguments: object
) -> Grammar:
    """A grammar, compiled without holding up the other requests."""
    return await run_in_threadpool(make, tokenizer, *arguments)


def _drawn(asked: SamplingFields, folder: Mapping[str, Any]) -> dict[str, Any]:
    """How to draw: as the request says, and what it leaves out OpenAI's way; else as the folder."""
    said = {name: getattr(asked, name) for name in OPENAI}
    said = {name: value for name, value in said.items() if value is not None}
    drawn = OPENAI | (said or dict(folder))
    # A top_p of 0 means the likeliest token, which is what a tiny one leaves; a top_k of -1, all.
    return drawn | {"top_p": max(drawn["top_p"], 1e-9), "top_k": max(int(drawn["top_k"]), 0)}


def _least(least: int, most: int) -> int:
    if least > most:
        raise APIError(
            f"min_tokens is {least:,}, above the {most:,} that the answer may have",
            param="min_tokens",
        )
    return least


def _stops(stop: str | list[str] | None, limits: Limits) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop or []
    check_count("stop", len(stops), limits.stops)
    if not all(stops):
        raise APIError("stop must not be an empty text", param="stop")
    if (longest := max(map(len, stops), default=0)) > limits.stop_length:
        raise APIError(f"stop has {longest:,} characters, above {limits.stop_length}", param="stop")
    return tuple(stops)


def _biases(biases: dict[str, float], size: int, limits: Limits) -> dict[int, float]:
    check_count("logit_bias", len(biases), limits.biases)
    found = {}
    for name, bias in biases.items():
        if not (name.isascii() and name.isdecimal() and len(name) < 10 and int(name) < size):
            told = f"logit_bias has the key {name[:20]!r}, which is no id from 0 to {size - 1}"
            raise APIError(told, param="logit_bias")
        found[int(name)] = bias
    return found


def _ids(ids: list[int], size: int) -> list[int]:
    for token in ids:
        if token >= size:
            told = f"stop_token_ids holds {token}; the model has 0 to {size - 1}"
            raise APIError(told, param="stop_token_ids")
    return ids
