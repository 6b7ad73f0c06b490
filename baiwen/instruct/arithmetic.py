"""Arithmetic with the steps written out, a column a line, units first.

    What is 47 + 385?      7+5=12            Work out 432 - 385.      12-5=7 borrow 1
                           4+8+1=13                                   12-8=4 borrow 1
                           3+1=4                                      3-3=0
                           47+385=432                                 432-385=47

Sums and differences are drawn by reasoning-gym's `chain_sum`; a product has one factor of one
digit.
"""

from functools import cache
from random import Random

import reasoning_gym
from reasoning_gym.dataset import ProceduralDataset

from baiwen.instruct.task import Task, chinese

# Difficulty: the most digits of a term or a factor.
DIGITS = 3
PRODUCT_SHARE = 0.25  # of the instances; the rest are sums and differences

ENGLISH = ("What is {}?", "Work out {}.", "Calculate {}.", "{} = ?", "How much is {}?")
CHINESE = ("{}等于多少？", "计算{}。", "请算一算：{}")


def produce(rng: Random) -> Task:
    """A sum, a difference that is not negative, or a product."""
    left, sign, right = _product(rng) if rng.random() < PRODUCT_SHARE else _chain(rng)
    steps, result = _STEPS[sign](left, right)
    phrasing = rng.choice(CHINESE if chinese(rng) else ENGLISH)
    return Task(
        kind="arithmetic",
        prompt=phrasing.format(f"{left} {sign} {right}"),
        reply="\n".join([*steps, f"{left}{sign}{right}={result}"]),
        answer=str(result),
        verifier="number",
        key=_key(left, sign, right),
    )


def add(left: int, right: int) -> tuple[list[str], int]:
    """The columns of `left + right`, each the sum of its digits and the carry, and the sum."""
    steps, carry = [], 0
    for at in range(max(len(str(left)), len(str(right)))):
        terms = [term // 10**at % 10 for term in (left, right) if len(str(term)) > at]
        terms += [carry] if carry else []
        carry = sum(terms) // 10
        steps.append(f"{'+'.join(map(str, terms))}={sum(terms)}")
    return steps, left + right


def subtract(left: int, right: int) -> tuple[list[str], int]:
    """The columns of `left - right`, `left >= right`, each with what it borrows, and the rest."""
    steps, borrow = [], 0
    for at in range(len(str(left))):
        above, below = left // 10**at % 10 - borrow, right // 10**at % 10
        borrow = int(above < below)
        above += 10 * borrow
        steps.append(f"{above}-{below}={above - below}{' borrow 1' if borrow else ''}")
    return steps, left - right


def multiply(left: int, right: int) -> tuple[list[str], int]:
    """The columns of `left * right`, `right < 10`, each with the carry, and the product."""
    steps, carry = [], 0
    for digit in map(int, reversed(str(left))):
        product = digit * right + carry
        steps.append(f"{digit}*{right}{f'+{carry}' if carry else ''}={product}")
        carry = product // 10
    return steps, left * right


_STEPS = {"+": add, "-": subtract, "*": multiply}


def _chain(rng: Random) -> tuple[int, str, int]:
    item = _sums()[rng.getrandbits(31)]
    left, sign, right = item["metadata"]["expression"].split()
    first, second = int(left), int(right)
    return (second, sign, first) if sign == "-" and first < second else (first, sign, second)


@cache
def _sums() -> ProceduralDataset:
    return reasoning_gym.create_dataset(
        "chain_sum", min_terms=2, max_terms=2, min_digits=2, max_digits=DIGITS, seed=0, size=2**31
    )


def _product(rng: Random) -> tuple[int, str, int]:
    digits = rng.randint(2, DIGITS)
    return rng.randrange(10 ** (digits - 1), 10**digits), "*", rng.randint(2, 9)


def _key(left: int, sign: str, right: int) -> str:
    ordered = (left, right) if sign == "-" else sorted((left, right))  # 3 + 4 is 4 + 3
    return sign.join(map(str, ordered))
