"""The server's app: its routes, what stands in front of them, and its OpenAPI page.

    app = build(front, tokenizer, name="sft", context=32768)
    uvicorn.run(app)

Documentation in the browser is off, since it would load scripts from elsewhere; `/openapi.json`
holds the same.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from baiwen.engine.front import Front
from baiwen.engine.scorer import Scorer
from baiwen.serve import asked as asks
from baiwen.serve import chat, completions, embeddings, errors, pooling, responses, tokens
from baiwen.serve.access import Access, Gate
from baiwen.serve.limits import Limits
from baiwen.serve.metrics import CONTENT_TYPE, Metrics
from baiwen.serve.service import Scoring, Served, Service
from baiwen.serve.web import page
from baiwen.tokenizer.tokenizer import Tokenizer

ROUTES = tuple(
    module.router for module in (chat, completions, responses, embeddings, tokens, pooling)
)
SCORING = (pooling.router, tokens.router, pooling.refusals)  # of a reward model


def build(
    front: Front,
    tokenizer: Tokenizer,
    name: str,
    context: int,
    *,
    gate: Gate | None = None,
    limits: Limits | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> FastAPI:
    """The app that serves one model; `front` is started and stopped with it.

    gate: who is let in. defaults: the sampling of requests that name none.
    """
    service = Service(
        tokenizer=tokenizer,
        name=name,
        context=context,
        metrics=Metrics(front.stats),
        limits=limits or Limits(),
        front=front,
        defaults=defaults or {},
    )
    app = _made(service, ROUTES, gate or Gate())
    body, headers = page.read()

    @app.get("/", include_in_schema=False)
    async def chat_page() -> Response:
        """The chat page."""
        return Response(body, headers=headers)

    return app


def build_scoring(
    scorer: Scorer,
    name: str,
    context: int,
    *,
    gate: Gate | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """The app that serves one reward model: scores, tokens, and no chat page."""
    service = Scoring(
        tokenizer=scorer.tokenizer,
        name=name,
        context=context,
        metrics=Metrics(scorer.stats),
        limits=limits or Limits(),
        scorer=scorer,
    )
    return _made(service, SCORING, gate or Gate())


def _made(service: Service | Scoring, routes: Sequence[APIRouter], gate: Gate) -> FastAPI:
    app = FastAPI(title="Baiwen", docs_url=None, redoc_url=None, lifespan=_lifespan)
    app.state.service, app.state.gate = service, gate
    errors.install(app)
    for router in routes:
        app.include_router(router)
    _add_own_routes(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(Access, gate=gate, limits=service.limits, metrics=service.metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    service: Service | Scoring = app.state.service
    async with service.work:
        yield {"limits": service.limits}


def _add_own_routes(app: FastAPI) -> None:
    @app.get("/health", tags=["server"])
    async def health(request: Request) -> dict[str, str]:
        """Whether requests are taken."""
        if request.app.state.service.work.failure is not None:
            raise errors.APIError("the engine has failed; the server's log has the details", 503)
        return {"status": "ok"}

    @app.get("/metrics", tags=["server"], response_class=Response)
    async def metrics(request: Request) -> Response:
        """The server's numbers, for Prometheus."""
        return Response(request.app.state.service.metrics.page(), media_type=CONTENT_TYPE)

    @app.get("/v1/models", tags=["models"])
    async def models(request: Request) -> dict[str, Any]:
        """The one model."""
        return {"object": "list", "data": [_model(request.app.state.service)]}

    @app.get("/v1/models/{name:path}", tags=["models"])
    async def model(name: str, request: Request) -> dict[str, Any]:
        """The model of that name."""
        service: Served = request.app.state.service
        asks.check_model(service, name)
        return _model(service)


def _model(service: Served) -> dict[str, Any]:
    told = {
        "id": service.name,
        "object": "model",
        "created": service.created,
        "owned_by": "baiwen",
        "max_model_len": service.context,
    }
    if isinstance(service, Service):
        told["reads"] = service.front.engine.told
    return told


def _openapi(app: FastAPI) -> dict[str, Any]:
    """OpenAPI with our errors in place of FastAPI's."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version="1", routes=app.routes)
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = _MISTAKE
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        app.openapi_schema = schema
    return app.openapi_schema


_TEXT = {"type": "string"}
_NAME = {"anyOf": [_TEXT, {"type": "null"}]}
_MISTAKE = {
    "description": "what is wrong with the request",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type", "param", "code"],
                        "properties": {
                            "message": _TEXT,
                            "type": _TEXT,
                            "param": _NAME,
                            "code": _NAME,
                        },
                    }
                },
            }
        }
    },
}
