"""HF folders: what is written comes back, and what is damaged or foreign is refused."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from baiwen import files
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.config import ModelConfig
from baiwen.model.transformer import Transformer

DENSE = ModelConfig(
    vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1,
)  # fmt: skip
MOE = replace(
    DENSE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8,
    shared_expert_intermediate_size=16, tie_word_embeddings=True,
)  # fmt: skip
NORM = "model.norm.weight"


def build(config: ModelConfig, dtype=torch.float32) -> Transformer:
    model = Transformer(config)
    model.init_weights(0)
    return model.to(dtype)


@pytest.fixture
def folder(tmp_path):
    """A sound dense model in three shards."""
    weights.save(build(DENSE).state_dict(), DENSE, tmp_path, shard_bytes=10_000)
    return tmp_path


@pytest.mark.parametrize("shard_bytes", [4_000, 5_000_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", [DENSE, MOE])
def test_what_is_saved_is_what_is_loaded(tmp_path, config, dtype, shard_bytes):
    model = build(config, dtype)
    weights.save(model.state_dict(), config, tmp_path, shard_bytes=shard_bytes)
    loaded = weights.load(tmp_path)
    assert loaded.config == replace(config, torch_dtype=str(dtype).removeprefix("torch."))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
        assert loaded.state_dict()[name].dtype == dtype
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_loading_and_saving_convert_the_dtype(tmp_path):
    model = build(MOE)
    weights.save(model.state_dict(), MOE, tmp_path, dtype=torch.bfloat16)
    loaded = weights.load(tmp_path, dtype=torch.float32).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor.bfloat16().float())


def test_shards_keep_their_size_and_the_index_names_each_tensor(folder):
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 1 and all(shard.stat().st_size < 12_000 for shard in shards)
    assert shards[0].name == f"model-00001-of-{len(shards):05}.safetensors"
    assert index["metadata"]["total_size"] == 4 * sum(p.numel() for p in build(DENSE).parameters())
    for name, shard in index["weight_map"].items():
        assert name in load_file(folder / shard)


def test_saving_again_leaves_no_shard_of_before(folder):
    weights.save(build(DENSE).state_dict(), DENSE, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    weights.load(folder)


def test_views_and_shared_storage_are_written_whole(tmp_path):
    state = dict(build(DENSE).state_dict())
    table = torch.randn(64, 32)
    state["model.embed_tokens.weight"] = table[:, ::2]  # not contiguous
    state["lm_head.weight"] = table[:, :16]  # shares its storage
    weights.save(state, DENSE, tmp_path)
    loaded = weights.load(tmp_path)
    assert torch.equal(loaded.model.embed_tokens.weight, table[:, ::2])
    assert torch.equal(loaded.lm_head.weight, table[:, :16])


def test_loading_maps_the_file_instead_of_copying_it(folder):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc/self/maps")
    loaded = weights.load(folder)
    assert str(folder) in maps.read_text()
    with torch.no_grad():  # private to this process: training does not change the file
        loaded.model.norm.weight.add_(1)
    assert torch.equal(weights.load(folder).model.norm.weight, torch.ones(16))


def test_a_tied_head_that_equals_the_embedding_is_accepted_and_another_refused(tmp_path):
    config = replace(DENSE, tie_word_embeddings=True)
    state = dict(build(config).state_dict())
    weights.save(state, config, tmp_path)
    embedding = state["model.embed_tokens.weight"]
    save_file(state | {"lm_head.weight": embedding.clone()}, tmp_path / "model.safetensors")
    assert torch.equal(weights.load(tmp_path).model.embed_tokens.weight, embedding)
    save_file(state | {"lm_head.weight": embedding + 1}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="ties the head"):
        weights.load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_written(tmp_path, value):
    state = dict(build(DENSE).state_dict())
    state[NORM] = torch.full((16,), value)
    with pytest.raises(UserError, match="NaN or infinite"):
        weights.save(state, DENSE, tmp_path)
    assert not list(tmp_path.iterdir())


def holder(folder, name=NORM):
    """The file that holds a tensor, and its tensors."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    path = folder / index["weight_map"][name]
    return path, load_file(path)


