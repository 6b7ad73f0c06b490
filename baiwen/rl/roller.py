"""The roller: takes prompts in their order, rolls out answers, and has them judged.

    roller = Roller(plan, prompts, sampler, score, world=world, folder=out, room=1024)
    rolled = roller.roll(7, updates=7, weights=whole(model))

What a step rolls out is a function of (seed, step, weights) and of the queue of prompts. All that
changes from one rollout to the next is here, and nothing of training is: so it may run ahead of
training, in a thread of its own (`ahead.py`).

A group whose answers are all worth the same teaches nothing. With `zero_variance = "drop"` further
prompts take the places of such groups, up to `refills` times; what is missing after that makes the
step smaller.

Under torchrun every rank rolls out its share of the prompts and hears of all groups. What differs
from one process is the rounding of matmuls over another number of tokens.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol

from baiwen import dist, log
from baiwen.dist import World
from baiwen.engine.request import Completion
from baiwen.engine.sampler import Sampling
from baiwen.errors import UserError
from baiwen.rl import groups, order
from baiwen.rl.ahead import Rolled
from baiwen.rl.groups import Group
from baiwen.rl.order import Order, Queue
from baiwen.rl.prompts import Prompt
from baiwen.rl.record import Alarms
from baiwen.rl.rewards import Reward, Score
from baiwen.rl.rollout import Sampler, Weights, roll_out
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


class Roller:
    """Rolls out. room: the most tokens of a prompt and its answer.

    respond: what is said to a turn of an answer, which may have `turns` of them. The sampler has
    the weights of the start when this is made: the order of the prompts is measured then.
    """

    def __init__(
        self,
        plan: Plan,
        prompts: Sequence[Prompt],
        sampler: Sampler,
        score: Score | None,
        *,
        world: World,
        folder: Path,
        room: int,
        respond: Answering | None = None,
        turns: int = 1,
    ) -> None:
        self.plan, self.prompts, self.sampler, self.score = plan, prompts, sampler, score
        self.world, self.folder, self.room = world, folder, room
        self.respond, self.turns = respond, turns
        self.orders = folder / "state" / "order"  # a run of another recipe must not find them
        self.measured = 0  # steps before the order was measured
        self.means: dict[int, float] = {}  # rewards of each prompt's answers when it was measured
        self._measure(0)
        self.queue = Queue(self._variances(), plan.seed)
        self._refuse_too_few()

    def roll(self, step: int, updates: int, weights: Weights) -> Rolled:
        """The rollout of the episode that begins with `step`, by weights that had `updates`."""
        self.sampler.update_weights(weights)
        every = self.plan.order.refresh
        if every and step // every > self.measured // every:
            self._measure(step)
            self._refuse_too_few()
            self.queue.reorder(self._variances())
        found = self._roll(step)
        self.sampler.pause()
        figures = groups.figures(found, self.means) | {"epoch": self.queue.epoch}
        return Rolled(updates, found, figures)

    def state(self) -> dict[str, Any]:
        """What the next rollouts depend on, beside weights: plain JSON."""
        return {"queue": self.queue.state(), "measured": self.measured}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.measured = state["measured"]
        self.queue = Queue(self._variances(), self.plan.seed)
        self.queue.restore(state["queue"])

    def close(self) -> None:
        """Leave the orders beside the model."""
        if self.world.main and self.orders.is_dir():
            shutil.copytree(self.orders, self.folder / "order", dirs_exist_ok=True)

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

    def _groups(self, numbers: Sequence[int], label: str, samples: int) -> list[Group]:
        """The groups of these prompts, rolled out and judged by all ranks together."""
        plan, ranks = self.plan, self.world.size
        mine = [self.prompts[number] for number in numbers[self.world.rank :: ranks]]
        respond = self.respond
        self.world.at("rolling out")
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
        dist.catch_up(self.world)  # some have longer answers
        rows = dist.gather(self.world, [asdict(group) for group in made])
        return [Group.of(rows[place % ranks][place // ranks]) for place in range(len(numbers))]

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
                f"there are {there:,} with a variance of order.least = {self.plan.order.least} or "
                "more. Lower prompts_per_step or order.least, or give more prompts."
            )


def _seed(seed: int, label: str) -> int:
    """A seed of its own for each purpose."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {label}".encode(), digest_size=7).digest())
