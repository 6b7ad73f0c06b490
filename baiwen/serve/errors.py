"""What a client is told when a request cannot be served: OpenAI's shape, for every mistake.

    {"error": {"message": "temperature must be less than or equal to 2", "param": "temperature",
               "type": "invalid_request_error", "code": null}}

No answer holds a traceback, a path or the name of a class: a fault of ours is a 500 that says so,
and its traceback goes to the server's log.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from baiwen.errors import UserError

KINDS = {  # OpenAI's `type` of a status
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
_OBJECT = ("a valid dictionary or object to extract fields from", "an object")
REFUSED = "none_required"  # pydantic's word for a field that may only be null: one we do not serve


class APIError(HTTPException):
    """A refusal with its status; `param` is the field that is wrong, `code` OpenAI's word."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.param, self.code = param, code


class ClientGone(Exception):  # noqa: N818
    """Nobody is there to be answered."""


def shape(error: Exception) -> dict[str, Any]:
    """`{"error": {...}}` for any error; what is not meant for a person is told as a fault of ours.

    A stream that has begun says this in an event of its own.
    """
    status = status_of(error)
    message = "the server failed at this request; its log has the details"
    if isinstance(error, HTTPException):
        message = str(error.detail)
    elif isinstance(error, UserError):
        message = str(error)
    kind = KINDS.get(status, "server_error" if status > 500 else "invalid_request_error")
    param, code = getattr(error, "param", None), getattr(error, "code", None)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def status_of(error: Exception) -> int:
    """The status that tells of `error`."""
    if isinstance(error, HTTPException):
        return error.status_code
    return 400 if isinstance(error, UserError) else 500


def response(error: Exception, close: bool = False) -> JSONResponse:
    """The answer that tells of `error`; `close` ends the connection, so that no body is read."""
    headers = {
        **(getattr(error, "headers", None) or {}),
        **({"Connection": "close"} if close else {}),
    }
    return JSONResponse(shape(error), status_of(error), headers)


def install(app: FastAPI) -> None:
    """Let `app` tell of every error in OpenAI's shape."""
    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(UserError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientGone, _gone)
    app.add_exception_handler(Exception, _told)


async def _told(request: Request, error: Exception) -> JSONResponse:
    return response(error)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nginx's word for it, which nobody but the metrics reads


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return response(mistake(error.errors(), error.body))


def mistake(errors: Sequence[Mapping[str, Any]], body: object) -> APIError:
    """The mistake that pydantic's list tells of: of a union's branches, the one that went furthest.

    body: the parsed request, by which the names of branches are told from those of fields.
    """
    if isinstance(body, bytes):
        return APIError("the body must be JSON, with the header Content-Type: application/json")
    places = [(_path(error["loc"], body), error) for error in errors]
    path, error = max(places, key=lambda place: len(place[0]))
    alike = [told["msg"] for place, told in places if place == path]
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path = (*path, error["ctx"]["discriminator"].strip("'"))
        alike = [error["ctx"].get("expected_tags", "given")]
    return APIError(_sentence(path, error["type"], alike), param=dotted(path) or None)


def dotted(path: Sequence[str | int]) -> str:
    """`("messages", 0, "role")` -> `messages[0].role`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")[:200]


def _path(location: Sequence[str | int], body: Any) -> tuple[str | int, ...]:  # noqa: ANN401
    """Pydantic's location without the names that it gives to branches of unions."""
    path: list[str | int] = []
    for part in location[1:]:
        within = isinstance(body, dict) and part in body
        if within or (isinstance(body, list) and isinstance(part, int) and part < len(body)):
            body = body[part]
            path.append(part)
        elif part == location[-1] and isinstance(body, dict) and "-" not in str(part):
            path.append(part)
    return tuple(path)


def _sentence(path: tuple[str | int, ...], kind: str, messages: Sequence[str]) -> str:
    name = dotted(path) or "the body"
    if kind == "missing":
        return f"{name} is missing"
    if kind == "extra_forbidden":
        return f"{name} is not a parameter of this request"
    if kind == REFUSED:
        return f"{name} is not supported by this server: leave it out"
    told = (message.removeprefix("Input should be ") for message in dict.fromkeys(messages))
    words = [message.replace(*_OBJECT) for message in told]
    return f"{name} must be {' or '.join(words)}"


def event(error: Exception) -> bytes:
    """The event of a stream that ends by `error`."""
    return b"data: " + json.dumps(shape(error), ensure_ascii=False).encode() + b"\n\n"
