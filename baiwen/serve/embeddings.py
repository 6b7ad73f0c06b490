"""`POST /v1/embeddings`: what texts are to the model, as vectors of length one.

    {"input": ["a", "b"]} -> {"data": [{"index": 0, "embedding": [0.01, ...]}, ...]}

The mean of the hidden states over the text, or (`pooling`) the last one. `base64` are fp32 numbers,
little end first, as OpenAI's clients ask for.
"""

import asyncio
import base64
import struct

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from torch import Tensor

from baiwen.engine.submission import Closed
from baiwen.serve import asked as asks
from baiwen.serve.body import JSONRoute
from baiwen.serve.errors import APIError
from baiwen.serve.generation import late, unavailable
from baiwen.serve.protocol import EmbeddingRequest
from baiwen.serve.service import Service
from baiwen.serve.stream import unless_gone

router = APIRouter(route_class=JSONRoute)


@router.post("/v1/embeddings", tags=["embeddings"])
async def create(asked: EmbeddingRequest, request: Request) -> Response:
    """The vector of each text."""
    service: Service = request.app.state.service
    asks.check_model(service, asked.model)
    prompts = await asks.prompts(service, asked.input, "input")
    for ids in prompts:
        asks.answer_tokens(service, len(ids), 0, "input")
    size = service.front.engine.model.config.hidden_size
    if asked.dimensions not in (None, size):
        told = f"dimensions must be left out, or be {size}, the model's own"
        raise APIError(told, param="dimensions")
    vectors = await unless_gone(request.receive, _vectors(service, prompts, asked))
    read = sum(map(len, prompts))

    def answer() -> Response:
        data = [
            {"object": "embedding", "index": index, "embedding": _written(vector, asked)}
            for index, vector in enumerate(map(_unit, vectors.tolist()))
        ]
        usage = {"prompt_tokens": read, "total_tokens": read}
        return JSONResponse({"object": "list", "model": service.name, "data": data, "usage": usage})

    return await asks.encoded(vectors.numel(), answer)


async def _vectors(service: Service, prompts: list[list[int]], asked: EmbeddingRequest) -> Tensor:
    """The vectors [N, C]; APIError 504 where they take too long, 503 where the server stops."""
    try:
        async with asyncio.timeout(service.limits.request_seconds):
            return await service.front.embed(prompts, asked.pooling or "mean")
    except TimeoutError as error:
        raise late(service.limits) from error
    except Closed as error:
        raise unavailable(error, service) from error


def _unit(vector: list[float]) -> list[float]:
    length = sum(number * number for number in vector) ** 0.5 or 1.0
    return [number / length for number in vector]


def _written(vector: list[float], asked: EmbeddingRequest) -> list[float] | str:
    if asked.encoding_format != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
