"""Log-probabilities of the reference are read where they are those of this model, else made."""

from dataclasses import replace

import pytest
import torch

from baiwen.data.tree import Tree
from baiwen.data.trees import batches
from baiwen.errors import UserError
from baiwen.train import references
from baiwen.train.references import Part, reference_logprobs

PROMPT = [3, 1, 4, 1]
ANSWERS = [[5, 9, 2], [6]]
MASKS = [[1.0, 0.0, 1.0], [1.0]]


def part(name="pairs"):
    tree = Tree(PROMPT, ANSWERS, MASKS, values={"place": [0, 1]})
    return Part(name, 2, lambda: batches([tree], 64, count="trees"))


def plain(model):
    """The sums over each answer's learned tokens, each conversation read by itself."""
    sums = []
    for answer, mask in zip(ANSWERS, MASKS, strict=True):
        logps = model.logits(torch.tensor([PROMPT + answer]))[0, len(PROMPT) - 1 : -1]
        of_tokens = logps.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]
        sums.append(of_tokens @ torch.tensor(mask))
    return torch.stack(sums)


@pytest.fixture
def computed(monkeypatch):
    """The parts that were computed and not read."""
    names, compute = [], references.compute
    monkeypatch.setattr(
        references,
        "compute",
        lambda model, one, world: names.append(one.fingerprint) or compute(model, one, world),
    )
    return names


def test_they_are_computed_once_and_then_read(tiny, world, tmp_path, computed):
    model = tiny.model()
    first = reference_logprobs(model, [part("a"), part("b")], tmp_path, world)
    torch.testing.assert_close(first, plain(model).repeat(2), rtol=1e-5, atol=1e-5)
    again = reference_logprobs(model, [part("b"), part("c")], tmp_path, world)
    assert torch.equal(first, again) and computed == ["a", "b", "c"]


def test_the_same_weights_with_another_rope_are_another_model(tiny, world, tmp_path, computed):
    other = tiny.model(replace(tiny.CONFIG, rope_theta=100.0))
    first = reference_logprobs(tiny.model(), [part()], tmp_path, world)
    found = reference_logprobs(other, [part()], tmp_path, world)
    assert len(computed) == 2 and not torch.equal(first, found)
    torch.testing.assert_close(found, plain(other), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("damage", ["torn", "another shape"])
def test_a_damaged_file_is_made_again(tiny, world, tmp_path, computed, damage):
    first = reference_logprobs(tiny.model(), [part()], tmp_path, world)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if damage == "torn" else references.save({"logprobs": first[:1]}))
    assert torch.equal(first, reference_logprobs(tiny.model(), [part()], tmp_path, world))
    assert len(computed) == 2 and path.read_bytes() == whole


def test_a_reference_that_is_not_finite_is_refused_and_not_kept(tiny, world, tmp_path):
    model = tiny.model()
    model.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="log-probability nan: it is no reference"):
        reference_logprobs(model, [part()], tmp_path, world)
    assert not any(tmp_path.iterdir())


def test_the_key_changes_with_any_weight(tiny):
    model = tiny.model()
    before = references.model_key(model)
    assert before == references.model_key(tiny.model())
    with torch.no_grad():
        model.model.norm.weight[3] += 1e-6
    assert references.model_key(model) != before
