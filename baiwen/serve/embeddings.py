"""`POST /v1/embeddings`: what texts are to the model, as vectors of length one.

    {"input": ["a", "b"]} -> {"data": [{"index": 0, "embedding": [0.01, ...]}, ...]}

The mean of the hidden states over the text, or (`pooling`) the last one. `base64` are fp32 numbers,
little end first, as OpenAI's clients ask for.
"""

import base64
import struct
from typing import Any

from fastapi import APIRouter, Request

from baiwen.serve import asked as asks
from baiwen.serve.body import JSONRoute
from baiwen.serve.errors import APIError
from baiwen.serve.protocol import EmbeddingRequest
from baiwen.serve.service import Service
from baiwen.serve.stream import unless_gone

router = APIRouter(route_class=JSONRoute)


@router.post("/v1/embeddings", tags=["embeddings"])
async def create(asked: EmbeddingRequest, request: Request) -> dict[str, Any]:
    """The vector of each text."""
    service: Service = request.app.state.service
    asks.check_model(service, asked.model)
    prompts = await asks.prompts(service, asked.input, "input")
    for ids in prompts:
        asks.answer_tokens(service, len(ids), 0, "input")
    work = service.front.embed(prompts, asked.pooling or "mean")
    vectors = (await unless_gone(request.receive, work)).tolist()
    if asked.dimensions not in (None, len(vectors[0])):
        told = f"dimensions must be left out, or be {len(vectors[0])}, the model's own"
        raise APIError(told, param="dimensions")
    read = sum(map(len, prompts))
    return {
        "object": "list",
        "model": service.name,
        "data": [
            {"object": "embedding", "index": index, "embedding": _written(vector, asked)}
            for index, vector in enumerate(map(_unit, vectors))
        ],
        "usage": {"prompt_tokens": read, "total_tokens": read},
    }


def _unit(vector: list[float]) -> list[float]:
    length = sum(number * number for number in vector) ** 0.5 or 1.0
    return [number / length for number in vector]


def _written(vector: list[float], asked: EmbeddingRequest) -> list[float] | str:
    if asked.encoding_format != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
