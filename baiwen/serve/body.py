"""The body of a request, read strictly: one JSON value in UTF-8, each key once, finite numbers.

    parse(b'{"n": 1}', Limits())           {"n": 1}
    parse(b'{"n": 1, "n": 2}', Limits())   APIError: the key "n" stands twice
    parse(b'{"n": NaN}', Limits())         APIError: NaN is not JSON

Python's own reader takes all of these, and other readers on the way (a proxy, a log) may read them
in another way than we do.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from baiwen.serve.errors import APIError
from baiwen.serve.limits import Limits

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
SMALL = 2**16  # bytes that are read at once; more in a thread, as it takes up to a second


class Body(Request):
    """A request whose JSON is read strictly."""

    async def json(self) -> Any:  # noqa: ANN401
        """The value of the body; APIError says what is wrong with it, and where."""
        data, service = await self.body(), self.app.state.service
        if len(data) <= SMALL:
            return parse(data, service.limits)
        async with service.reading:
            return await run_in_threadpool(parse, data, service.limits)


class JSONRoute(APIRoute):
    """A route whose handler gets its model from a strictly read body."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The handler, behind our reader."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(Body(request.scope, request.receive))

        return handle


def parse(data: bytes, limits: Limits) -> object:
    """The JSON value of `data`, within the limits; APIError says what is wrong, and where."""
    try:
        text = data.decode()
        value = _DECODER.decode(text.strip(" \t\r\n"))
    except UnicodeDecodeError as error:
        raise APIError(f"the body is not UTF-8: byte {error.start} begins no character") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise APIError(f"the body is not JSON: {error.msg}: {place}") from error
    except ValueError as error:  # Python reads integers of up to 4,300 digits
        raise APIError("the body holds a number that is too large") from error
    except RecursionError as error:
        raise _deep(limits) from error
    _check_shape(value, limits)
    if _SURROGATE.search(text):
        _check_characters(value)
    return value


def _check_shape(value: object, limits: Limits) -> None:
    level = [value]
    for _ in range(limits.depth):
        if any(len(one) > limits.keys for one in level if isinstance(one, dict)):
            raise APIError(f"the body holds an object of more than {limits.keys:,} keys")
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise _deep(limits)


def _deep(limits: Limits) -> APIError:
    return APIError(f"the body is nested more than {limits.depth} deep")


def _inside(value: object) -> list[Any]:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in values if isinstance(inner, dict | list)]


def _check_characters(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise APIError("the body holds a lone surrogate (half a character)") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise APIError(f"the key {json.dumps(twice[:60])} stands twice")
    return found


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise APIError(f"the number {text[:40]} is too large")
    return number


def _refuse(name: str) -> NoReturn:
    raise APIError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_float, parse_constant=_refuse)
