"""What a checkpoint says about itself: the fields of config.json that change the model.

The names are those of the file (spec 1.2). Fields that Qwen2.5's code never reads (`use_cache`,
`transformers_version`, `max_window_layers` and the like) are ignored; a field that would change the
computation in a way that is not built here is refused.

    config = ModelConfig.from_dict(json.load(open("config.json")))
    config.head_dim, config.sparse(3)
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from baiwen.errors import UserError
from baiwen.model import positions
from baiwen.model.positions import DualChunk, Yarn

ARCHITECTURES = {  # and the model_type of each
    "Qwen2ForCausalLM": "qwen2",
    "Qwen2MoeForCausalLM": "qwen2_moe",
    "Qwen2ForRewardModel": "qwen2",  # Qwen2.5-Math-RM's
    "Qwen2MoeForRewardModel": "qwen2_moe",  # its analogue, which no other program reads
}
DTYPES = ("float32", "bfloat16", "float16")
DENSE_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
MORE_THAN_0 = (
    *DENSE_FIELDS,
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
)
MOE_FIELDS = (
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "norm_topk_prob",
    "decoder_sparse_step",
    "mlp_only_layers",
    "router_aux_loss_coef",
)


@dataclass(frozen=True)
class ModelConfig:
    """The shape of one model. Lengths in tokens, sizes in elements."""

    vocab_size: int  # rows of the embedding, at least len(tokenizer)
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int = 32768
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1_000_000.0
    rope_scaling: Yarn | None = None
    dual_chunk_attention_config: DualChunk | None = None
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None
    torch_dtype: str = "bfloat16"  # of the weights in the files

    num_experts: int = 0  # 0: a dense model
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    shared_expert_intermediate_size: int = 0
    norm_topk_prob: bool = False
    decoder_sparse_step: int = 1
    mlp_only_layers: tuple[int, ...] = ()
    router_aux_loss_coef: float = 0.001

    reward: bool = False  # a reward model's head in place of the language model's

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise UserError(f"the model's configuration does not fit together: {problem}")

    @property
    def head_dim(self) -> int:
        """Elements of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def is_moe(self) -> bool:
        """Whether some layers are mixtures of experts."""
        return self.num_experts != 0

    @property
    def architecture(self) -> str:
        """The name of the model's class in config.json."""
        kind = "Qwen2Moe" if self.is_moe else "Qwen2"
        return f"{kind}For{'RewardModel' if self.reward else 'CausalLM'}"

    def sparse(self, layer: int) -> bool:
        """Whether layer `layer` (from 0) is a mixture of experts (spec 1.4)."""
        if not self.is_moe or layer in self.mlp_only_layers:
            return False
        return (layer + 1) % self.decoder_sparse_step == 0

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str = "config.json") -> "ModelConfig":
        """The configuration that a config.json holds; `source` names the file in errors.

        Raises UserError for another architecture, a missing field or one that is not built here.
        """
        _refuse_unsupported(raw, source)
        names = {field.name for field in dataclasses.fields(cls)}
        values = {name: raw[name] for name in names & raw.keys() if raw[name] is not None}
        architecture = raw["architectures"][0]
        if ARCHITECTURES[architecture] == "qwen2":
            values = {name: value for name, value in values.items() if name not in MOE_FIELDS}
        values["reward"] = architecture.endswith("RewardModel")
        missing = [name for name in DENSE_FIELDS if name not in values]
        if missing:
            raise UserError(f"{source}: {', '.join(missing)} is missing")
        values.setdefault("num_key_value_heads", values["num_attention_heads"])
        values["torch_dtype"] = raw.get("dtype") or raw.get("torch_dtype") or "float32"
        for name in ("mlp_only_layers", "eos_token_id"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        values["rope_theta"], values["rope_scaling"] = positions.rotary(raw, source)
        values["dual_chunk_attention_config"] = positions.dual_chunk(raw, source)
        _check_types(values, source)
        try:
            config = cls(**values)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        if raw.get("head_dim") not in (None, config.head_dim):
            raise UserError(
                f"{source}: head_dim = {raw['head_dim']!r} must be hidden_size / "
                f"num_attention_heads = {config.head_dim}"
            )
        return config

    def to_dict(self) -> dict[str, Any]:
        """The fields of a config.json that transformers of any age, vLLM and SGLang read."""
        values = dataclasses.asdict(self)
        del values["reward"]  # the architecture says it
        if not self.is_moe:
            values = {name: value for name, value in values.items() if name not in MOE_FIELDS}
        del values["rope_scaling"], values["dual_chunk_attention_config"]
        values |= positions.written(self.rope_scaling, self.dual_chunk_attention_config)
        values |= {
            "architectures": [self.architecture],
            "model_type": ARCHITECTURES[self.architecture],
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "use_sliding_window": False,
            "use_cache": True,
        }
        lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        return dict(sorted((values | lists).items()))


def _problems(config: ModelConfig) -> list[str]:
    """What contradicts itself in `config`, one sentence each."""
    problems = [
        f"{name} = {getattr(config, name)} must be a number above 0"
        for name in MORE_THAN_0
        if not 0 < getattr(config, name) < math.inf
    ]
    if problems:
        return problems
    rules = [
        (
            config.hidden_size % config.num_attention_heads == 0,
            f"hidden_size = {config.hidden_size} is not a multiple of "
            f"num_attention_heads = {config.num_attention_heads}",
        ),
        (
            config.num_attention_heads % config.num_key_value_heads == 0,
            f"num_attention_heads = {config.num_attention_heads} is not a multiple of "
            f"num_key_value_heads = {config.num_key_value_heads}",
        ),
        (config.head_dim % 2 == 0, f"a head of {config.head_dim} elements cannot be rotated"),
        (
            config.torch_dtype in DTYPES,
            f"torch_dtype = {config.torch_dtype!r} is none of {', '.join(DTYPES)}",
        ),
    ]
    problems = [problem for holds, problem in rules if not holds]
    chunks = config.dual_chunk_attention_config
    return problems + positions.problems(config.rope_scaling, chunks) + _moe_problems(config)


def _moe_problems(config: ModelConfig) -> list[str]:
    if not config.is_moe:
        return []
    rules = [
        (
            0 < config.num_experts_per_tok <= config.num_experts,
            f"num_experts_per_tok = {config.num_experts_per_tok} must be between 1 and "
            f"num_experts = {config.num_experts}",
        ),
        (
            config.moe_intermediate_size > 0 and config.shared_expert_intermediate_size > 0,
            "moe_intermediate_size and shared_expert_intermediate_size must be above 0",
        ),
        (
            # torch's grouped matmul wants rows of a multiple of 16 bytes, 8 elements of bf16.
            config.hidden_size % 8 == 0 and config.moe_intermediate_size % 8 == 0,
            f"hidden_size = {config.hidden_size} and moe_intermediate_size = "
            f"{config.moe_intermediate_size} of a mixture of experts must be multiples of 8",
        ),
        (config.decoder_sparse_step > 0, "decoder_sparse_step must be above 0"),
    ]
    return [problem for holds, problem in rules if not holds]


def _refuse_unsupported(raw: Mapping[str, Any], source: str) -> None:
    """Raise UserError where `raw` asks for a model that is not built here."""
    architectures = raw.get("architectures")
    if architectures not in [[name] for name in ARCHITECTURES]:
        raise UserError(
            f"{source}: architectures = {architectures!r} is not ours; "
            f"Baiwen reads {', '.join(ARCHITECTURES)}"
        )
    moe = ARCHITECTURES[architectures[0]] == "qwen2_moe"
    window, layers = raw.get("use_sliding_window"), raw.get("layer_types") or []
    rules = [
        (
            raw.get("model_type", ARCHITECTURES[architectures[0]])
            == ARCHITECTURES[architectures[0]],
            f"model_type = {raw.get('model_type')!r} contradicts {architectures[0]}",
        ),
        (not moe or bool(raw.get("num_experts")), "num_experts is missing"),
        (
            raw.get("hidden_act", "silu") == "silu",
            f"hidden_act = {raw.get('hidden_act')!r} is not built; Qwen2.5 uses silu",
        ),
        (not raw.get("attention_dropout"), "attention_dropout is not built; set it to 0"),
        (
            not window and isinstance(layers, list) and {*map(str, layers)} <= {"full_attention"},
            "use_sliding_window = true is not built; no published Qwen2.5 uses it",
        ),
        (raw.get("qkv_bias", True) is True, "qkv_bias = false is not built"),
        (not raw.get("use_mrope"), "use_mrope = true belongs to the vision models"),
        (
            raw.get("quantization_config") is None,
            "quantized weights are not read; start from the bf16 release of the model",
        ),
    ]
    for holds, problem in rules:
        if not holds:
            raise UserError(f"{source}: {problem}")


def _check_types(values: Mapping[str, Any], source: str) -> None:
    """Raise UserError where a field of config.json has another type than ours."""
    for name, kind in get_type_hints(ModelConfig).items():
        value = values.get(name)
        if value is None:
            continue
        try:
            TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError:
            said = kind.__name__ if isinstance(kind, type) else kind
            raise UserError(f"{source}: {name} = {value!r} must be of type {said}") from None
