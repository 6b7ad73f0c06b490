"""Episodes: prompts are taken, rolled out, judged, and served to the loop as batches of trees.

    source = Episodes(plan, prompts, model, sampler, score, world=world, folder=out, room=1024)
    train(model, source.batches, partial(policy, ...), source=source, ...)

An episode is one rollout (`roller.py`) and the updates on it, `steps_per_rollout` of them. Each
checkpoint has the state of the roller, and the groups that are rolled out and not yet trained on:
a run that is killed in the middle of a rollout rolls out the same answers again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baiwen import dist
from baiwen.data import trees
from baiwen.data.tree import Tree
from baiwen.data.trees import TreeBatch
from baiwen.dist import World
from baiwen.errors import UserError
from baiwen.model.transformer import Transformer
from baiwen.rl import groups
from baiwen.rl.ahead import Ahead
from baiwen.rl.groups import Group
from baiwen.rl.prompts import Prompt
from baiwen.rl.record import Rollouts, Watch
from baiwen.rl.rewards import Score
from baiwen.rl.roller import Answering, Plan, Roller
from baiwen.rl.rollout import Sampler, whole
from baiwen.train.logprobs import logprobs
from baiwen.train.loop import to_device
from baiwen.train.parallel import release
from baiwen.train.policy import ALGORITHMS


class Episodes:
    """Rolls out and serves: the `source` of the loop.

    The model is as it starts when this is made: the order of the prompts is measured then.
    room: the most tokens of a prompt and its answer. respond: what is said to a turn of an answer,
    which may have `turns` of them; decode: an answer's ids as text, for the record of those that
    have several. staleness: updates that the weights of a rollout may be old; then `steps` is
    where the run ends, and the sampler has weights of its own.
    """

    def __init__(
        self,
        plan: Plan,
        prompts: Sequence[Prompt],
        model: Transformer,
        sampler: Sampler,
        score: Score | None,
        *,
        world: World,
        folder: Path,
        room: int,
        reference: Transformer | None = None,
        respond: Answering | None = None,
        turns: int = 1,
        decode: Callable[[Sequence[int]], str] | None = None,
        staleness: int = 0,
        steps: int = 0,
    ) -> None:
        _refuse_ranks(staleness, world)
        self.plan, self.prompts, self.world = plan, prompts, world
        self.model, self.reference, self.decode = model, reference, decode
        self.rollouts, self.watch = Rollouts(folder), Watch(plan.alarms, folder, world.main)
        self.served = 0  # steps
        self.left: list[list[Group]] = []  # of the episode, by step
        self.figures: dict[str, float] = {}  # of its rollout
        self.updates = 0  # that its weights had had
        sampler.update_weights(whole(model))
        self.roller = Roller(
            *(plan, prompts, sampler, score),
            world=world,
            folder=folder,
            room=room,
            respond=respond,
            turns=turns,
        )
        self.ahead = Ahead(self.roller.roll, staleness, plan.steps_per_rollout, steps)

    def batches(self, step: int) -> list[TreeBatch]:
        """This rank's micro-batches of the `step`th update, from 0."""
        if not self.left:
            self._begin(step)
        self.served = step + 1
        made = self._batches(self._trees(self.left.pop(0)))
        if self.reference is not None:
            for batch, found in zip(made, self._logprobs(self.reference, made), strict=True):
                batch.values["ref_logprobs"] = found
        return made

    def metrics(self, step: Mapping[str, float]) -> dict[str, float]:
        """Those of the rollout, and how many alarms ring."""
        told = {**self.figures, "staleness": self.served - 1 - self.updates}
        return told | {"alarms": self.watch.look(self.served, {**step, **told})}

    def state(self) -> dict[str, Any]:
        """What the next steps depend on."""
        ahead = self.ahead.state()  # waits: after it nothing moves
        return {
            "ahead": ahead,
            "roller": self.roller.state(),
            "watch": self.watch.state(),
            "figures": self.figures,
            "updates": self.updates,
            "left": [[asdict(group) for group in step] for step in self.left],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.roller.restore(state["roller"])
        self.watch.restore(state["watch"])
        self.figures, self.updates = state["figures"], state["updates"]
        self.ahead.restore(state["ahead"])
        self.left = [[Group.of(row) for row in step] for step in state["left"]]

    def close(self) -> None:
        """Leave the orders and the alarms beside the model."""
        self.watch.write()
        self.roller.close()

    # An episode.

    def _begin(self, step: int) -> None:
        """Take the answers of this step and those that share its rollout."""
        plan = self.plan
        rolled = self.ahead.take(step, self.model)
        self.figures, self.updates = rolled.figures, rolled.updates
        found = rolled.groups
        kept = self._kept(found, step)
        if self.world.main:
            trained = {id(group) for group in kept}
            rows = [
                group.rows(self.prompts[group.prompt], id(group) in trained, self.decode)
                for group in found
            ]
            self.rollouts.write(step + 1, [row for of_group in rows for row in of_group])
        shares = [kept[turn :: plan.steps_per_rollout] for turn in range(plan.steps_per_rollout)]
        self.left = [shares[0], *(self._remembered(share) for share in shares[1:])]

    def _kept(self, found: Sequence[Group], step: int) -> list[Group]:
        """The groups to train on; where none is useful, those without variance, which move little.

        UserError where nothing can be trained on at all.
        """
        useful = [group for group in found if group.useful]
        if self.plan.zero_variance == "keep" or len(useful) < self.plan.steps_per_rollout:
            useful = [group for group in found if group.kept]
        if len(useful) < self.plan.steps_per_rollout:
            verdicts = {one.verdict for group in found for one in group.judged}
            raise UserError(
                f"step {step + 1}: of {len(found)} prompts rolled out, {len(useful)} have answers "
                f"that can be trained on (verdicts: {', '.join(map(str, verdicts))}).\n"
                "Look at the verifiers and truths of the prompts, or raise max_tokens."
            )
        return useful

    # Batches.

    def _trees(self, share: Sequence[Group]) -> list[Tree]:
        return [
            tree
            for group in share
            for tree in groups.trees_of(
                group, self.prompts[group.prompt], self.plan.micro_tokens, self.model.config
            )
        ]

    def _batches(self, made: Sequence[Tree]) -> list[TreeBatch]:
        """This rank's micro-batches of these trees."""
        count = ALGORITHMS[self.plan.algorithm].count
        rank, ranks = self.world.share, self.world.shares
        return trees.batches(made, self.plan.micro_tokens, count=count, rank=rank, ranks=ranks)

    def _remembered(self, share: Sequence[Group]) -> list[Group]:
        """The groups with the log-probabilities that the model gives their answers by now."""
        places = count()
        made = [
            replace(tree, values={**tree.values, "place": [next(places) for _ in tree.answers]})
            for tree in self._trees(share)
        ]
        batches = self._batches(made)
        here = [
            (int(place), found[batch.answer == number].tolist())
            for batch, found in zip(batches, self._logprobs(self.model, batches), strict=True)
            for number, place in enumerate(batch.values["place"])
        ]
        # Ranks that share matrices have computed the same answers.
        known = dict(chain(*dist.gather(self.world, here)))
        answers = iter([known[place] for place in sorted(known)])
        return [group.remembering(answers) for group in share]

    @torch.no_grad()
    def _logprobs(self, model: Transformer, batches: Sequence[TreeBatch]) -> list[Tensor]:
        """Log-probabilities [N] of each batch's tokens under a model, as training computes them."""
        found, unit = [], self.plan.temperature
        with self.world.autocast():
            for batch in batches:
                placed = to_device(batch, self.world.device)
                # The reference is another model: its routers choose for themselves.
                chosen = None if model is self.reference else placed.chosen
                given = {"positions": placed.positions, "documents": placed.documents}
                out = model(placed.tokens, **given, chosen=chosen)
                head = out.hidden, out.head, placed.targets, placed.mask
                found.append(logprobs(*head, temperature=unit)[0])
        release(model)
        return found


def _refuse_ranks(staleness: int, world: World) -> None:
    if staleness and world.size > 1:
        raise UserError(
            f"workers.staleness = {staleness} needs a single training process; there are "
            f"{world.size}. Give staleness = 0, or start without torchrun."
        )
