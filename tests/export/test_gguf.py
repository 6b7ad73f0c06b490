"""GGUF files against their reader, what llama.cpp asks for, and transformers' own loader."""

import json
import os
import resource
import tracemalloc
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gguf as library
import numpy as np
import pytest
import torch
from gguf import GGUFReader

from baiwen import cli
from baiwen.errors import UserError
from baiwen.export import gguf
from baiwen.export.compare import compare
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.model.positions import Yarn
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import Tokenizer, bpe, template

DENSE = ModelConfig(
    vocab_size=340, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2,
    tie_word_embeddings=True, torch_dtype="float32",
)  # fmt: skip
MIXTURE = replace(
    DENSE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
    shared_expert_intermediate_size=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return bpe.train(["hello world this is a text 1 + 1 = 2", "the quick brown fox 你好"] * 9, 290)


@pytest.fixture(scope="module")
def make(tokenizer, tmp_path_factory):
    """Makes a folder of random weights, biases and norms included."""

    def made(config: ModelConfig, dtype: torch.dtype = torch.float32) -> Path:
        folder = tmp_path_factory.mktemp("model")
        model = Transformer(replace(config, eos_token_id=tokenizer.end_of_turn))
        model.init_weights(0)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        weights.save(model.state_dict(), model.config, folder, dtype=dtype)
        tokenizer.save(folder)
        return folder

    return made


@pytest.fixture(scope="module")
def dense(make) -> Path:
    return make(DENSE)


def read(path: Path) -> tuple[dict, dict]:
    reader = GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, {tensor.name: tensor for tensor in reader.tensors}


def values(tensor) -> np.ndarray:
    return library.dequantize(tensor.data, tensor.tensor_type)


def test_fp32_holds_every_tensor_bit_for_bit(dense, tmp_path):
    gguf.write(dense, tmp_path / "a.gguf", "f32")
    _, tensors = read(tmp_path / "a.gguf")
    state = weights.load(dense).state_dict()
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    parts = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
             "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
             "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down"}  # fmt: skip
    for layer in range(2):
        names |= {
            f"model.layers.{layer}.{ours}": f"blk.{layer}.{its}" for ours, its in parts.items()
        }
    assert len(tensors) == len(state)
    for name, parameter in state.items():
        base, _, suffix = name.rpartition(".")
        tensor = tensors[f"{names[base]}.{suffix}"]
        assert tensor.shape.tolist() == [*parameter.shape][::-1]  # llama.cpp's order of dimensions
        assert np.array_equal(values(tensor), parameter.numpy())


@pytest.mark.parametrize(("kind", "share"), [("bf16", 2**-8), ("f16", 2**-11), ("q8_0", 0.0045)])
def test_smaller_types_are_within_their_rounding(dense, tmp_path, kind, share):
    gguf.write(dense, tmp_path / "a.gguf", kind)
    fields, tensors = read(tmp_path / "a.gguf")
    for name, tensor in gguf.tensors(dense, DENSE):
        wanted, found = tensor.numpy(), values(tensors[name])
        assert np.abs(wanted - found).max() <= (
            0 if tensor.ndim == 1 else share * np.abs(wanted).max()
        )
    assert tensors["token_embd.weight"].tensor_type.name == kind.upper()
    assert fields["general.file_type"] == gguf.KINDS[kind].file


def test_a_bf16_folder_keeps_its_bits_in_a_bf16_file(make, tmp_path):
    folder = make(DENSE, torch.bfloat16)
    gguf.write(folder, tmp_path / "a.gguf", "bf16")
    _, tensors = read(tmp_path / "a.gguf")
    for name, tensor in gguf.tensors(folder, DENSE):
        assert np.array_equal(values(tensors[name]), tensor.float().numpy())


def test_rows_that_q8_0_cannot_cut_are_f16(make, tmp_path):
    folder = make(replace(DENSE, intermediate_size=40))
    gguf.write(folder, tmp_path / "a.gguf", "q8_0")
    _, tensors = read(tmp_path / "a.gguf")
    assert tensors["blk.0.ffn_down.weight"].tensor_type.name == "F16"
    assert tensors["blk.0.ffn_up.weight"].tensor_type.name == "Q8_0"


