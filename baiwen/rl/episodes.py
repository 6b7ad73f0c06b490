"""Episodes: prompts are taken, rolled out, judged, and served to the loop as batches of trees.

    source = Episodes(plan, prompts, model, sampler, score, world=world, folder=out, room=1024)
    train(model, source.batches, partial(policy, ...), source=source, ...)

An episode is one rollout and the updates on it, `steps_per_rollout` of them. What a step rolls out
is a function of (seed, step, weights) and of the queue of prompts, whose state each checkpoint has:
a run that is killed in the middle of a rollout rolls out the same answers again.

A group whose answers are all worth the same teaches nothing. With `zero_variance = "drop"` further
prompts take the places of such groups, up to `refills` times; what is missing after that makes the
step smaller.

Under torchrun every rank rolls out its share of the prompts and hears of all groups. What differs
from one process is the rounding of matmuls over another number of tokens.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from baiwen import dist, log
from baiwen.data import trees
from baiwen.data.trees import Tree, TreeBatch
from baiwen.dist import World
from baiwen.engine.request import Completion
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.model.transformer import Transformer
from baiwen.rl import groups, order
from baiwen.rl.ahead import Ahead, Rolled, Weights
from baiwen.rl.groups import Group
from baiwen.rl.order import Order, Queue
from baiwen.rl.prompts import Prompt
from baiwen.rl.record import Alarms, Rollouts, Watch
from baiwen.rl.rewards import Reward, Score
from baiwen.rl.rollout import Sampler, roll_out, whole
from baiwen.train.logprobs import logprobs
from baiwen.train.loop import to_device
from baiwen.train.parallel import release
from baiwen.train.policy import ALGORITHMS, Name

MEASURED = 64  # prompts that are measured together, for progress to show

# What follows a turn of an answer to a prompt, in ids; none: the answer is over.
Answering = Callable[[Prompt, Completion], Sequence[int]]


class Plan(Protocol):
    """The knobs that rollouts depend on."""

    prompts_per_step: int
    samples_per_prompt: int
    steps_per_rollout: int
    zero_variance: Literal["drop", "keep"]
    refills: int
    max_tokens: int
    temperature: float
    micro_tokens: int
    algorithm: Name
    seed: int
    reward: Reward
    order: Order
    alarms: Alarms


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
        self.plan, self.prompts, self.world, self.folder = plan, prompts, world, folder
        self.model, self.sampler, self.reference = model, sampler, reference
        self.score, self.room = score, room
        self.respond, self.turns, self.decode = respond, turns, decode
        self.ahead = Ahead(self._rolled, staleness, plan.steps_per_rollout, steps)
        self.rollouts, self.watch = Rollouts(folder), Watch(plan.alarms, folder, world.main)
        self.orders = folder / "state" / "order"  # a run of another recipe must not find them
        self.measured = 0  # steps before the order was measured
        self.served = 0  # steps
        self.left: list[list[Group]] = []  # of the episode, by step
        self.figures: dict[str, float] = {}  # of its rollout
        self.updates = 0  # that its weights had had
        self.means: dict[int, float] = {}  # rewards of each prompt's answers when it was measured
        sampler.update_weights(whole(model))
        self._measure(0)
        self.queue = Queue(self._variances(), plan.seed)
        self._refuse_too_few()

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
            "queue": self.queue.state(),
            "measured": self.measured,
            "watch": self.watch.state(),
            "figures": self.figures,
            "updates": self.updates,
            "left": [[asdict(group) for group in step] for step in self.left],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.measured = state["measured"]
        self.queue = Queue(self._variances(), self.plan.seed)
        self.queue.restore(state["queue"])
        self.watch.restore(state["watch"])
        self.figures, self.updates = state["figures"], state["updates"]
        self.ahead.restore(state["ahead"])
        self.left = [[Group.of(row) for row in step] for step in state["left"]]

    def close(self) -> None:
        """Leave the orders and the alarms beside the model."""
        self.watch.write()
        if self.world.main and self.orders.is_dir():
            shutil.copytree(self.orders, self.folder / "order", dirs_exist_ok=True)

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

    def _rolled(self, step: int, updates: int, weights: Weights) -> Rolled:
        """The rollout of the episode that begins with `step`, by weights that had `updates`."""
        self.sampler.update_weights(weights)
        every = self.plan.order.refresh
        if every and step // every > self.measured // every:
            self._measure(step)
            self.queue.reorder(self._variances())
        found = self._roll(step)
        self.sampler.pause()
        figures = groups.figures(found, self.means) | {"epoch": self.queue.epoch}
        return Rolled(updates, found, figures)

    def _roll(self, step: int) -> list[Group]:
        """All groups of an episode: those that are wanted, and further ones for those in vain."""
        wanted = self.plan.prompts_per_step * self.plan.steps_per_rollout
        found: list[Group] = []
        for turn in range(1 + self.plan.refills * (self.plan.zero_variance == "drop")):
            missing = wanted - sum(group.useful for group in found)
            if missing:
                taken = self.queue.take(missing)
                found += self._groups(taken, f"{step} {turn}", self.plan.samples_per_prompt)
        return found

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

    def _groups(self, numbers: Sequence[int], label: str, samples: int) -> list[Group]:
        """The groups of these prompts, rolled out and judged by all ranks together."""
        plan, ranks = self.plan, self.world.size
        mine = [self.prompts[number] for number in numbers[self.world.rank :: ranks]]
        respond = self.respond
        answers = roll_out(
            self.sampler,
            [prompt.ids for prompt in mine],
            Sampling(
                temperature=plan.temperature,
                max_tokens=plan.max_tokens,
                n=samples,
                seed=_seed(plan.seed, label),
            ),
            room=self.room,
            respond=respond and (lambda place, turn: respond(mine[place], turn)),
            turns=self.turns,
        )
        normalised = ALGORITHMS[plan.algorithm].normalised
        made = groups.judged(mine, answers, plan.reward, plan.max_tokens, self.score, normalised)
        if ranks == 1:
            return made
        rows = dist.gather(self.world, [asdict(group) for group in made])
        return [Group.of(rows[place % ranks][place // ranks]) for place in range(len(numbers))]

    # Batches.

    def _trees(self, share: Sequence[Group]) -> list[Tree]:
        return [
            tree
            for group in share
            for tree in groups.trees_of(group, self.prompts[group.prompt], self.plan.micro_tokens)
        ]

    def _batches(self, made: Sequence[Tree]) -> list[TreeBatch]:
        """This rank's micro-batches of these trees."""
        count = ALGORITHMS[self.plan.algorithm].count
        rank, ranks = self.world.rank, self.world.size
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
        every = sorted(pair for pairs in dist.gather(self.world, here) for pair in pairs)
        answers = iter([logps for _, logps in every])
        return [group.remembering(answers) for group in share]

    @torch.no_grad()
    def _logprobs(self, model: Transformer, batches: Sequence[TreeBatch]) -> list[Tensor]:
        """Log-probabilities [N] of each batch's tokens under a model, as training computes them."""
        found, unit = [], self.plan.temperature
        with self.world.autocast():
            for batch in batches:
                placed = to_device(batch, self.world.device)
                given = {"positions": placed.positions, "documents": placed.documents}
                out = model(placed.tokens, **given)
                head = out.hidden, out.head, placed.targets, placed.mask
                found.append(logprobs(*head, temperature=unit)[0])
        release(model)
        return found

    # The order of prompts.

    def _measure(self, step: int) -> None:
        """Find out how much the sampler's answers differ, unless an earlier process did."""
        self.measured = step
        path = order.path_of(self.orders, step)
        if not self.plan.order.by_variance or dist.gather(self.world, path.is_file())[0]:
            return
        if step == 0 and self.plan.order.answers:
            rows = order.from_answers(self.plan.order.answers, self.prompts)
        else:
            samples = self.plan.order.samples or self.plan.samples_per_prompt
            firsts = range(0, len(self.prompts), MEASURED)
            rows = [
                order.measured(group.prompt, group.rewards)
                for first in log.track(firsts, "variance of answers", unit="x 64 prompts")
                for group in self._groups(
                    range(len(self.prompts))[first : first + MEASURED], f"order {step}", samples
                )
            ]
        if self.world.main:
            order.write(path, rows)
        dist.barrier(self.world)

    def _variances(self) -> dict[int, float]:
        """Those of the order that counts, by the number of the prompt."""
        if not self.plan.order.by_variance:
            return {prompt.number: 0.0 for prompt in self.prompts}
        path = order.path_of(self.orders, self.measured)
        # What `pairs` has measured are verdicts.
        if self.plan.reward.by == "verifier" or self.measured or not self.plan.order.answers:
            self.means = order.means(path)
        return order.variances(path, self.plan.order.least)

    def _refuse_too_few(self) -> None:
        wanted = self.plan.prompts_per_step * self.plan.steps_per_rollout
        there = len(self._variances())
        if there < wanted:
            raise UserError(
                f"a rollout takes {wanted:,} prompts (prompts_per_step x steps_per_rollout), and "
                f"there are {there:,}. Lower prompts_per_step, or give more prompts."
            )


def _refuse_ranks(staleness: int, world: World) -> None:
    if staleness and world.size > 1:
        raise UserError(
            f"workers.staleness = {staleness} needs a single training process; there are "
            f"{world.size}. Give staleness = 0, or start without torchrun."
        )


def _seed(seed: int, label: str) -> int:
    """A seed of its own for each purpose."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {label}".encode(), digest_size=7).digest())
