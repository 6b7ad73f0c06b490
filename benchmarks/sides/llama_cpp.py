"""A side: llama.cpp through llama-cpp-python, on a GGUF file that it makes of random weights.

It runs in an environment that has `llama-cpp-python` and `gguf`, and need not have PyTorch.
"""

import ctypes
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np

from benchmarks.sides.serving import EPS, THETA, Clock, requests, shape, take_turns
from benchmarks.turns import Figures

SEQUENCES, CONTEXT = 8, 16384


def main(settings: dict[str, Any]) -> None:
    """A work whenever it is told."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write(path, settings)
        context = load(path, settings["threads"])
    vocabulary = shape(settings)["vocab_size"]
    take_turns(settings, lambda work: run(context, work, settings, vocabulary))


def write(path: Path, settings: Figures) -> None:
    """The model's file, all matrices in the one format, the table too."""
    model = shape(settings)
    writer = gguf.GGUFWriter(str(path), "qwen2")
    writer.add_context_length(model["max_position_embeddings"])
    writer.add_embedding_length(model["hidden_size"])
    writer.add_block_count(model["num_hidden_layers"])
    writer.add_feed_forward_length(model["intermediate_size"])
    writer.add_head_count(model["num_attention_heads"])
    writer.add_head_count_kv(model["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_freq_base(THETA)
    writer.add_vocab_size(model["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    kind = gguf.GGMLQuantizationType[settings["weights"]]
    for name, size in tensors(model):
        if len(size) == 1:
            writer.add_tensor(name, np.full(size, float("norm" in name), np.float32))
        else:
            values = np.resize(drawn(), size)
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(model: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, as llama.cpp calls them."""
    hidden, wide = model["hidden_size"], model["intermediate_size"]
    keys = hidden // model["num_attention_heads"] * model["num_key_value_heads"]
    yield "token_embd.weight", (model["vocab_size"], hidden)
    yield "output_norm.weight", (hidden,)
    for layer in range(model["num_hidden_layers"]):
        for name, outputs in (("q", hidden), ("k", keys), ("v", keys)):
            yield f"blk.{layer}.attn_{name}.weight", (outputs, hidden)
            yield f"blk.{layer}.attn_{name}.bias", (outputs,)
        yield f"blk.{layer}.attn_output.weight", (hidden, hidden)
        yield f"blk.{layer}.attn_norm.weight", (hidden,)
        yield f"blk.{layer}.ffn_norm.weight", (hidden,)
        yield f"blk.{layer}.ffn_gate.weight", (wide, hidden)
        yield f"blk.{layer}.ffn_up.weight", (wide, hidden)
        yield f"blk.{layer}.ffn_down.weight", (hidden, wide)


def drawn() -> np.ndarray:
    """A million numbers from N(0, 0.02), and three more, so that rows of a matrix differ."""
    return np.random.default_rng(0).normal(0, 0.02, 2**20 + 3).astype(np.float32)


def load(path: Path, threads: int) -> Any:
    """A context with room for all sequences."""
    given = llama_cpp.llama_model_default_params()
    given.use_mmap = False
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), given)
    asked = llama_cpp.llama_context_default_params()
    asked.n_ctx, asked.n_seq_max, asked.n_batch = CONTEXT, SEQUENCES, CONTEXT
    asked.n_threads = asked.n_threads_batch = threads
    asked.kv_unified = True
    return llama_cpp.llama_init_from_model(model, asked)


def run(context: Any, work: str, settings: Figures, vocabulary: int) -> Figures:
    """Prompts in one batch, then a token of each sequence a step, the likeliest."""
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    asked = requests(work, settings)
    clock = Clock(work, asked)
    rows = [(row, list(enumerate(request.prompt))) for row, request in enumerate(asked)]
    for step in range(asked[0].tokens):
        chosen = decode(context, rows, vocabulary)
        clock.tick(len(asked), len(asked))
        rows = [
            (row, [(len(request.prompt) + step, token)])
            for row, (request, token) in enumerate(zip(asked, chosen, strict=True))
        ]
    return clock.figures()


def decode(
    context: Any, rows: list[tuple[int, list[tuple[int, int]]]], vocabulary: int
) -> list[int]:
    """The likeliest token after each row of (position, token)."""
    count = sum(len(tokens) for _, tokens in rows)
    batch = llama_cpp.llama_batch_init(count, 0, 1)
    batch.n_tokens, place, lasts = count, 0, []
    for row, tokens in rows:
        for position, token in tokens:
            batch.token[place], batch.pos[place] = token, position
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
            batch.logits[place] = position == tokens[-1][0]
            place += 1
        lasts.append(place - 1)
    if llama_cpp.llama_decode(context, batch):
        sys.exit("llama_decode failed")
    chosen = []
    for last in lasts:
        logits = llama_cpp.llama_get_logits_ith(context, last)
        array = np.ctypeslib.as_array(
            ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (vocabulary,)
        )
        chosen.append(int(array.argmax()))
    llama_cpp.llama_batch_free(batch)
    return chosen


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