def reindex(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


def reheader(path, change):
    """Rewrite the JSON header of a safetensors file, which `change` gets as text."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = change(raw[8 : 8 + length].decode()).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length :])


def truncate(folder):
    path, _ = holder(folder)
    path.write_bytes(path.read_bytes()[:-10])


def cut_header(folder):
    path, _ = holder(folder)
    path.write_bytes(path.read_bytes()[:20])


def empty_file(folder):
    holder(folder)[0].write_bytes(b"")


def trailing_bytes(folder):
    path, _ = holder(folder)
    path.write_bytes(path.read_bytes() + b"more")


def garbled_header(folder):
    reheader(holder(folder)[0], lambda text: text.replace(":", ";", 1))


def listed_dtype(folder):
    reheader(holder(folder)[0], lambda text: text.replace('"F32"', '["F32"]', 1))


def foreign_metadata(folder):
    path, _ = holder(folder)
    reheader(path, lambda text: text.replace('{"format": "pt"}', '{"format": 1}', 1))


def flipped_bit(folder):
    files.seal(folder)
    path, _ = holder(folder)
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 4
    path.write_bytes(raw)


def nan_weight(folder):
    path, tensors = holder(folder)
    tensors[NORM][3] = float("nan")
    save_file(tensors, path)


def infinite_weight(folder):
    path, tensors = holder(folder)
    tensors[NORM][3] = float("-inf")
    save_file(tensors, path)


def missing_tensor(folder):
    path, tensors = holder(folder)
    del tensors[NORM]
    save_file(tensors, path)
    reindex(folder, lambda names: names.pop(NORM))


def missing_from_shard(folder):
    path, tensors = holder(folder)
    del tensors[NORM]
    save_file(tensors, path)


def unexpected_tensor(folder):
    path, tensors = holder(folder)
    save_file(tensors | {"model.extra.weight": torch.ones(2)}, path)
    reindex(folder, lambda names: names.update({"model.extra.weight": path.name}))


def unlisted_tensor(folder):
    path, tensors = holder(folder)
    save_file(tensors | {"model.extra.weight": torch.ones(2)}, path)


def wrong_shape(folder):
    path, tensors = holder(folder)
    save_file(tensors | {NORM: torch.ones(8)}, path)


def foreign_dtype(folder):
    path, tensors = holder(folder)
    save_file(tensors | {NORM: torch.ones(16, dtype=torch.int8)}, path)


def mixed_dtypes(folder):
    path, tensors = holder(folder)
    save_file(tensors | {NORM: torch.ones(16, dtype=torch.float16)}, path)


def parent_path(folder):
    reindex(folder, lambda names: names.update({NORM: "../model.safetensors"}))


def absolute_path(folder):
    reindex(folder, lambda names: names.update({NORM: str(holder(folder)[0])}))


def name_with_a_zero_byte(folder):
    reindex(folder, lambda names: names.update({NORM: "model\0.safetensors"}))


def link_outside(folder):
    path, _ = holder(folder)
    target = folder.parent / f"{folder.name}-outside.safetensors"
    path.rename(target)
    path.symlink_to(target)


def missing_shard(folder):
    holder(folder)[0].unlink()


def double_name_in_header(folder):
    path, _ = holder(folder)
    reheader(path, lambda text: text[:-1].rstrip().rstrip("}") + "}," + text[1:].strip())


def double_name_across_shards(folder):
    path, tensors = holder(folder)
    other = next(shard for shard in sorted(folder.glob("*.safetensors")) if shard != path)
    save_file(load_file(other) | {NORM: tensors[NORM]}, other)


def double_name_in_index(folder):
    path = folder / "model.safetensors.index.json"
    path.write_text(path.read_text().replace('"weight_map"', '"weight_map": {}, "weight_map"'))


def overlapping(folder):
    path, tensors = holder(folder)
    save_file({"b": torch.zeros(4), "a": torch.ones(4)} | tensors, path)

    def overlap(text):
        header = json.loads(text)
        spans = sorted(
            (entry["data_offsets"], name) for name, entry in header.items() if name[0] != "_"
        )
        (first, _), (_, second) = spans[0], spans[1]
        size = header[second]["data_offsets"][1] - header[second]["data_offsets"][0]
        header[second]["data_offsets"] = [first[0], first[0] + size]
        return json.dumps(header)

    reheader(path, overlap)


def wrong_length(folder):
    path, _ = holder(folder)

    def shorten(text):
        header = json.loads(text)
        header[NORM]["data_offsets"][1] -= 4
        return json.dumps(header)

    reheader(path, shorten)


def no_weights(folder):
    for path in folder.glob("model*"):
        path.unlink()


def no_config(folder):
    (folder / "config.json").unlink()


def broken_config(folder):
    (folder / "config.json").write_text("{")


def other_architecture(folder):
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"architectures": ["MistralForCausalLM"]}))


DAMAGE = {
    truncate: "truncated",
    cut_header: "truncated",
    empty_file: "truncated",
    trailing_bytes: "belong to no tensor",
    garbled_header: "JSON cannot be read",
    listed_dtype: "is not a tensor's",
    foreign_metadata: "__metadata__ is not a table of texts",
    flipped_bit: "SHA-256",
    nan_weight: f"{NORM} holds NaN",
    infinite_weight: f"{NORM} holds NaN or infinite",
    missing_tensor: f"lacks {NORM}",
    missing_from_shard: f"lacks {NORM}",
    unexpected_tensor: "holds, beyond .* model.extra.weight",
    unlisted_tensor: "model.extra.weight, which .* does not list",
    wrong_shape: r"shape \[8\], but config.json asks for \[16\]",
    foreign_dtype: "stored as I8",
    mixed_dtypes: "mixes dtypes",
    parent_path: "leaves the folder",
    absolute_path: "leaves the folder",
    name_with_a_zero_byte: "leaves the folder",
    link_outside: "leaves the folder",
    missing_shard: "lacks model-",
    double_name_in_header: "twice",
    double_name_across_shards: f"holds {NORM}, which .* places in",
    double_name_in_index: "twice",
    overlapping: "overlaps",
    wrong_length: "bytes",
    no_weights: "neither",
    no_config: "no config.json",
    broken_config: "JSON cannot be read",
    other_architecture: "not ours",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_or_foreign_checkpoint_is_refused_by_name(folder, damage):
    weights.load(folder)  # sound before
    damage(folder)
    with pytest.raises(UserError, match=DAMAGE[damage]):
        weights.load(folder)


def test_a_snapshot_of_the_hub_cache_may_link_to_its_blobs(folder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("models--Qwen--tiny")
    snapshot, blobs = cache / "snapshots" / "abc", cache / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(blobs / str(number))
    assert weights.load(snapshot).config == replace(DENSE, torch_dtype="float32")


def test_what_overflows_the_wanted_dtype_is_refused(folder):
    path, tensors = holder(folder)
    tensors[NORM][0] = 1e6
    save_file(tensors, path)
    weights.load(folder, dtype=torch.bfloat16)
    with pytest.raises(UserError, match="infinite"):
        weights.load(folder, dtype=torch.float16)


MEASURED = """
import sys
from pathlib import Path
import torch
from baiwen.model import weights

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

weights.load(sys.argv[2], dtype=torch.float32)
before = peak()
model = weights.load(sys.argv[1], dtype=getattr(torch, sys.argv[3]))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_loading_never_holds_two_copies(tmp_path, folder, forks):
    """Of 100 MB of fp32 as they are, or the file beside their half; the pages of the file count."""
    config = replace(
        DENSE, vocab_size=8192, hidden_size=1024, intermediate_size=4096, num_hidden_layers=1,
        num_attention_heads=8, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Transformer(config).state_dict().items()}
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    size = sum(4 * tensor.numel() for name, tensor in state.items() if name != "lm_head.weight")
    assert 90e6 < size < 110e6
    weights.save(state, config, tmp_path / "large")
    (tmp_path / "measured.py").write_text(MEASURED)
    for dtype, copies in (("float32", 1.0), ("bfloat16", 1.5)):
        told = forks.run(tmp_path / "measured.py", tmp_path / "large", folder, dtype)
        assert told.returncode == 0, told.stderr
        assert 0.9 * size < int(told.stdout) < (copies + 0.15) * size
