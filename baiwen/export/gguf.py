"""A model folder as one GGUF file, the format of llama.cpp.

    write("runs/tiny/sft", "sft-bf16.gguf", "bf16")

Names, shapes and metadata are those that llama.cpp's own converter writes for `qwen2` and
`qwen2moe` (read in the llama.cpp of llama-cpp-python 0.3.36); the container is the `gguf`
package's. Vectors and routers stay in fp32, as llama.cpp wants them; queries and keys keep their
order, since Qwen2 rotates halves. The file appears whole or not at all, and no more than a tensor
is held at a time (of a mixture of experts: those of one layer, stacked).

What llama.cpp cannot compute is refused: routers that renormalise, layers that mix dense and
sparse. Dual chunk attention is left out, and the context ends where plain attention is exact.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter, LlamaFileType, TokenType
from torch import Tensor

from baiwen import files
from baiwen.errors import UserError
from baiwen.mistakes import nearest
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.tokenizer import template
from baiwen.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Kind:
    """How a type of file stores its matrices."""

    tensors: GGMLQuantizationType
    file: LlamaFileType


KINDS = {
    "f32": Kind(GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "bf16": Kind(GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "f16": Kind(GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": Kind(GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
_DTYPES = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.BF16: torch.bfloat16,
    GGMLQuantizationType.F16: torch.float16,
}


def write(folder: Path | str, out: Path | str, kind: str = "bf16") -> None:
    """Write the model and the tokenizer of an HF folder into the GGUF file `out`.

    kind: a name of KINDS. Raises UserError for a folder that does not load, for a model that
    llama.cpp cannot compute, and where the disk is full or forbids it.
    """
    folder, out = Path(folder), Path(out)
    if kind not in KINDS:
        raise UserError(f"type {kind!r} is none of {', '.join(KINDS)}.{nearest(kind, [*KINDS])}")
    model, _ = weights.examine(folder)
    config, tokenizer = model.config, Tokenizer.load(folder)
    _refuse(config, folder)
    with files.writing(out) as file:
        writer = GGUFWriter(file.name, architecture(config))
        _describe(writer, config, KINDS[kind], out.stem)
        _describe_tokenizer(writer, tokenizer, config, folder)
        for name, parameter in model.state_dict().items():
            for told, tensor in _named(name, parameter, config):
                stored = stored_as(told, tensor.shape, KINDS[kind].tensors)
                size = _bytes(tensor.shape, stored)
                writer.add_tensor_info(told, tensor.shape, np.dtype("float32"), size, stored)
        writer.write_header_to_file(Path(file.name))
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        file.seek(0, 2)
        for told, tensor in tensors(folder, config):
            file.write(b"\0" * (-file.tell() % writer.data_alignment))
            file.write(_encoded(told, tensor, stored_as(told, tensor.shape, KINDS[kind].tensors)))
        file.write(b"\0" * (-file.tell() % writer.data_alignment))


def architecture(config: ModelConfig) -> str:
    """llama.cpp's name of the model's family."""
    return gguf.MODEL_ARCH_NAMES[_architecture(config)]


def tensors(folder: Path, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the file by its name there, as the folder stores it, one at a time."""
    for name, tensor in weights.stream(folder):
        yield from _named(name, tensor, config)


def stored_as(
    name: str, shape: tuple[int, ...], wanted: GGMLQuantizationType
) -> GGMLQuantizationType:
    """How the tensor `name` of the file is stored where matrices are to be `wanted`."""
    if len(shape) == 1 or "ffn_gate_inp" in name:
        return GGMLQuantizationType.F32
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if shape[-1] % block == 0 else GGMLQuantizationType.F16


def metadata(config: ModelConfig) -> dict[str, Any]:
    """What the file says about the model's shape, by the names of llama.cpp without its prefix."""
    values: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": _context(config),
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": config.rope_theta,
    }
    if config.is_moe:
        values |= {
            "expert_count": config.num_experts,
            "expert_used_count": config.num_experts_per_tok,
            "expert_feed_forward_length": config.moe_intermediate_size,
            "expert_shared_feed_forward_length": config.shared_expert_intermediate_size,
        }
    if (yarn := config.rope_scaling) is not None:
        values |= {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": yarn.factor,
            "rope.scaling.original_context_length": yarn.original_max_position_embeddings,
            "rope.scaling.yarn_beta_fast": yarn.beta_fast,
            "rope.scaling.yarn_beta_slow": yarn.beta_slow,
        }
        if yarn.attention_factor is not None:  # llama.cpp multiplies it with the usual one
            usual = 0.1 * math.log(yarn.factor) + 1
            values["rope.scaling.attn_factor"] = yarn.attention_factor / usual
    return values