def test_metadata_is_what_llama_cpp_asks_of_qwen2(dense, tokenizer, tmp_path):
    gguf.write(dense, tmp_path / "mine.gguf")
    fields, _ = read(tmp_path / "mine.gguf")
    wanted = {
        "general.architecture": "qwen2", "general.type": "model", "general.name": "mine",
        "general.file_type": 32, "qwen2.context_length": 32768, "qwen2.embedding_length": 64,
        "qwen2.block_count": 2, "qwen2.feed_forward_length": 96, "qwen2.attention.head_count": 4,
        "qwen2.attention.head_count_kv": 2, "qwen2.rope.freq_base": 1e6, "qwen2.vocab_size": 340,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.eos_token_id": tokenizer.end_of_turn,
        "tokenizer.ggml.padding_token_id": tokenizer.end_of_text,
        "tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": template.TEXT,
    }  # fmt: skip
    assert {key: fields[key] for key in wanted} == wanted
    assert fields["qwen2.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert not any(key.startswith("qwen2.rope.scaling") for key in fields)
    merges = [f"{left} {right}" for left, right in tokenizer.vocabulary.merges]
    assert fields["tokenizer.ggml.merges"] == merges


def test_tokens_have_llama_cpp_s_types(dense, tokenizer, tmp_path):
    gguf.write(dense, tmp_path / "a.gguf")
    fields, _ = read(tmp_path / "a.gguf")
    kinds = dict(
        zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"], strict=True)
    )
    assert len(kinds) == 340
    normal, control, user_defined, unused = 1, 3, 4, 5
    assert kinds["Ġ"] == normal
    assert kinds["<|im_end|>"] == kinds["<|fim_prefix|>"] == control
    assert kinds["<tool_call>"] == user_defined
    assert kinds["[PAD339]"] == unused


def test_yarn_is_told_in_llama_cpp_s_words(make, tmp_path):
    yarn = Yarn(4.0, 1024, attention_factor=1.5)
    folder = make(replace(DENSE, rope_scaling=yarn, max_position_embeddings=1024))
    gguf.write(folder, tmp_path / "a.gguf")
    fields, _ = read(tmp_path / "a.gguf")
    told = {key.removeprefix("qwen2.rope.scaling."): value for key, value in fields.items()
            if "rope.scaling" in key}  # fmt: skip
    factor = told.pop("attn_factor") * (0.1 * np.log(4) + 1)  # llama.cpp multiplies the two
    assert factor == pytest.approx(1.5)
    assert told == {"type": "yarn", "factor": 4, "original_context_length": 1024,
                    "yarn_beta_fast": 32, "yarn_beta_slow": 1}  # fmt: skip
    assert fields["qwen2.context_length"] == 4096


def test_an_untied_head_is_written(make, tmp_path):
    folder = make(replace(DENSE, tie_word_embeddings=False))
    gguf.write(folder, tmp_path / "a.gguf", "f32")
    _, tensors = read(tmp_path / "a.gguf")
    head = weights.load(folder).state_dict()["lm_head.weight"]
    assert np.array_equal(values(tensors["output.weight"]), head.numpy())


def test_experts_are_stacked_and_routers_stay_in_fp32(make, tmp_path):
    folder = make(MIXTURE)
    gguf.write(folder, tmp_path / "a.gguf", "q8_0")
    fields, tensors = read(tmp_path / "a.gguf")
    state = weights.load(folder).state_dict()
    assert fields["general.architecture"] == "qwen2moe"
    assert fields["qwen2moe.expert_count"] == 4
    assert fields["qwen2moe.expert_used_count"] == 2
    assert fields["qwen2moe.expert_shared_feed_forward_length"] == 64
    assert tensors["blk.1.ffn_up_exps.weight"].shape.tolist() == [64, 32, 4]
    gate = values(tensors["blk.1.ffn_gate_inp.weight"])
    assert np.array_equal(gate, state["model.layers.1.mlp.gate.weight"].numpy())
    assert tensors["blk.1.ffn_gate_inp_shexp.weight"].shape.tolist() == [64]
    assert "output.weight" in tensors  # llama.cpp knows no tied head of a mixture


@pytest.mark.parametrize(
    "changes", [{"norm_topk_prob": True}, {"decoder_sparse_step": 2}, {"mlp_only_layers": (0,)}]
)
def test_a_mixture_that_llama_cpp_cannot_compute_is_refused(make, tmp_path, changes):
    with pytest.raises(UserError, match=next(iter(changes))):
        gguf.write(make(replace(MIXTURE, **changes)), tmp_path / "a.gguf")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow  # transformers takes ten seconds to import
@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_transformers_reads_the_same_logits_from_the_file(dense, tmp_path, kind):
    pytest.importorskip("accelerate", reason="transformers reads GGUF only beside it")
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    gguf.write(dense, tmp_path / "a.gguf", kind)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="a.gguf", dtype=torch.float32)
    ids = torch.arange(300)[None]
    with torch.no_grad():
        wanted, found = weights.load(dense).logits(ids), theirs(ids).logits
    assert (wanted - found).std() <= (1e-5 if kind == "f32" else 0.05) * wanted.std()
    cut = AutoTokenizer.from_pretrained(tmp_path, gguf_file="a.gguf")
    text = "hello world 12 你好\n"
    assert cut.encode(text) == Tokenizer.load(dense).encode(text)


