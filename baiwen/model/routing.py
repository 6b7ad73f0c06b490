"""What routers choose, as a value: summed for the balance and the log, kept, and chosen again.

    experts = choose(probs, 8)                        # [N, k]: the likeliest 8 of each token
    routing = record(logits, probs, experts, real)    # the choice, and sums for training
    experts = choose(probs, 8, routing.experts)       # the same ones, whatever the probabilities

A choice is a step: rounding that no loss would notice sends a token to another expert. So where a
forward pass is made a second time, to recompute activations or to train on what an engine has
generated, it takes the first one's choice; the weights of the chosen come from its own
probabilities, which the gradient goes through. (The second is R3: Ma et al., 2025, 2510.11370.)

N tokens, B batch, T tokens of a row, E experts, k experts a token, L sparse layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from baiwen.model.config import ModelConfig
from baiwen.model.mixture import count

UNKNOWN = 255  # each byte of a choice that is not known: 255, or -1 in two bytes


@dataclass
class Sums:
    """What the routers did with N tokens, so that ranks and micro-batches can be added up.

    Of a single layer all but `tokens` lack the first dimension.
    """

    counts: Tensor  # [L, E], how many (token, slot) pairs went to each expert; no gradient
    probs: Tensor  # [L, E], sum over tokens of the router's probability; carries the gradient
    z: Tensor  # [L], sum over tokens of logsumexp(router logits)^2, for a z-loss
    entropy: Tensor  # [L], sum over tokens of the entropy of the probabilities; no gradient
    tokens: Tensor  # [], N without padding


@dataclass
class Routing:
    """The choice of all tokens, padding included, and what is to be known of it for training.

    Of a single layer `experts` lacks the first dimension.
    """

    experts: Tensor  # [L, B, T, k], in the dtype of `kept_as`
    sums: Sums | None = None  # None without gradients


def stack(routings: Sequence[Routing | None]) -> Routing | None:
    """The routings of single layers as one; None for a dense model."""
    sparse = [routing for routing in routings if routing is not None]
    if not sparse:
        return None
    experts = torch.stack([routing.experts for routing in sparse])
    sums = [routing.sums for routing in sparse if routing.sums is not None]
    if not sums:
        return Routing(experts)
    return Routing(
        experts,
        Sums(
            counts=torch.stack([layer.counts for layer in sums]),
            probs=torch.stack([layer.probs for layer in sums]),
            z=torch.stack([layer.z for layer in sums]),
            entropy=torch.stack([layer.entropy for layer in sums]),
            tokens=sums[0].tokens,
        ),
    )


def kept_as(experts: int) -> torch.dtype:
    """The dtype in which choices among so many experts are kept: bytes, as far as they go.

    Bytes of 255 are no expert: where they stand nothing is known, and the router chooses.
    """
    return torch.uint8 if experts <= UNKNOWN else torch.int16


def unknown(tokens: Tensor) -> Tensor:
    """For tokens [..., k] of a choice: that it is not known."""
    return torch.zeros_like(tokens).bitwise_not_()


def read(data: bytes | bytearray, config: ModelConfig) -> Tensor:
    """The choice for tokens one after the other, from its bytes: [., L, k]."""
    layers = sum(map(config.sparse, range(config.num_hidden_layers)))
    dtype, each = kept_as(config.num_experts), (layers, config.num_experts_per_tok)
    if not data:
        return torch.empty(0, *each, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).view(-1, *each)


@torch.no_grad()
def choose(probs: Tensor, k: int, kept: Tensor | None = None) -> Tensor:
    """The experts of each token [N, k]: of probs [N, E] the k largest, or those of kept [B, T, k].

    Tokens whose experts in `kept` are not known (`kept_as`) get those of `probs`.
    """
    likeliest = probs.topk(k, dim=-1).indices
    if kept is None:
        return likeliest
    given = kept.flatten(0, 1).long()
    return torch.where((given >= 0) & (given < probs.shape[1]), given, likeliest)


def record(logits: Tensor, probs: Tensor, experts: Tensor, real: Tensor | None) -> Routing:
    """The record of a layer: logits, probs [N, E], experts [B, T, k]; real [B, T] (None: all)."""
    sums = _sums(logits, probs, experts, real) if torch.is_grad_enabled() else None
    return Routing(experts.to(kept_as(probs.shape[1])), sums)


def _sums(logits: Tensor, probs: Tensor, experts: Tensor, real: Tensor | None) -> Sums:
    kept = None if real is None else real.flatten().to(probs.dtype)  # [N]

    def total(x: Tensor) -> Tensor:
        """The sum over tokens of [N] or [E, N]."""
        # Not the matmul that it is: autocast would round that to its own dtype.
        return (x if kept is None else kept * x).sum(-1)

    normaliser = logits.logsumexp(-1)  # [N]
    entropy = normaliser.detach() - (probs.detach() * logits.detach()).sum(-1)  # [N]
    return Sums(
        counts=count(experts.flatten(0, 1), probs.shape[1], kept).to(probs.dtype),
        probs=total(probs.T),
        z=total(normaliser.square()),
        entropy=total(entropy),
        tokens=probs.new_full((), len(probs)) if kept is None else kept.sum(),
    )


def balance(counts: Tensor, probs: Tensor, tokens: Tensor | float) -> Tensor:
    """The load-balancing loss of a layer, E * sum_e f_e P_e, in the mean over layers.

    counts, probs [L, E] and tokens are sums over the whole batch, all ranks included. f_e is the
    number of assignments a token (it sums to k, so a perfect balance gives k) and P_e the mean
    probability (Switch Transformer, equations 4-6). transformers takes f_e and P_e over all layers
    together: an expert that one layer leaves idle is then made up for by another layer's.
    """
    return counts.shape[1] * (counts / tokens * (probs / tokens)).sum(1).mean()
