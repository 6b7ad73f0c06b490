"""vLLM as the sampler: a server elsewhere, behind the same four calls, over HTTP.

    VLLM_SERVER_DEV_MODE=1 vllm serve runs/mine/served --enable-sleep-mode \\
        --logprobs-mode processed_logprobs

    [vllm]
    url = "http://node7:8000"
    folder = "runs/mine/served"          # where that server reads its weights

    with served(vllm, config, tokenizer, torch.bfloat16) as sampler:
        sampler.update_weights(whole(model))
        answers = sampler.generate(prompts, sampling)

Prompts go out and answers come back in ids (`/v1/completions`, `return_token_ids`), with the
log-probabilities as drawn. Weights go the way that vLLM documents for HTTP without NCCL (Sleep
Mode, https://docs.vllm.ai/en/latest/features/sleep_mode/): they are written into the folder that
the server has loaded, and it sleeps (level 2), wakes with room for weights, reloads them, and wakes
with an empty cache. While training goes on it sleeps, so both may share a GPU. Answers are not the
same bits in another run: vLLM batches as requests come.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import torch
from pydantic import Field

from baiwen.endpoint import Connection, Refused, Server, connected
from baiwen.engine.request import Completion, Token
from baiwen.engine.sampler import Sampling, chance
from baiwen.errors import UserError
from baiwen.files.manifest import MANIFEST
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.rl.rollout import Ids, Weights
from baiwen.tokenizer.tokenizer import Tokenizer

PROBED = 256  # tokens that server and tokenizer must spell alike
REPLACED = "\ufffd"  # what half a character is decoded to
COUNTER = re.compile(r"^vllm:(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)  # of Prometheus' text
TOLD = {
    "prompt_tokens_total": "prompt_tokens",
    "generation_tokens_total": "generated_tokens",
    "num_requests_running": "running",
    "num_requests_waiting": "waiting",
    "num_preemptions_total": "preemptions",
}


class Vllm(Server):
    """Where the server is, and where it reads its weights."""

    folder: Path  # an HF folder that it serves and this run writes; not `start`
    concurrency: Annotated[int, Field(gt=0)] = 64  # prompts asked at a time
    timeout: Annotated[float, Field(gt=0)] = 1800.0  # seconds without a byte: of a whole group


class Served(Connection):
    """The sampler."""

    def __init__(
        self,
        knobs: Vllm,
        clients: Sequence[httpx.Client],
        config: ModelConfig,
        tokenizer: Tokenizer,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(knobs, clients)
        self._knobs, self._config, self._tokenizer, self._dtype = knobs, config, tokenizer, dtype
        self._ends = (tokenizer.end_of_turn, tokenizer.end_of_text)
        self._refuse_other_words()

    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> list[Completion]:
        """A request for each prompt, `concurrency` of them at a time."""
        seen: Counter[tuple[int, ...]] = Counter()
        bodies = []
        for ids in prompts:
            bodies.append(self._body(ids, sampling, seen[tuple(ids)]))
            seen[tuple(ids)] += sampling.n
        read = partial(self._completions, count=sampling.n)
        with ThreadPoolExecutor(self._knobs.concurrency) as pool:
            asked = [pool.submit(self._asked, "/v1/completions", body, read) for body in bodies]
            try:
                return [answer for one in asked for answer in one.result()]
            except UserError:
                self.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def update_weights(self, tensors: Weights) -> None:
        """Write them where the server reads them, and have it read them."""
        weights.save(dict(tensors), self._config, self._knobs.folder, dtype=self._dtype)
        self.pause()
        self._asked("/wake_up?tags=weights")
        self._asked("/collective_rpc", {"method": "reload_weights"})
        self._asked("/wake_up?tags=kv_cache")

    def pause(self) -> None:
        """Give back the memory of weights and cache."""
        self._asked("/sleep?level=2")

    def stats(self) -> Mapping[str, float]:
        """Those of the server's `/metrics` that the engine has, too."""
        text = self.tried("GET", self._at("/metrics"), None, lambda response: response.text)
        found: Counter[str] = Counter()
        for name, value in COUNTER.findall(text):
            if name in TOLD:
                found[TOLD[name]] += float(value)  # type: ignore[assignment]
        return found

    def _body(self, ids: Ids, sampling: Sampling, first: int) -> dict[str, Any]:
        """A request; everything that a generation_config.json may set is set."""
        body = {
            "model": self.name,
            "prompt": list(ids),
            "n": sampling.n,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "stop_token_ids": self._ends,
            "logprobs": 1,
            "return_token_ids": True,
        }
        if sampling.seed is not None:  # one for each time that the prompt is asked
            body["seed"] = int.from_bytes(chance(sampling.seed, ids, first)[:7], "little")
        return body

    def _completions(self, response: httpx.Response, count: int) -> list[Completion] | None:
        """The answers of a response; None where it has others than were asked for."""
        try:
            choices = sorted(response.json()["choices"], key=lambda choice: choice["index"])
            found = [self._completion(choice) for choice in choices]
        except (ValueError, LookupError, TypeError):
            return None
        return found if len(found) == count else None

    def _completion(self, choice: Mapping[str, Any]) -> Completion:
        ids, logprobs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
        finish, ended = choice["finish_reason"], bool(ids) and ids[-1] in self._ends
        if finish not in ("stop", "length") or (finish == "stop" and not ended):
            raise ValueError(finish)
        if max(ids, default=0) >= len(self._tokenizer):
            raise UserError(
                f"{self._knobs.url} answered with the token {max(ids)}; the tokenizer of `start` "
                f"has {len(self._tokenizer):,}. Serve the folder of vllm.folder."
            )
        tokens = [Token(*pair) for pair in zip(ids, map(float, logprobs), strict=True)]
        return Completion(self._tokenizer.decode(ids[:-1] if ended else ids), tokens, finish)

    def _asked(self, path: str, body: object = None, read: Any = None) -> Any:  # noqa: ANN401
        """What a POST gives; UserError where the server refuses it."""
        try:
            return self.tried("POST", self._at(path), body, read or (lambda _: True))
        except Refused as error:
            raise UserError(f"{self._knobs.url}{path} refuses: {error}") from error

    def _at(self, path: str) -> str:
        """A path of the server itself, beside its /v1."""
        return self.base.removesuffix("/v1") + path

    def _refuse_other_words(self) -> None:
        """UserError where the server's tokens are not those of the tokenizer."""
        total = len(self._tokenizer)
        spread = [*range(0, total, max(1, total // PROBED)), total - 1]
        ids = [token for token in spread if REPLACED not in self._tokenizer.decode([token])]
        body = {"model": self.name, "tokens": ids}
        try:
            theirs = self._asked("/detokenize", body, lambda response: response.json()["prompt"])
        except (ValueError, LookupError, TypeError):
            theirs = None
        if theirs != self._tokenizer.decode(ids):
            raise UserError(
                f"{self._knobs.url} serves {self.name}, which has another vocabulary than `start`: "
                "it spells the same ids otherwise.\nServe the folder of vllm.folder, a copy of "
                "`start`."
            )


@contextmanager
def served(knobs: Vllm, start: Path, tokenizer: Tokenizer, dtype: torch.dtype) -> Iterator[Served]:
    """The server, connected.

    start: the model that trains, whose shape the weights have. UserError where nobody answers,
    where the folder is `start` itself or holds no model, or where its vocabulary is another.
    """
    if knobs.folder.resolve() == start.resolve():
        raise UserError(
            f"vllm.folder = {knobs.folder} is `start`, and would be overwritten.\n"
            "Copy it, and serve the copy."
        )
    weights.read_config(knobs.folder)
    # It is the server's from here on, and changes with each step: no seal could hold.
    (knobs.folder / MANIFEST).unlink(missing_ok=True)
    with connected(knobs, knobs.concurrency) as clients:
        yield Served(knobs, clients, weights.read_config(start), tokenizer, dtype)
