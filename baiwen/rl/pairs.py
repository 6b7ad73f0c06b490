"""Preference pairs: of a prompt's judged answers, a right one beside a wrong one of like length.

    answers = [Answer("7+5=12\\n47+35=82", right, 14, "stop"), Answer("47+35=72", wrong, 9, "stop")]
    for choice in choose([answers, ...], Rule(most=2)):
        choice.pairs, choice.reason        # or why this prompt gives none

Verified right is positive, wrong is negative (report, section 4.2); an answer that no verifier
could judge is neither. Length must tell nothing about which is which: a pair whose lengths differ
by more than `Rule.length_gap` is none, and of the others that one goes first whose difference and
the sum of all differences up to it are together the least.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from baiwen.errors import UserError
from baiwen.tokenizer import chat, control
from baiwen.tokenizer.parse import parse
from baiwen.verify import Verdict

Reason = Literal["all right", "all wrong", "undecided", "truncated", "no message", "lengths"]
REASONS: tuple[Reason, ...] = (
    "all right",
    "all wrong",
    "undecided",  # some are, and the others are all right or all wrong
    "truncated",  # all right or all wrong answers are
    "no message",  # nor can all right or all wrong ones be written as one
    "lengths",  # of right and wrong answers differ too much
)


@dataclass(frozen=True)
class Answer:
    """One answer and what a verifier said to it."""

    text: str  # without its end marker
    verdict: Verdict
    tokens: int  # with it
    finish_reason: str  # stop, or length: it was cut

    @property
    def whole(self) -> bool:
        """Whether it came to its own end."""
        return self.finish_reason == "stop"


@dataclass(frozen=True)
class Pair:
    """A right answer and a wrong one."""

    chosen: Answer
    rejected: Answer

    @property
    def gap(self) -> int:
        """By how many tokens the right one is longer."""
        return self.chosen.tokens - self.rejected.tokens


@dataclass(frozen=True)
class Rule:
    """Which pairs are made."""

    most: int = 2  # of a prompt
    length_gap: float = 0.5  # by which lengths differ at most, a share of the longer one
    truncated: bool = False  # whether a wrong answer that was cut is a negative

    def allows(self, pair: Pair) -> bool:
        """Whether the lengths are near enough."""
        longer = max(pair.chosen.tokens, pair.rejected.tokens)
        return abs(pair.gap) <= self.length_gap * longer


@dataclass(frozen=True)
class Choice:
    """What became of a prompt."""

    pairs: list[Pair]
    reason: Reason | None  # why there is no pair
    duplicates: int  # answers whose text was there already


def choose(groups: Iterable[Sequence[Answer]], rule: Rule) -> Iterator[Choice]:
    """The pairs of each prompt's answers, in order; a function of all answers up to there."""
    drift = 0  # tokens that chosen answers have more than rejected ones, over all pairs
    for answers in groups:
        distinct: dict[str, Answer] = {}
        for answer in answers:
            distinct.setdefault(answer.text.strip(), answer)
        pairs: list[Pair] = []
        found = _sides(list(distinct.values()), rule)
        if not isinstance(found, str):
            pairs = _matched(*found, rule, drift)
            drift += sum(pair.gap for pair in pairs)
        reason = found if isinstance(found, str) else None if pairs else "lengths"
        yield Choice(pairs, reason, len(answers) - len(distinct))


def variance(verdicts: Iterable[Verdict]) -> float:
    """The variance of a prompt's rewards, right 1 and wrong 0, over those that were judged."""
    judged = [verdict for verdict in verdicts if verdict in (Verdict.right, Verdict.wrong)]
    share = judged.count(Verdict.right) / max(len(judged), 1)
    return share * (1 - share)


def message(text: str) -> dict[str, Any] | None:
    """The assistant's message that is rendered as just this text; None where none is, or no words.

    A call that the parser mends would be rendered right, though it was said wrong; a marker that
    stays in the content would be rendered as words, and half a character as another one (U+FFFD).
    The renderer refuses some calls that the parser reads, such as one with a quote in its name.
    """
    said = parse(text)
    if not said.tool_calls:
        other = any(name in text for name in (*control.NAMES, "\ufffd"))
        return None if other or not text else {"role": "assistant", "content": text}
    calls = [{"type": "function", "function": call} for call in said.tool_calls]
    made = {"role": "assistant", "content": said.content, "tool_calls": calls}
    try:
        return made if _rendered(made) == text else None
    except UserError:
        return None


def _rendered(said: Mapping[str, Any]) -> str:
    parts = [piece.text for piece in chat.pieces([said]) if piece.answer is not None]
    return "".join(parts).removesuffix(control.IM_END)


def _sides(answers: Sequence[Answer], rule: Rule) -> tuple[list[Answer], list[Answer]] | Reason:
    """The right and the wrong answers that a pair may have, or why one side has none."""
    right = [answer for answer in answers if answer.verdict is Verdict.right]
    wrong = [answer for answer in answers if answer.verdict is Verdict.wrong]
    if not (right and wrong):
        if len(right) + len(wrong) < len(answers):
            return "undecided"
        return "all right" if right else "all wrong"
    right = [answer for answer in right if answer.whole]
    wrong = [answer for answer in wrong if answer.whole or rule.truncated]
    if not (right and wrong):
        return "truncated"
    right = [answer for answer in right if message(answer.text)]
    wrong = [answer for answer in wrong if message(answer.text)]
    return (right, wrong) if right and wrong else "no message"


def _matched(
    right: Sequence[Answer], wrong: Sequence[Answer], rule: Rule, drift: int
) -> list[Pair]:
    """At most `rule.most` pairs, the best first: of answers in no other pair, then by length."""
    free = [Pair(chosen, rejected) for chosen in right for rejected in wrong]
    free = [pair for pair in free if rule.allows(pair)]
    pairs: list[Pair] = []
    used: Counter[Answer] = Counter()

    def worse(pair: Pair) -> tuple[int, int, int]:
        again = used[pair.chosen] + used[pair.rejected]
        return again, abs(pair.gap) + abs(drift + pair.gap), abs(pair.gap)

    while free and len(pairs) < rule.most:
        best = min(free, key=worse)
        free.remove(best)
        pairs.append(best)
        used.update((best.chosen, best.rejected))
        drift += best.gap
    return pairs
