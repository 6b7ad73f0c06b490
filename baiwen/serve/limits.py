"""What one client, and all of them together, may ask of the server.

    Limits(waiting=8)        # the ninth that waits is told 429, and when to come back
    limits.body              # 8 MiB: a longer body is a 413 before it is read

Each limit is there since a request without it has stopped a server of this kind (findings of
vLLM's, SGLang's and llama.cpp's advisories); a request over one is told which, and what it is.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    body: int = 8 * 2**20
    header: int = 32 * 2**10  # request line and headers together
    depth: int = 64  # JSON within JSON
    keys: int = 4096  # of one JSON object
    connections: int = 512
    waiting: int = 256  # prompts that wait for their first token
    prompts: int = 128  # of one request
    n: int = 16  # answers to one prompt
    answers: int = 1024  # prompts times n
    logprobs: int = 20  # alternatives beside a token
    scores: int = 2**21  # log-probabilities of all prompts together, alternatives included
    stops: int = 16
    stop_length: int = 256  # characters
    biases: int = 1024  # entries of logit_bias
    tools: int = 128
    header_seconds: float = 10.0  # from a request's first byte to the end of its headers
    body_seconds: float = 30.0  # from there to the end of its body
    request_seconds: float = 600.0  # from there to the last token
    read_seconds: float = 30.0  # that a client may leave its answer unread
    retry_seconds: int = 1  # what a 429 or a 503 tells in Retry-After
