"""The ranking loss over packed trees against the formula over single sequences."""

import itertools

import pytest
import torch
from torch.nn.functional import logsigmoid

from baiwen.data.tree import Tree
from baiwen.data.trees import batches
from baiwen.model.reward import RewardModel, Rewards
from baiwen.train.ranking import answer_rewards, ranking

RANKS = [(1, 0), (1, 0, 0), (0, 1, 1, 0, 1), (0, 2, 1)]


def trees(seed=0, ranks=RANKS):
    """A prompt for each of `ranks`, with answers of random ids and lengths."""
    g = torch.Generator().manual_seed(seed)

    def ids(least, most):
        size = int(torch.randint(least, most, (), generator=g))
        return torch.randint(0, 96, (size,), generator=g).tolist()

    return [Tree(ids(1, 9), [ids(1, 7) for _ in r], values={"rank": r}) for r in ranks]


@pytest.fixture
def model(tiny):
    torch.manual_seed(0)
    made = RewardModel(tiny.CONFIG)
    made.init_weights(1)
    return made.double()


def forward(model, batch):
    return model(batch.tokens, positions=batch.positions, documents=batch.documents)


def plain(model, given, center=0.0):
    """Each answer a sequence of its own; the loss by two loops, as the formula has it."""
    losses, hits, margins, scores = [], [], [], []
    for tree in given:
        found = []
        for answer in tree.answers:
            hidden, _ = model.states(torch.tensor([[*tree.prompt, *answer]]))
            first, relu, second = model.score
            found.append(second(relu(first(hidden[0, -1])))[0])
        both = list(zip(found, tree.values["rank"], strict=True))
        pairs = [(a, b) for (a, i), (b, j) in itertools.product(both, both) if i > j]
        terms = [-logsigmoid(a - b) + center * (a + b) ** 2 for a, b in pairs]
        losses.append(sum(terms) / len(pairs))
        hits.append(sum(a > b for a, b in pairs) / len(pairs))
        margins.append(sum(a - b for a, b in pairs) / len(pairs))
        scores.append(sum((a + b) / 2 for a, b in pairs) / len(pairs))
    return [sum(values) for values in (losses, hits, margins, scores)]


@pytest.mark.parametrize("center", [0.0, 0.01])
@pytest.mark.parametrize("micro_tokens", [40, 400])
def test_loss_metrics_and_gradients_are_those_of_the_plain_formula(model, center, micro_tokens):
    given = trees()
    made = batches(given, micro_tokens, count="trees")
    found = [ranking(forward(model, batch), batch, center=center) for batch in made]
    total, hits, margins, scores = plain(model, given, center)
    assert sum(loss.count for loss in found) == len(given)
    told = {name: sum(loss.metrics[name] for loss in found) for name in found[0].metrics}
    torch.testing.assert_close(sum(loss.total for loss in found), total, rtol=1e-6, atol=1e-9)
    if not center:
        torch.testing.assert_close(told["loss"], total.detach(), rtol=1e-6, atol=1e-9)
    assert told["accuracy"] == pytest.approx(float(hits))
    assert told["margin"] == pytest.approx(margins.item(), rel=1e-5)
    assert told["score"] == pytest.approx(scores.item(), rel=1e-5)
    ours = torch.autograd.grad(sum(loss.total for loss in found), model.parameters())
    theirs = torch.autograd.grad(total, model.parameters())
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


def test_one_right_and_one_wrong_answer_is_the_loss_of_bradley_and_terry(model):
    (batch,) = batches(trees(ranks=[(1, 0)] * 5), 400, count="trees")
    outputs = forward(model, batch)
    chosen, rejected = answer_rewards(outputs, batch).view(-1, 2).unbind(1)
    expected = -logsigmoid(chosen - rejected).sum() + 0.1 * ((chosen + rejected) ** 2).sum()
    torch.testing.assert_close(ranking(outputs, batch, center=0.1).total, expected)


def test_what_ranks_the_same_is_not_compared(model):
    (batch,) = batches(trees(ranks=[(1, 1, 1), (0, 0)]), 400, count="trees")
    loss = ranking(forward(model, batch), batch)
    assert loss.total == 0 and loss.metrics["loss"] == 0


def test_an_empty_micro_batch_gives_every_parameter_a_gradient_of_0(model):
    """Under FSDP2 a rank without answers must take part in every backward pass."""
    batch = batches(trees(ranks=[(1, 0)]), 400, count="trees", rank=1, ranks=2)[0]
    assert batch.count == 0
    ranking(forward(model, batch), batch).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


def test_large_margins_keep_finite_gradients():
    (batch,) = batches(trees(ranks=[(1, 0)]), 400, count="trees")
    rewards = torch.zeros(len(batch.documents.lengths))
    rewards[1:] = torch.tensor([-1e4, 1e4])
    rewards.requires_grad_()
    loss = ranking(Rewards(rewards), batch)
    loss.total.backward()
    assert loss.total == 2e4 and rewards.grad.isfinite().all()


def test_a_reward_model_learns_which_counts_up(tiny, tmp_path):
    tiny.run(tmp_path, steps=40, kind="reward", schedule="constant")
    rows = tiny.metrics(tmp_path)
    assert {"loss", "accuracy", "margin", "score", "heldout_loss"} <= rows[-1].keys()
    assert rows[-1]["heldout_loss"] < 0.3 < rows[0]["loss"]
    assert rows[-1]["accuracy"] > 0.9


def test_a_reward_model_goes_on_in_the_same_bits(tiny, tmp_path):
    tiny.run(tmp_path / "whole", steps=9, kind="reward", schedule="constant")
    tiny.run(tmp_path / "parts", steps=6, kind="reward", schedule="constant")
    tiny.run(tmp_path / "parts", steps=9, kind="reward", schedule="constant")
    assert tiny.weights(tmp_path / "parts") == tiny.weights(tmp_path / "whole")
    assert tiny.metrics(tmp_path / "parts") == tiny.metrics(tmp_path / "whole")
