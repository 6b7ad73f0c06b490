"""The preference losses against their formulas, written out one answer at a time in fp64."""

import math
from functools import partial

import pytest
import torch

from baiwen.data.tree import Tree
from baiwen.data.trees import batches
from baiwen.train.loop import accumulate
from baiwen.train.preference import answer_logprobs, dpo

BETA = 0.3
VARIANTS = [
    {},
    {"label_smoothing": 0.1},
    {"normalise": True},
    {"variant": "ipo"},
    {"variant": "ipo", "normalise": True},
    {"nll": 0.2},
    {"normalise": True, "nll": 0.2, "label_smoothing": 0.2},
]


def pairs(count=6, seed=0):
    """Prompts of 1 to 7 tokens, answers of 1 to 9, some of whose tokens are not learned."""
    generator = torch.Generator().manual_seed(seed)

    def ids(most):
        length = int(torch.randint(1, most, (1,), generator=generator))
        return torch.randint(0, 96, (length,), generator=generator).tolist()

    def pair():
        prompt, answers = ids(8), [ids(10), ids(10)]
        masks = [[1.0] * len(answer) for answer in answers]
        masks[0][:-1] = [float(i % 3 > 0) for i in range(len(answers[0]) - 1)]
        reference = (-5 * torch.rand(2, generator=generator)).tolist()
        return Tree(prompt, answers, masks, {"ref_logprobs": reference})

    return [pair() for _ in range(count)]


def log_prob(model, prompt, answer, mask):
    """Of one answer, alone in its row: what `dpo` finds for many at once."""
    tokens = torch.tensor([[*prompt, *answer]])
    logps = model.logits(tokens[:, :-1])[0].log_softmax(-1)[len(prompt) - 1 :]
    of_answer = logps.gather(1, torch.tensor(answer)[:, None])[:, 0]
    return (of_answer * torch.tensor(mask, dtype=logps.dtype)).sum()


def plain(model, trees, variant="sigmoid", label_smoothing=0.0, normalise=False, nll=0.0):
    """The sum over pairs by the papers' formulas; also the margins."""
    total, margins = 0.0, []
    for tree in trees:
        says = [
            log_prob(model, tree.prompt, answer, mask)
            for answer, mask in zip(tree.answers, tree.masks, strict=True)
        ]
        lengths = [sum(mask) for mask in tree.masks]
        ratios = [
            (said - ref) / (length if normalise else 1)
            for said, ref, length in zip(says, tree.values["ref_logprobs"], lengths, strict=True)
        ]
        h = ratios[0] - ratios[1]
        if variant == "ipo":
            loss = (h - 1 / (2 * BETA)) ** 2
        else:
            right, wrong = 1 / (1 + torch.exp(-BETA * h)), 1 / (1 + torch.exp(BETA * h))
            loss = -(1 - label_smoothing) * right.log() - label_smoothing * wrong.log()
        total = total + loss - nll * says[0] / lengths[0]
        margins.append(BETA * h.item())
    return total, margins


def forward(model, batch):
    return model(batch.tokens, positions=batch.positions, documents=batch.documents)


@pytest.mark.parametrize("knobs", VARIANTS)
def test_loss_and_gradient_are_those_of_the_formulas(tiny, knobs):
    ours, theirs = tiny.model(), tiny.model().double()
    trees = pairs()
    [batch] = batches(trees, 512, count="trees")
    loss = dpo(forward(ours, batch), batch, beta=BETA, **knobs)
    wanted, margins = plain(theirs, trees, **knobs)
    loss.total.backward()
    wanted.backward()
    assert loss.total.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert loss.count == len(trees)
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(
            one.grad.double(), other.grad, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert loss.metrics["margin"].item() == pytest.approx(sum(margins), rel=1e-4)
    assert loss.metrics["accuracy"].item() == sum(margin > 0 for margin in margins)


def test_the_reference_itself_has_the_loss_of_a_coin(tiny):
    model = tiny.model()
    [batch] = batches(pairs(), 512, count="trees")
    batch.values["ref_logprobs"] = answer_logprobs(forward(model, batch), batch).detach()
    loss = dpo(forward(model, batch), batch, beta=BETA)
    assert loss.total.item() / loss.count == pytest.approx(math.log(2), rel=1e-6)
    assert loss.metrics["reward_chosen"].item() == pytest.approx(0, abs=1e-6)


def test_small_micro_batches_are_one_large_one(tiny, world):
    trees = pairs(12)
    found = []
    for micro_tokens in (512, 48):
        model = tiny.model()
        split = batches(trees, micro_tokens, count="trees")
        metrics = accumulate(model, split, partial(dpo, beta=BETA), world)
        found.append((len(split), metrics, [p.grad for p in model.parameters()]))
    (one, whole, grads), (many, parts, others) = found
    assert one == 1 and many > 2
    assert {n: v.item() for n, v in parts.items()} == pytest.approx(
        {n: v.item() for n, v in whole.items()}, rel=1e-5, abs=1e-6
    )
    for grad, other in zip(grads, others, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-4, atol=1e-7)


def test_a_rank_without_pairs_adds_nothing_and_still_has_a_gradient(tiny):
    model = tiny.model()
    empty = batches(pairs(1), 512, count="trees", rank=1, ranks=2)[0]
    loss = dpo(forward(model, empty), empty)
    loss.total.backward()
    assert loss.count == 0 and not any(value.item() for value in loss.metrics.values())
    assert not any(p.grad.any() for p in model.parameters())
