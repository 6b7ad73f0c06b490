"""Constrained decoding against unconstrained: what a grammar adds to a step of the engine.

    python -m benchmarks.grammar                      # the 0.5B shape, random weights, bf16
    python -m benchmarks.grammar --size tiny --tokens 64 --write

The engine continues a prompt with and without a grammar, in turns; what counts is wall time a
token. The grammars cannot end within the tokens measured and are compiled before. The vocabulary is
the published one (`--tokenizer`), since the cost of a mask grows with it. Beside it: the time to
compile each grammar, and of a mask and a push alone along what the model says.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from baiwen.engine.engine import Engine
from baiwen.engine.grammar import Grammar
from baiwen.engine.matcher import bias, masks
from baiwen.engine.sampler import Sampling
from baiwen.model.packed import pack
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import Tokenizer
from benchmarks import page
from benchmarks.sides.model import tile
from benchmarks.turns import ROOT, Spent, alternate

MOST = 1.05  # the target: times an unconstrained step
TOKENIZER = ROOT.parent / "shared" / "data" / "tokenizer" / "qwen2.5"
PROMPT = "List some people as JSON."


def main() -> None:
    """Measure, print, and write the page when asked."""
    options = arguments()
    torch.set_num_threads(options.threads)
    tokenizer = Tokenizer.load(options.tokenizer)
    Grammar.json_object(tokenizer)  # llguidance's view of the vocabulary, once a process
    grammars, compiled = {}, {}
    for name, schema in schemas().items():
        began = time.perf_counter()
        grammars[name] = Grammar.json_schema(tokenizer, schema)
        compiled[name] = time.perf_counter() - began
    engine = build(options.size, tokenizer)
    rows, verdicts = [], []
    for sequences in options.sequences:
        steps = measure(engine, grammars, sequences, options)
        for name, (cpu, wall) in steps.items():
            told = f"{name}, {sequences} at once"
            found = f"{wall:.3f}x ({cpu:.3f}x the CPU's seconds)"
            verdicts.append((told, f"<= {MOST}x", found, wall <= MOST))
    for name, grammar in grammars.items():
        spent = alone(engine, grammar, options.tokens)
        rows.append((name, f"{1e3 * compiled[name]:.1f}", f"{1e6 * mean(spent):.0f}",
                     f"{1e6 * max(spent):.0f}"))  # fmt: skip
    head = ("schema", "compile ms", "mask and push us, mean", "max")
    shape = f"{options.size} shape, random bf16 weights, {options.threads} threads"
    body = [f"{shape}; {options.tokens} tokens, {options.rounds} rounds in turn, medians", ""]
    body += [*page.table(head, rows), "", *page.claims(verdicts)]
    page.publish("grammar", "Constrained decoding", body, options.write)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = page.parser(__doc__)
    parser.add_argument("--size", default="0.5b", choices=[*SIZES])
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    if not options.tokenizer.is_dir():
        sys.exit(f"{options.tokenizer}: no such folder; name one with --tokenizer")
    return options


def schemas() -> dict[str, dict[str, Any]]:
    """A small and a large schema, of lists that do not end while they are measured."""
    person = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40, "pattern": "^[A-Z][a-z ]+$"},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "email": {"type": "string", "format": "email"},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
            "born": {"type": "string", "format": "date"},
        },
        "required": ["name", "age", "email", "tags", "born"],
        "additionalProperties": False,
    }
    fields = {f"field_{n}": {"anyOf": [person, {"type": "number"}]} for n in range(60)}
    large = {"type": "object", "properties": fields}
    listed = {"type": "array", "minItems": 1000}
    return {"5 fields": listed | {"items": person}, "60 fields": listed | {"items": large}}


def build(size: str, tokenizer: Tokenizer) -> Engine:
    """The engine on packed random weights."""
    with torch.device("meta"):
        model = Transformer(replace(SIZES[size], vocab_size=-(-len(tokenizer) // 128) * 128))
    model = model.to_empty(device="cpu").bfloat16()
    tile(model)
    pack(model, "bf16")
    return Engine(model, tokenizer, cache_tokens=8192)


def measure(
    engine: Engine, grammars: dict[str, Grammar], sequences: int, options: argparse.Namespace
) -> dict[str, Spent]:
    """What a token costs under each grammar, times what it costs without in the same round."""

    def run(grammar: Grammar | None) -> None:
        sampling = Sampling(max_tokens=options.tokens, stop_ids=(), grammar=grammar, n=sequences)
        done = engine.generate([PROMPT], sampling)
        assert all(len(answer.ids) == options.tokens for answer in done)

    sides: dict[str, Grammar | None] = {"none": None, **grammars}
    run(None)
    spent = alternate({name: lambda g=side: run(g) for name, side in sides.items()}, options.rounds)
    return {name: ratio(spent[name], spent["none"]) for name in grammars}


def ratio(ours: Sequence[Spent], theirs: Sequence[Spent]) -> Spent:
    """The medians of the ratios within the rounds."""
    pairs = list(zip(ours, theirs, strict=True))
    return Spent(median(a.cpu / b.cpu for a, b in pairs), median(a.wall / b.wall for a, b in pairs))


def alone(engine: Engine, grammar: Grammar, tokens: int) -> list[float]:
    """Seconds of mask and push of each token of an answer."""
    ids = engine.generate([PROMPT], Sampling(max_tokens=tokens, grammar=grammar))[0].ids
    matcher, spent = grammar.matcher(), []
    for token in ids:
        logits = torch.zeros(1, len(engine.tokenizer))
        began = time.perf_counter()
        logits += bias(masks([(matcher, ())])[0], logits.shape[1], logits.device)
        matcher.push(token)
        spent.append(time.perf_counter() - began)
    return spent


if __name__ == "__main__":
    main()
