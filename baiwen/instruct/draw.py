"""Drawing instances: what is trained on, what is held out, both functions of (kinds, seed).

    training(["counting", "table"], seed=0, stream="train")    -> counting, table, counting, ...
    conversations(["counting", "table"], seed=0, turns=3)      -> lists of one to three instances
    demonstrations({"any_person": 2, "table": 1}, seed=0)      -> any_person, table, any_person
    heldout("counting", count=50, seed=0)                      -> 50 instances, all different
    prompts(["counting", "table"], 50, seed=0, taught={...})   -> 50 others, all different

What is trained on and what is held out never meet: a hash of the instance, not the draw, says to
which it may go. Prompts, for post-training to answer, are of the side that is trained on.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import cycle, islice
from random import Random

from baiwen.errors import UserError
from baiwen.instruct import (
    any_call,
    any_person,
    any_repeat,
    arithmetic,
    counting,
    extraction,
    instruction,
    number_sorting,
    table,
    tool_call,
    word_sorting,
)
from baiwen.instruct.task import HELDOUT_SHARE, Task, instances
from baiwen.mistakes import nearest

PRODUCERS: dict[str, Callable[[Random], Task]] = {
    "any_call": any_call.produce,
    "any_person": any_person.produce,
    "any_repeat": any_repeat.produce,
    "arithmetic": arithmetic.produce,
    "counting": counting.produce,
    "extraction": extraction.produce,
    "instruction": instruction.produce,
    "number_sorting": number_sorting.produce,
    "table": table.produce,
    "tool_call": tool_call.produce,
    "word_sorting": word_sorting.produce,
}
KINDS = tuple(PRODUCERS)
WITH_TOOLS = ("any_call", "tool_call")

_PATIENCE = 50  # how many times the expected number of draws may be needed for new held-out ones


def training(kinds: Sequence[str], seed: int, stream: str) -> Iterator[Task]:
    """Endless instances that are not held out, the kinds taking turns; `stream` names the draw.

    A kind that stands in `kinds` twice has two turns, of different instances.
    """
    drawn = [_drawn(kind, seed, f"{stream}/{turn}") for turn, kind in enumerate(kinds)]
    for source in cycle(drawn):
        yield next(task for task in source if not task.heldout)


def conversations(kinds: Sequence[str], seed: int, turns: int) -> Iterator[list[Task]]:
    """Endless lists of one to `turns` instances, one conversation each.

    Only the first may offer tools: what follows is answered without them.
    """
    first = training(kinds, seed, "train")
    plain = [kind for kind in kinds if kind not in WITH_TOOLS]
    follow = training(plain, seed, "follow") if plain else iter(())
    for index, task in enumerate(first):
        more = Random(f"{seed}/turns/{index}").randrange(turns)
        yield [task, *islice(follow, more)]


def demonstrations(counts: Mapping[str, int], seed: int) -> Iterator[Task]:
    """So many instances of each kind, the kinds taking turns as long as they last."""
    for turn in range(max(counts.values(), default=0)):
        for kind in (kind for kind, count in counts.items() if turn < count):
            yield next(training([kind], seed, f"demonstration {turn}"))


def heldout(kind: str, count: int, seed: int) -> Iterator[Task]:
    """`count` different held-out instances; a `UserError` where the kind has not that many."""
    seen: set[str] = set()
    for task in islice(_drawn(kind, seed, "heldout"), _PATIENCE * HELDOUT_SHARE * count):
        if len(seen) == count:
            return
        if task.heldout and task.key not in seen:
            seen.add(task.key)
            yield task
    if len(seen) < count:
        raise UserError(
            f"heldout = {count}: the kind {kind!r} gave only {len(seen)} different held-out "
            f"instances.\nLower heldout, or make the kind harder in baiwen/instruct/{kind}.py."
        )


def prompts(
    kinds: Sequence[str], count: int, seed: int, taught: Set[tuple[str, str]]
) -> Iterator[Task]:
    """`count` different instances, the kinds in turn, neither held out nor `taught` (kind, key).

    A kind that stands in `kinds` twice has two turns. A `UserError` where a kind has not that many.
    """
    seen, given = set(taught), Counter[str]()
    drawn = {kind: _drawn(kind, seed, "prompts") for kind in kinds}
    for kind in islice(cycle(kinds), count):
        tries = islice(drawn[kind], _PATIENCE * HELDOUT_SHARE)
        fresh = (task for task in tries if not task.heldout and (kind, task.key) not in seen)
        task = next(fresh, None)
        if task is None:
            raise UserError(
                f"prompts = {count}: the kind {kind!r} gave only {given[kind]} instances "
                "that the conversations do not teach.\nLower prompts or train, or make the kind "
                f"harder in baiwen/instruct/{kind}.py."
            )
        seen.add((kind, task.key))
        given[kind] += 1
        yield task


def producer(kind: str) -> Callable[[Random], Task]:
    """What draws the instances of a kind; a `UserError` where there is no such kind."""
    if kind not in PRODUCERS:
        hint = nearest(kind, KINDS)
        raise UserError(f"no task kind {kind!r}; there are {', '.join(KINDS)}.{hint}")
    return PRODUCERS[kind]


def _drawn(kind: str, seed: int, stream: str) -> Iterator[Task]:
    return instances(producer(kind), Random(f"{seed}/{kind}/{stream}"))
