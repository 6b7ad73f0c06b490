"""The policy loss against its formulas: answer by answer, unpacked, in float64, no chunks."""

import math

import pytest
import torch

from baiwen.data.tree import Tree
from baiwen.data.trees import batches
from baiwen.train.policy import ALGORITHMS, Clip, k3, policy

MAX_TOKENS = 12
LOW, HIGH, BETA, CAP = 0.1, 0.15, 0.3, 1.1


def rolled(tiny, *, off_policy):
    """Two prompts with three answers each, and what is known of every token."""
    g = torch.Generator().manual_seed(3)
    vocabulary = tiny.CONFIG.vocab_size

    def ids(most):
        return torch.randint(
            0, vocabulary, (1 + int(torch.randint(most, (), generator=g)),), generator=g
        ).tolist()

    trees = []
    for _ in range(2):
        answers = [ids(MAX_TOKENS) for _ in range(3)]
        noise = [
            {
                name: (-4.6 + 0.3 * torch.randn(len(one), generator=g)).tolist()
                for name in ("old", "sampler", "ref")
            }
            for one in answers
        ]
        masks = [[1.0] * len(one) for one in answers]
        for mask in masks:
            if len(mask) > 4:
                mask[2] = 0.0  # said by a tool
        values = {
            "advantages": torch.randn(3, generator=g).tolist(),
            "ref_logprobs": [one["ref"] for one in noise],
            "sampler_logprobs": [one["sampler"] for one in noise],
        }
        if off_policy:
            values["old_logprobs"] = [one["old"] for one in noise]
        trees.append(Tree(ids(6), answers, masks, values))
    return trees


def logprobs(model, prompt, answer, temperature):
    """[length] float64, from all logits of this conversation alone."""
    tokens = torch.tensor([[*prompt, *answer]])
    logits = model.logits(tokens)[0, len(prompt) - 1 : -1] / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]


def of_answer(algorithm, tree, number, logp, truncate):
    """The loss of each token of an answer as the papers write it, its mask, and its KL."""
    values = {
        name: torch.tensor(found[number], dtype=torch.float64)
        for name, found in tree.values.items()
    }
    mask = torch.tensor(tree.masks[number], dtype=torch.float64)
    old = values.get("old_logprobs", logp.detach())
    ratio = (logp - old).exp()
    if algorithm == "gspo":
        ratio = (((logp - old) * mask).sum() / mask.sum()).exp().expand_as(logp)
    advantage = values["advantages"]
    if algorithm == "cispo":
        gain = ratio.detach().clamp(max=1 + HIGH) * advantage * logp
    else:
        gain = torch.min(ratio * advantage, ratio.clamp(1 - LOW, 1 + HIGH) * advantage)
    if truncate:
        gain = gain * (old - values["sampler_logprobs"]).exp().clamp(max=CAP)
    r = (values["ref_logprobs"] - logp).exp()
    return -gain + BETA * (r - r.log() - 1), mask


def reference(algorithm, trees, model, temperature, truncate):
    sums, tokens = [], 0.0
    for tree in trees:
        for number, answer in enumerate(tree.answers):
            logp = logprobs(model, tree.prompt, answer, temperature)
            each, mask = of_answer(algorithm, tree, number, logp, truncate)
            lengths = {"grpo": mask.sum(), "gspo": mask.sum(), "dr_grpo": MAX_TOKENS}
            sums.append((each * mask).sum() / lengths.get(algorithm, 1))
            tokens += mask.sum()
    per_token = algorithm in ("dapo", "cispo")
    return sum(sums) / (tokens if per_token else len(sums))


def ours(algorithm, trees, model, temperature=1.0, truncation=None, micro_tokens=512, **knobs):
    made = batches(trees, micro_tokens, count=ALGORITHMS[algorithm].count)
    count = sum(batch.count for batch in made)
    found = [
        policy(
            model(batch.tokens, positions=batch.positions, documents=batch.documents),
            batch,
            algorithm=algorithm,
            clip=Clip(LOW, HIGH),
            beta=BETA,
            temperature=temperature,
            max_tokens=MAX_TOKENS,
            truncation=truncation,
            **knobs,
        )
        for batch in made
    ]
    return found, sum(loss.total for loss in found) / count, count


def gradient(loss, model):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("off_policy", [False, True])
def test_loss_and_gradient_equal_the_formula(tiny, algorithm, off_policy):
    trees = rolled(tiny, off_policy=off_policy)
    exact = tiny.model(seed=1).double()
    wanted = reference(algorithm, trees, exact, 0.8, off_policy)
    model = tiny.model(seed=1)
    cap = CAP if off_policy else None
    for size in (512, 70):  # all in one micro-batch, and a tree in each
        _, loss, _ = ours(algorithm, trees, model, 0.8, cap, size)
        assert loss.item() == pytest.approx(wanted.item(), rel=2e-5, abs=1e-6)
        mine, theirs = gradient(loss, model).double(), gradient(wanted, exact)
        wanted = reference(algorithm, trees, exact, 0.8, off_policy)
        assert (mine - theirs).norm() < 1e-4 * theirs.norm()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_on_policy_the_ratio_is_exactly_one(tiny, algorithm):
    found, _, count = ours(algorithm, rolled(tiny, off_policy=False), tiny.model(seed=1))
    assert sum(loss.metrics["ratio"] for loss in found) / count == pytest.approx(1, abs=1e-6)
    assert all(loss.metrics["clipped_low"] == loss.metrics["clipped_high"] == 0 for loss in found)


def test_a_sampler_like_the_trainer_has_no_mismatch_and_one_that_is_off_is_counted(tiny):
    model = tiny.model(seed=1)
    trees = rolled(tiny, off_policy=False)
    for shift, beyond in ((0.0, 0.0), (0.05, 0.0), (0.2, 1.0)):
        shifted = [
            Tree(
                tree.prompt,
                tree.answers,
                tree.masks,
                {
                    **tree.values,
                    "sampler_logprobs": [
                        (logprobs(model, tree.prompt, answer, 1.0).detach() - shift).tolist()
                        for answer in tree.answers
                    ],
                },
            )
            for tree in trees
        ]
        found, _, count = ours("dapo", shifted, model)
        means = {
            name: sum(loss.metrics[name] for loss in found) / count
            for name in ("mismatch", "mismatch_kl", "mismatch_beyond")
        }
        assert means["mismatch"] == pytest.approx(shift, abs=1e-5)
        assert means["mismatch_kl"] == pytest.approx(math.exp(shift) - 1 - shift, abs=1e-5)
        assert means["mismatch_beyond"] == beyond


def test_tokens_that_the_model_did_not_choose_do_not_count(tiny):
    tree = Tree(
        [1, 2],
        [[3, 4, 5, 6]],
        [[1, 0, 0, 1]],
        {"advantages": [1.0], "ref_logprobs": [[-4.0] * 4], "sampler_logprobs": [[-4.0] * 4]},
    )
    [loss], _, _ = ours("grpo", [tree], tiny.model(seed=1))
    changed = [{**tree.values, "sampler_logprobs": [[-4.0, 9.0, 9.0, -4.0]]}]
    [same], _, _ = ours(
        "grpo", [Tree(tree.prompt, tree.answers, tree.masks, changed[0])], tiny.model(seed=1)
    )
    assert {name: float(value) for name, value in loss.metrics.items()} == {
        name: float(value) for name, value in same.metrics.items()
    }


def test_the_estimate_of_the_divergence_is_never_negative():
    assert (k3(torch.linspace(-3, 3, 1001)) >= 0).all()
    assert (k3(1e-4 * torch.randn(1000)) >= 0).all()