def _architecture(config: ModelConfig) -> gguf.MODEL_ARCH:
    return gguf.MODEL_ARCH.QWEN2MOE if config.is_moe else gguf.MODEL_ARCH.QWEN2


def _context(config: ModelConfig) -> int:
    """The longest input in tokens that llama.cpp computes as the model was meant."""
    longest = config.max_position_embeddings
    if (yarn := config.rope_scaling) is not None:
        longest = max(longest, int(yarn.factor * yarn.original_max_position_embeddings))
    chunks = config.dual_chunk_attention_config  # which llama.cpp does not have
    return min(longest, chunks.plain) if chunks else longest


def _refuse(config: ModelConfig, folder: Path) -> None:
    if config.is_moe and config.norm_topk_prob:
        raise UserError(f"{folder}: llama.cpp does not renormalise routers (norm_topk_prob)")
    if config.is_moe and not all(map(config.sparse, range(config.num_hidden_layers))):
        raise UserError(
            f"{folder}: llama.cpp knows no dense layers in a mixture of experts "
            "(decoder_sparse_step, mlp_only_layers)"
        )


def _named(name: str, tensor: Tensor, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """A parameter by its name in the file; the tied head of a mixture is written out."""
    base, dot, suffix = name.rpartition(".")
    if suffix not in ("weight", "bias"):  # stacked experts have none
        base, dot, suffix = name, ".", "weight"
    told = _names(_architecture(config), config.num_hidden_layers).get_name(base)
    assert told is not None, f"{name} has no name in GGUF"
    yield f"{told}{dot}{suffix}", tensor.squeeze(0) if "shared_expert_gate" in name else tensor
    if name == weights.EMBEDDING and config.is_moe and config.tie_word_embeddings:
        yield "output.weight", tensor


@cache
def _names(family: gguf.MODEL_ARCH, layers: int) -> gguf.TensorNameMap:
    return gguf.get_tensor_name_map(family, layers)


def _bytes(shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return math.prod(shape) // block * size


def _encoded(name: str, tensor: Tensor, kind: GGMLQuantizationType) -> memoryview:
    """The bytes of a tensor in the file."""
    if kind not in _DTYPES:
        return gguf.quantize(tensor.float().numpy(), kind).data
    cast = tensor.to(_DTYPES[kind])
    if kind == GGMLQuantizationType.F16 and not cast.isfinite().all():
        raise UserError(f"{name} has values beyond those of f16; choose bf16, f32 or q8_0")
    return cast.contiguous().view(torch.uint8).numpy().data


def _describe(writer: GGUFWriter, config: ModelConfig, kind: Kind, name: str) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(kind.file)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    types = {int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32, str: GGUFValueType.STRING}
    for key, value in metadata(config).items():
        writer.add_key_value(f"{architecture(config)}.{key}", value, types[type(value)])


def _describe_tokenizer(
    writer: GGUFWriter, tokenizer: Tokenizer, config: ModelConfig, folder: Path
) -> None:
    vocabulary = tokenizer.vocabulary
    names = [name for name, _ in vocabulary.control]
    padding = range(len(tokenizer), config.vocab_size)
    writer.add_tokenizer_model("gpt2")  # byte-level BPE
    writer.add_tokenizer_pre("qwen2")  # how Qwen2 cuts text into words
    writer.add_token_list([*vocabulary.tokens, *names, *(f"[PAD{row}]" for row in padding)])
    writer.add_token_types(
        [TokenType.NORMAL] * len(vocabulary.tokens)
        + [_control_type(name, special) for name, special in vocabulary.control]
        + [TokenType.UNUSED] * len(padding)
    )
    writer.add_token_merges([f"{left} {right}" for left, right in vocabulary.merges])
    ends = config.eos_token_id
    end = ends[0] if isinstance(ends, tuple) else ends
    writer.add_eos_token_id(tokenizer.end_of_turn if end is None else end)
    writer.add_pad_token_id(tokenizer.end_of_text)
    writer.add_bos_token_id(tokenizer.end_of_text)  # without one, llama.cpp takes the id 11
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(_chat_template(folder))


def _control_type(name: str, special: bool) -> TokenType:
    """llama.cpp shows a user-defined token in text, and hides a control token."""
    hidden = special or (name.startswith("<|") and name.endswith("|>"))
    return TokenType.CONTROL if hidden else TokenType.USER_DEFINED


def _chat_template(folder: Path) -> str:
    """The folder's own chat template; ours where it has none."""
    path = folder / "tokenizer_config.json"
    described = files.read_json(path) if path.is_file() else {}
    own = described.get("chat_template")
    return own if isinstance(own, str) and own else template.TEXT
