"""An exported file against the folder it came from: tensors, tokenizer, and what others compute.

    for finding in compare("runs/tiny/sft", "sft-q8_0.gguf"):
        print(finding.state, finding.what, finding.told)      # ok, note or fault

Readers are asked where they are installed: transformers (which reads GGUF) and llama.cpp (by
llama-cpp-python). Each computes the logits of one text, and continues it greedily, from the file;
Baiwen does the same in fp32 from the folder. Divergences are Kullback-Leibler, in nats a token.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, ReaderTensor
from torch import Tensor

from baiwen.errors import UserError
from baiwen.export.gguf import metadata, tensors
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer
from baiwen.tokenizer.tokenizer import Tokenizer

TEXT = "The capital of France is Paris, and 12 + 30 = 42. 你好，世界！\ndef f(x):\n    return x"
LONGEST, GREEDY = 64, 16  # tokens of the text that are read, and that are added
# How far a stored value x may lie from the one in the folder, as a share of |x|; of q8_0, of the
# largest |x| of its 32: half a step of 1/127, and the rounding of the step to f16.
ROUNDING = {
    GGMLQuantizationType.F32: 0.0,
    GGMLQuantizationType.BF16: 2**-8,
    GGMLQuantizationType.F16: 2**-11,
    GGMLQuantizationType.Q8_0: 0.5 / 127 + 2**-11,
}
SMALLEST = 2**-25  # half of the smallest step of f16, which is also q8_0's step
# The most that a reader's predictions may diverge: llama.cpp keeps its cache in 16 bits, rounds
# activations to the 16 bits of the weights, and computes with 8 bits from q8_0.
DIVERGENCE = {"F32": 1e-4, "BF16": 1e-2, "F16": 1e-2, "Q8_0": 5e-2}

Logits = Callable[[list[int]], Tensor]  # ids [T] -> fp32 logits [T, V]


@dataclass(frozen=True)
class Finding:
    """What one comparison found."""

    state: Literal["ok", "note", "fault"]
    what: str
    told: str


def compare(folder: Path | str, path: Path | str) -> Iterator[Finding]:
    """The findings about the file `path`, made of `folder`; UserError where it cannot be read."""
    folder, path = Path(folder), Path(path)
    try:
        reader = GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path}: not a GGUF file that can be read ({error})") from error
    config, tokenizer = weights.read_config(folder), Tokenizer.load(folder)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    yield _metadata(reader, config)
    yield _tokenizer(reader, tokenizer)
    yield _tensors(stored, folder, config)
    model = weights.load(folder, dtype=torch.float32).eval()
    ids = tokenizer.encode(TEXT)[:LONGEST]
    kind = stored["token_embd.weight"].tensor_type.name
    for name, (needed, load) in READERS.items():
        absent = [module for module in (name, *needed) if importlib.util.find_spec(module) is None]
        if absent:
            yield Finding("note", name, f"is not asked: {', '.join(absent)} is not installed")
        elif name == "transformers" and (config.is_moe or config.rope_scaling):
            yield Finding("note", name, "reads neither YaRN nor every size of experts from GGUF")
        else:
            try:
                yield _reader(name, load(path), model, ids, tokenizer, DIVERGENCE[kind])
            except Exception as error:  # whatever another program raises is what it says
                yield Finding("fault", name, f"cannot read it: {error!r}")


def _metadata(reader: GGUFReader, config: ModelConfig) -> Finding:
    prefix = reader.fields["general.architecture"].contents()
    wrong = []
    for key, value in metadata(config).items():
        field = reader.fields.get(f"{prefix}.{key}")
        found = None if field is None else field.contents()
        same = math.isclose(found, value, rel_tol=1e-6) if isinstance(found, float) else False
        if not same and found != value:
            wrong.append(f"{key} = {found!r}, not {value!r}")
    if wrong:
        return Finding("fault", "metadata", "; ".join(wrong))
    return Finding("ok", "metadata", f"{prefix}, {len(metadata(config))} values as in config.json")


def _tokenizer(reader: GGUFReader, tokenizer: Tokenizer) -> Finding:
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()[: len(tokenizer)]
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    vocabulary = tokenizer.vocabulary
    names = [*vocabulary.tokens, *vocabulary.control_ids]
    if tokens != names or merges != [f"{left} {right}" for left, right in vocabulary.merges]:
        return Finding("fault", "tokenizer", "tokens or merges differ from the folder's")
    return Finding("ok", "tokenizer", f"{len(tokens):,} tokens and {len(merges):,} merges equal")


def _tensors(stored: dict[str, ReaderTensor], folder: Path, config: ModelConfig) -> Finding:
    worst, missing = 0.0, set(stored)
    for name, tensor in tensors(folder, config):
        if name not in stored:
            return Finding("fault", "tensors", f"{name} is missing")
        missing.discard(name)
        read = gguf.dequantize(stored[name].data, stored[name].tensor_type)
        error, excess = _error(tensor.float().numpy(), read, stored[name].tensor_type)
        if excess:
            return Finding("fault", "tensors", f"{name} differs by up to {error:.3g}")
        worst = max(worst, error)
    if missing:
        return Finding("fault", "tensors", f"the folder has no {', '.join(sorted(missing))}")
    told = "equal" if worst == 0 else f"within the rounding of their type, at most {worst:.3g} off"
    return Finding("ok", "tensors", f"{len(stored)} {told}")


def _error(wanted: np.ndarray, found: np.ndarray, kind: GGMLQuantizationType) -> tuple[float, bool]:
    """The largest difference, and whether one is more than the rounding of the type."""
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    size = np.abs(wanted.reshape(-1, block)).max(axis=1, keepdims=True)  # [blocks, 1]
    off = np.abs(wanted.reshape(-1, block) - found.reshape(-1, block))
    floor = 0.0 if kind == GGMLQuantizationType.F32 else SMALLEST * 127
    return float(off.max()), bool((off > ROUNDING[kind] * size + floor).any())


def _reader(
    name: str, logits: Logits, model: Transformer, ids: list[int], tokenizer: Tokenizer, most: float
) -> Finding:
    """What another program computes from the file, beside what Baiwen does from the folder."""

    def ours(ids: list[int]) -> Tensor:
        with torch.no_grad():
            return model.logits(torch.tensor([ids]))[0]

    here, there = ours(ids).log_softmax(-1), logits(ids).log_softmax(-1)  # [T, V]
    divergence = (here.exp() * (here - there)).sum(-1).mean().item()
    said, heard = (_greedy(source, ids, len(tokenizer)) for source in (ours, logits))
    same = next((at for at in range(GREEDY) if said[at] != heard[at]), GREEDY)
    told = (
        f"predictions diverge by {max(divergence, 0):.2g} nats a token; greedy text equal for "
        f"{same} of {GREEDY} tokens: {tokenizer.decode(heard)!r:.60}"
    )
    return Finding("ok" if divergence <= most else "fault", name, told)


def _greedy(logits: Logits, ids: list[int], tokens: int) -> list[int]:
    found: list[int] = []
    for _ in range(GREEDY):
        found.append(int(logits([*ids, *found])[-1, :tokens].argmax()))
    return found


def _transformers(path: Path) -> Logits:
    library = importlib.import_module("transformers")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    model = library.AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, dtype=torch.float32, local_files_only=True
    ).eval()

    def logits(ids: list[int]) -> Tensor:
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0]

    return logits


def _llama_cpp(path: Path) -> Logits:
    library = importlib.import_module("llama_cpp")
    model = library.Llama(str(path), n_ctx=LONGEST + GREEDY, logits_all=True, verbose=False)

    def logits(ids: list[int]) -> Tensor:
        model.reset()
        model.eval(ids)
        return torch.from_numpy(model.scores[: len(ids)].copy())

    return logits


# By the name of the module: the other modules it needs for GGUF, and how to load a file.
READERS: dict[str, tuple[tuple[str, ...], Callable[[Path], Logits]]] = {
    "transformers": (("accelerate",), _transformers),
    "llama_cpp": ((), _llama_cpp),
}
