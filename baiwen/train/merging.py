"""The online merging optimizer: every step leans towards the start model (Lu et al., 2024).

Aligning a model costs what fine-tuning gave it. With tau = theta_start - theta_base, what
fine-tuning changed, and delta the step that AdamW would make, a step merges the two like models:

    dare    theta <- theta + (1 - alpha) F(delta) + alpha F(tau)
            F keeps each element with probability p, and makes the others 0
    ties    theta <- theta + (1 - alpha) F(delta) (+) alpha F(tau)
            F keeps the share p of a tensor that is largest in magnitude;
            a (+) b = a + b where the signs agree, else the larger in magnitude

By the paper's rules (spec 8): masks are drawn afresh for every step and for delta and tau apart,
nothing is rescaled by 1 / p, and the learning rate is a factor of delta alone, so alpha is not
annealed. AdamW's decay is a part of delta, so that nothing goes by the merge. With `every` = K > 1
the steps between are AdamW's own, and each K-th takes them back and merges their sum; steps after
the last multiple of K stay unmerged.

    [optim.merging]
    method = "dare"
    base = "models/Qwen2.5-0.5B"     # theta_base; theta_start is the model that a run starts from

The masks are a function of (seed, step, parameter), drawn for whole tensors by every rank, which
keeps its part; magnitudes are ranked over all shards. So neither resuming nor the number of ranks
changes what is kept. Beside AdamW's two moments this holds tau, and with K > 1 the sum of steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
import xxhash
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.optim import Optimizer

from baiwen.config import Input, Knobs
from baiwen.errors import UserError
from baiwen.model import weights
from baiwen.model.transformer import Transformer
from baiwen.train.checkpoint import part
from baiwen.train.dtensor import local, shared

DIGITS = ((20, 11), (10, 10), (0, 10))  # (shift, bits) of a float's 31 bits without its sign


class Merging(Knobs):
    """How steps are merged with what earlier fine-tuning changed."""

    method: Literal["none", "dare", "ties"] = "none"  # report: online merging, which is unknown
    base: Input | None = None  # the checkpoint that the start model was fine-tuned from
    alpha: Annotated[float, Field(ge=0, le=1)] = 1e-6  # weight of tau; paper: 5e-7 to 5e-6 is best
    p: Annotated[float, Field(gt=0, le=1)] = 5e-4  # share of elements kept; paper: robust to 5e-4
    every: Annotated[int, Field(gt=0)] = 1  # steps from one merge to the next (step-K)
    tau_dtype: Literal["float32", "bfloat16"] = "float32"  # in which tau is held
    seed: int = 0  # of dare's masks

    @property
    def itemsize(self) -> int:
        """Bytes that it holds a number: tau, and the sum of the steps between two merges."""
        if self.method == "none":
            return 0
        return getattr(torch, self.tau_dtype).itemsize + (4 if self.every > 1 else 0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.method != "none" and self.base is None:
            raise ValueError(f"merging.method = {self.method!r} needs merging.base, a checkpoint")
        return self


class OnlineMerging(Optimizer):
    """AdamW whose steps are merged with `taus`, by parameter: each rank's own part of it."""

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        taus: Mapping[Tensor, Tensor],
        merging: Merging,
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.merging = merging
        self.numbers = {parameter: number for number, parameter in enumerate(taus)}
        # Ties keeps the same of tau in every step; dare draws each time.
        ties = merging.method == "ties"
        self.taus = {p: largest(tau, merging.p, p) if ties else tau for p, tau in taus.items()}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - torch's overloads
        """Update every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, every = self.state[parameter], self.merging.every
        if not state:
            state["step"] = torch.zeros(())
            for name in ("exp_avg", "exp_avg_sq", *(["taken"] if every > 1 else [])):
                state[name] = torch.zeros_like(parameter)
        state["step"] += 1
        delta = adamw(parameter, state, group)
        if every == 1:
            local(parameter).add_(self.merged(parameter, delta))
            return
        taken = local(state["taken"])  # the sum of the steps since the last merge
        if state["step"] % every:
            local(parameter).add_(delta)
            taken.add_(delta)
        else:
            local(parameter).add_(self.merged(parameter, taken + delta).sub_(taken))
            taken.zero_()

    def merged(self, parameter: Tensor, delta: Tensor) -> Tensor:
        """What is added to this rank's part of `parameter` in the place of `delta`."""
        knobs, tau = self.merging, self.taus[parameter]
        if knobs.method == "ties":
            kept = largest(delta, knobs.p, parameter)
            return agreed(kept.mul_(1 - knobs.alpha), tau.to(delta.dtype) * knobs.alpha)
        of_delta, of_tau = self._masks(parameter)
        return torch.where(of_delta, (1 - knobs.alpha) * delta, 0.0).add_(
            torch.where(of_tau, tau, 0.0), alpha=knobs.alpha
        )

    def _masks(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """This rank's part of the masks of delta and tau in this step."""
        key = self.merging.seed, int(self.state[parameter]["step"]), self.numbers[parameter]
        generator = torch.Generator(parameter.device)
        generator.manual_seed(xxhash.xxh3_64_intdigest(repr(key).encode()) >> 1)  # below 2^63

        def drawn() -> Tensor:
            whole = torch.empty(parameter.shape, dtype=torch.bool, device=parameter.device)
            return part(parameter, whole.bernoulli_(self.merging.p, generator=generator))

        return drawn(), drawn()


def taus(model: nn.Module, merging: Merging) -> dict[Tensor, Tensor]:
    """What fine-tuning changed, start - base, by parameter: this rank's part of each.

    `model` holds the start weights, whole or sharded. UserError as of `check_base`.
    """
    assert merging.base is not None
    check_base(model, merging.base)
    parameters, dtype = dict(model.named_parameters()), getattr(torch, merging.tau_dtype)
    changed: dict[Tensor, Tensor] = {}
    for name, tensor in weights.stream(merging.base):
        parameter = parameters[name]
        base = part(parameter, tensor).to(parameter.device, parameter.dtype)
        changed[parameter] = (local(parameter) - base).to(dtype)
    return changed


def check_base(model: nn.Module, base: Path) -> None:
    """UserError unless the checkpoint `base` has the tensors of `model`, each in its shape."""
    config = weights.read_config(base)  # to which `weights.stream` holds the files
    with torch.device("meta"):
        there = Transformer(replace(config, reward=False))
    found, wanted = (
        {name: list(parameter.shape) for name, parameter in one.named_parameters()}
        for one in (there, model)
    )
    for name in wanted | found:
        if found.get(name) != wanted.get(name):
            raise UserError(
                f"optim.merging.base = {base} is of another shape than the model that starts: "
                f"{name} is {found.get(name, 'absent')} there, {wanted.get(name, 'absent')} here.\n"
                "Give the checkpoint that the start model was fine-tuned from."
            )


def adamw(parameter: Tensor, state: Mapping[str, Tensor], group: Mapping[str, Any]) -> Tensor:
    """-lr (m / (sqrt(v) + eps) + decay theta), of this rank's part, as a new tensor.

    The step of Loshchilov and Hutter (2019), algorithm 2, with m and v bias-corrected; it moves
    the moments in `state` on, and leaves the parameter as it is.
    """
    (beta1, beta2), lr, step = group["betas"], group["lr"], float(state["step"])
    assert parameter.grad is not None
    theta, gradient = local(parameter), local(parameter.grad)
    mean, square = local(state["exp_avg"]), local(state["exp_avg_sq"])
    mean.lerp_(gradient, 1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    root = square.sqrt().div_((1 - beta2**step) ** 0.5).add_(group["eps"])
    delta = torch.div(mean, root).mul_(-lr / (1 - beta1**step))
    return delta.add_(theta, alpha=-lr * group["weight_decay"])


def agreed(a: Tensor, b: Tensor) -> Tensor:
    """`a (+) b`: their sum where the signs agree, else the larger in magnitude."""
    larger = torch.where(a.abs() >= b.abs(), a, b)
    return torch.where(a.signbit() == b.signbit(), a + b, larger)  # beside a 0 both are the other


def largest(values: Tensor, share: float, parameter: Tensor) -> Tensor:
    """`values` with 0 for all but the share of `parameter`'s elements largest in magnitude.

    What is as large as the least that is kept is kept, too. `values` are this rank's part of a
    tensor that is split as `parameter` is.
    """
    keep = max(1, round(share * parameter.numel()))
    magnitudes = values.float().abs()
    return torch.where(magnitudes >= threshold(magnitudes, keep, _sharers(parameter)), values, 0.0)


def threshold(magnitudes: Tensor, keep: int, groups: Sequence[ProcessGroup] = ()) -> Tensor:
    """The `keep`-th largest of fp32 numbers >= 0, over the ranks of all `groups`.

    By radix selection: their order is that of their bits, so the digits of the one sought are found
    from the highest on by counting, and ranks exchange nothing but counts.
    """
    bits, found = magnitudes.flatten().view(torch.int32), 0
    for shift, width in DIGITS:
        digits = (bits >> shift) & (2**width - 1)
        counts = torch.bincount(digits, minlength=2**width)
        for group in groups:
            torch.distributed.all_reduce(counts, group=group)
        upward = counts.flip(0).cumsum(0)  # how many have the highest digit, the two highest, ...
        place = int(torch.searchsorted(upward, keep))
        digit = 2**width - 1 - place
        keep -= int(upward[place] - counts[digit])
        bits, found = bits[digits == digit], found | digit << shift
    return torch.tensor(found, dtype=torch.int32).view(torch.float32).to(magnitudes.device)


def _sharers(parameter: Tensor) -> list[ProcessGroup]:
    """The ranks that have other parts of a parameter: a group for each time that it is split."""
    if not shared(parameter):
        return []
    mesh = parameter.device_mesh
    return [mesh.get_group(n) for n, p in enumerate(parameter.placements) if not p.is_replicate()]