@pytest.mark.slow
def test_check_finds_a_good_file_good_and_asks_the_readers(dense, tmp_path):
    pytest.importorskip("accelerate", reason="transformers reads GGUF only beside it")
    gguf.write(dense, tmp_path / "a.gguf", "f32")
    findings = {finding.what: finding for finding in compare(dense, tmp_path / "a.gguf")}
    assert {finding.state for finding in findings.values()} <= {"ok", "note"}
    assert "greedy text equal for 16 of 16 tokens" in findings["transformers"].told


def test_check_finds_what_differs(make, tmp_path):
    folder = make(MIXTURE)
    path = tmp_path / "a.gguf"
    gguf.write(folder, path, "q8_0")
    assert all(finding.state != "fault" for finding in compare(folder, path))
    with path.open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"\x7f" * 40)
    assert {finding.what for finding in compare(folder, path) if finding.state == "fault"} == {
        "tensors"
    }
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rope_theta": 5.0}))
    assert "metadata" in {
        finding.what for finding in compare(folder, path) if finding.state == "fault"
    }


def test_memory_is_that_of_a_tensor(make, tmp_path):
    folder = make(replace(DENSE, num_hidden_layers=24, intermediate_size=2048))
    gguf.write(folder, tmp_path / "a.gguf", "q8_0")  # what is made once for all files is made
    tracemalloc.start()
    gguf.write(folder, tmp_path / "a.gguf", "q8_0")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "a.gguf").stat().st_size > 10_000_000
    assert peak < 5_000_000


def test_a_full_disk_leaves_nothing(dense, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        with pytest.raises(UserError, match="size limit"):
            gguf.write(dense, tmp_path / "a.gguf", "f32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not any(tmp_path.iterdir())


def test_a_failed_export_keeps_the_old_file(make, tmp_path):
    folder = make(DENSE)
    (tmp_path / "a.gguf").write_text("old")
    shard = folder / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4] + np.float32(np.nan).tobytes())
    with pytest.raises(UserError, match="NaN"):
        gguf.write(folder, tmp_path / "a.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]
    assert (tmp_path / "a.gguf").read_text() == "old"


def test_mistakes_are_told(dense, tmp_path, capsys):
    with pytest.raises(
        UserError, match=r"'q8' is none of f32, bf16, f16, q8_0\. Did you mean q8_0"
    ):
        gguf.write(dense, tmp_path / "a.gguf", "q8")
    out = str(tmp_path / "a.gguf")
    assert cli.main(["export", str(tmp_path / "none"), "--gguf", out]) == 2
    assert cli.main(["export", str(tmp_path), "--gguf", out]) == 2
    assert "no config.json" in capsys.readouterr().err
    (tmp_path / "bad.gguf").write_bytes(b"GGUF?")
    with pytest.raises(UserError, match="not a GGUF file"):
        next(compare(dense, tmp_path / "bad.gguf"))


def test_the_command_writes_the_file(dense, tmp_path, capsys):
    assert (
        cli.main(["export", str(dense), "--gguf", str(tmp_path / "a.gguf"), "--type", "f16"]) == 0
    )
    assert "a.gguf: f16, 0.2 MB" in capsys.readouterr().out
    assert read(tmp_path / "a.gguf")[0]["general.file_type"] == 1
