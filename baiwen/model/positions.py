"""What config.json says about positions: YaRN and dual chunk attention, read, checked, written.

    theta, yarn = rotary(raw, "config.json")              # rope_theta, rope_scaling
    chunks = dual_chunk(raw, "config.json")               # dual_chunk_attention_config
    raw | written(yarn, chunks)

What they do is `rope.py` and `dca.py` (spec 6).
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from baiwen.errors import UserError


@dataclass(frozen=True)
class Yarn:
    """YaRN with a static factor (Peng et al., 2023): `rope_scaling` of config.json."""

    factor: float
    original_max_position_embeddings: int
    attention_factor: float | None = None  # None: 0.1 ln(factor) + 1
    beta_fast: float = 32.0
    beta_slow: float = 1.0


Cap = Literal["code", "paper"]


@dataclass(frozen=True)
class DualChunk:
    """Dual chunk attention (An et al., 2024): `dual_chunk_attention_config` of config.json.

    No query stands farther from a key than the model was trained for, however long the input.
    """

    chunk_size: int  # the trained length
    local_size: int  # the distance up to which every pair keeps its own
    original_max_position_embeddings: int  # the temperature rises with the length beyond it
    cap: Cap = "code"  # farthest position of a query: chunk_size, or one less in the "paper"

    @property
    def length(self) -> int:
        """Tokens of a chunk: a key of place j stands at j modulo this."""
        return self.chunk_size - self.local_size

    @property
    def farthest(self) -> int:
        """Where a query stands for all keys that are two chunks away, or more."""
        return self.chunk_size if self.cap == "code" else self.chunk_size - 1

    @property
    def plain(self) -> int:
        """Tokens of an input up to which all distances are the true ones."""
        return min(self.chunk_size, 2 * self.length)


def rotary(raw: Mapping[str, Any], source: str) -> tuple[Any, Yarn | None]:
    """`rope_theta`, of which the type is still to be checked, and `rope_scaling`.

    transformers 5 writes `rope_parameters` with `rope_theta` in it, all others the two fields; a
    `rope_scaling` that somebody adds to the former counts, as it does there. Raises UserError for
    another kind than YaRN, and for values that cannot be.
    """
    found = {name: raw.get(name) or {} for name in ("rope_scaling", "rope_parameters")}
    for name, value in found.items():
        if not isinstance(value, dict):
            raise UserError(f"{source}: {name} = {value!r} must be an object, or null")
    scaling = dict(found["rope_scaling"] or found["rope_parameters"])
    places = scaling, raw, found["rope_parameters"]
    thetas = [place["rope_theta"] for place in places if place.get("rope_theta") is not None]
    theta = thetas[0] if thetas else 10_000.0
    scaling.pop("rope_theta", None)
    kinds = {str(scaling.pop(key)) for key in ("type", "rope_type") if key in scaling}
    if kinds <= {"default"} and (kinds or not scaling):
        return theta, None
    if kinds != {"yarn"}:
        raise UserError(
            f"{source}: rope_scaling of type {', '.join(sorted(kinds)) or 'unknown'} "
            "is not built; Baiwen has plain rotary positions and yarn"
        )
    scaling.setdefault("original_max_position_embeddings", raw.get("max_position_embeddings"))
    scaling = {name: value for name, value in scaling.items() if value is not None}
    known = {field.name for field in dataclasses.fields(Yarn)}
    needed = "factor", "original_max_position_embeddings"
    if not {*needed} <= scaling.keys() <= known:
        raise UserError(
            f"{source}: rope_scaling of type yarn needs {' and '.join(needed)} and may hold "
            f"{', '.join(sorted(known))}; it holds {', '.join(sorted(scaling)) or 'nothing'}"
        )
    for name, value in scaling.items():
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise UserError(f"{source}: rope_scaling: {name} = {value!r} must be a number above 0")
    return theta, Yarn(**scaling)


def dual_chunk(raw: Mapping[str, Any], source: str) -> DualChunk | None:
    """`dual_chunk_attention_config`; vLLM's keys for choosing keys sparsely are not ours."""
    given, name = raw.get("dual_chunk_attention_config"), "dual_chunk_attention_config"
    if given is None:
        return None
    if not isinstance(given, dict):
        raise UserError(f"{source}: {name} = {given!r} must be an object, or null")
    values = {key: v for key, v in given.items() if not key.startswith("sparse_attention_")}
    *sizes, cap = (field.name for field in dataclasses.fields(DualChunk))
    if not set(sizes) <= values.keys() <= {*sizes, cap}:
        raise UserError(
            f"{source}: {name} needs {', '.join(sizes)} and may hold {cap}; "
            f"it holds {', '.join(map(str, given)) or 'nothing'}"
        )
    for key in sizes:
        if type(values[key]) is not int or values[key] <= 0:
            raise UserError(f"{source}: {name}: {key} = {values[key]!r} must be an integer above 0")
    if values.get(cap, "code") not in get_args(Cap):
        raise UserError(
            f"{source}: {name}: {cap} = {values[cap]!r} must be one of {', '.join(get_args(Cap))}"
        )
    return DualChunk(**values)


def problems(yarn: Yarn | None, chunks: DualChunk | None) -> list[str]:
    """What contradicts itself, one sentence each."""
    found = []
    if yarn is not None and yarn.factor < 1:
        found.append(
            f"rope_scaling: factor = {yarn.factor} is below 1; YaRN stretches positions, so give "
            "the longest input / original_max_position_embeddings, or take rope_scaling out"
        )
    if chunks is not None and chunks.chunk_size <= chunks.local_size:
        found.append(
            f"dual_chunk_attention_config: chunk_size = {chunks.chunk_size} is not above "
            f"local_size = {chunks.local_size}; chunk_size is the length that the model was "
            "trained at, local_size the part of it that stays exact (the 1M models: 262144, 8192)"
        )
    return found


def written(yarn: Yarn | None, chunks: DualChunk | None) -> dict[str, Any]:
    """The fields of config.json, without those that are not needed."""
    fields: dict[str, Any] = {}
    if yarn is not None:
        # Old readers ask for `type`, new ones for `rope_type` (spec 6.1).
        fields["rope_scaling"] = {"type": "yarn", "rope_type": "yarn"} | {
            name: value for name, value in dataclasses.asdict(yarn).items() if value is not None
        }
    if chunks is not None:
        values = dataclasses.asdict(chunks)
        if chunks.cap == "code":  # what every other reader takes for granted
            del values["cap"]
        fields["dual_chunk_attention_config"] = values
    return fields
