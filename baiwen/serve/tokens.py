"""`POST /tokenize` and `/detokenize`: what the model reads, in ids (vLLM's words).

{"prompt": "Hello world"} -> {"tokens": [9707, 1879], "count": 2, "max_model_len": 32768}
{"tokens": [9707, 1879]}  -> {"prompt": "Hello world"}
"""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from baiwen.serve import asked as asks
from baiwen.serve import conversation, tools
from baiwen.serve.body import JSONRoute
from baiwen.serve.errors import APIError
from baiwen.serve.protocol import DetokenizeRequest, TokenizeRequest
from baiwen.serve.service import Served

router = APIRouter(route_class=JSONRoute)


@router.post("/tokenize", tags=["tokens"])
async def tokenize(asked: TokenizeRequest, request: Request) -> Response:
    """The ids of a text, or of a conversation."""
    service: Served = request.app.state.service
    asks.check_model(service, asked.model)
    if (asked.prompt is None) == (asked.messages is None):
        raise APIError("exactly one of prompt and messages must be given", param="prompt")
    if asked.messages is not None:
        shown = tools.described(asked.tools or ())
        ids = await conversation.prompt(
            service.tokenizer, asked.messages, shown, asked.add_generation_prompt
        )
    else:
        text = asked.prompt or ""
        ids = await asks.encoded(len(text), lambda: service.tokenizer.encode(text))

    def answer() -> Response:
        texts = map(service.spelling.text, ids)
        strings = [*texts] if asked.return_token_strs else None
        told = {"count": len(ids), "max_model_len": service.context}
        return JSONResponse({**told, "tokens": ids, "token_strs": strings})

    return await asks.encoded(len(ids), answer)


@router.post("/detokenize", tags=["tokens"])
async def detokenize(asked: DetokenizeRequest, request: Request) -> dict[str, str]:
    """The text of ids."""
    service: Served = request.app.state.service
    asks.check_model(service, asked.model)
    size = len(service.tokenizer)
    if asked.tokens and max(asked.tokens) >= size:
        told = f"tokens holds {max(asked.tokens)}; the model has 0 to {size - 1}"
        raise APIError(told, param="tokens")
    text = await asks.encoded(len(asked.tokens), lambda: service.tokenizer.decode(asked.tokens))
    return {"prompt": text}
