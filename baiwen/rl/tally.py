"""What became of prompts, answers and pairs, counted as they go by: `pairs.json`.

{"prompts": 2000, "prompts with pairs": 1100, "pairs": 2004,
 "without": {"all right": 210, "all wrong": 660, "lengths": 30, ...},
 "answers": {"right": 6100, "wrong": 9900, "undecided": 0, ...}, "truncated": 12,
 "duplicate answers": 2400, "duplicate pairs": 0, "review": {...},
 "length": {"chosen": 17.1, "rejected": 17.0, "difference": 0.1, "chosen longer": 0.24, ...},
 "kinds": {"table": {"prompts": 250, "right": 0.31, "prompts with pairs": 160, "pairs": 300}}}
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from baiwen.rl.pairs import REASONS, Answer, Choice, Pair
from baiwen.rl.review import VERDICTS
from baiwen.verify import Verdict


@dataclass
class Kind:
    """One kind of prompts."""

    prompts: int = 0
    answers: int = 0
    right: int = 0
    paired: int = 0  # prompts
    pairs: int = 0

    def told(self) -> dict[str, float]:
        """The kind's entry."""
        return {
            "prompts": self.prompts,
            "right": round(self.right / max(self.answers, 1), 4),
            "prompts with pairs": self.paired,
            "pairs": self.pairs,
        }


@dataclass
class Tally:
    """The counts so far."""

    kinds: defaultdict[str, Kind] = field(default_factory=lambda: defaultdict(Kind))
    without: Counter[str] = field(default_factory=Counter)  # prompts, by why they gave no pair
    verdicts: Counter[str] = field(default_factory=Counter)  # of answers
    truncated: int = 0  # answers
    duplicates: int = 0  # answers
    pairs: list[Pair] = field(default_factory=list)  # that are written, as they are written
    names: set[str] = field(default_factory=set)  # of all pairs
    repeated: int = 0  # pairs
    reviewed: Counter[str] = field(default_factory=Counter)  # pairs, by what the review said

    def prompt(self, kind: str, answers: Sequence[Answer], choice: Choice) -> None:
        """Count a prompt and its answers."""
        one = self.kinds[kind]
        one.prompts += 1
        one.answers += len(answers)
        one.right += sum(answer.verdict is Verdict.right for answer in answers)
        one.paired += choice.reason is None
        self.without.update([choice.reason] if choice.reason else [])
        self.verdicts.update(answer.verdict.value for answer in answers)
        self.truncated += sum(not answer.whole for answer in answers)
        self.duplicates += choice.duplicates

    def repeats(self, name: str) -> bool:
        """Whether the pair of that name was there before; counted if so."""
        before = name in self.names
        self.names.add(name)
        self.repeated += before
        return before

    def pair(self, kind: str, pair: Pair, verdict: str | None, kept: bool) -> None:
        """Count a pair and what the review made of it."""
        self.reviewed.update([verdict or "none"])
        if kept:
            swapped = verdict == "swap"
            self.pairs.append(Pair(pair.rejected, pair.chosen) if swapped else pair)
            self.kinds[kind].pairs += 1

    def told(self, verdicts: Mapping[str, str]) -> dict[str, Any]:
        """The whole, with how many of the review's `verdicts` are of pairs that are not here."""
        strangers = sum(name not in self.names for name in verdicts)
        review = {name: self.reviewed[name] for name in (*VERDICTS, "none")}
        return {
            "prompts": sum(kind.prompts for kind in self.kinds.values()),
            "prompts with pairs": sum(kind.paired for kind in self.kinds.values()),
            "pairs": len(self.pairs),
            "without": {reason: self.without[reason] for reason in REASONS},
            "answers": {verdict.value: self.verdicts[verdict.value] for verdict in Verdict},
            "truncated": self.truncated,
            "duplicate answers": self.duplicates,
            "duplicate pairs": self.repeated,
            "review": {**review, "of no pair here": strangers},
            "length": self._length(),
            "kinds": {name: kind.told() for name, kind in sorted(self.kinds.items())},
        }

    def line(self) -> str:
        """The same for the log."""
        told = self.told({})
        without = ", ".join(f"{count:,} {why}" for why, count in told["without"].items() if count)
        paired = f"{told['pairs']:,} pairs of {told['prompts with pairs']:,} prompts"
        drift = f"chosen longer by {told['length']['difference']:+.2f} tokens"
        return f"{paired} ({drift}); of {told['prompts']:,} prompts none: {without or '0'}"

    def _length(self) -> dict[str, float]:
        """Mean tokens of both sides, and how often each is the longer: alike, if length is mute."""
        count = max(len(self.pairs), 1)
        chosen = sum(pair.chosen.tokens for pair in self.pairs)
        rejected = sum(pair.rejected.tokens for pair in self.pairs)
        shares = {
            "chosen": chosen,
            "rejected": rejected,
            "difference": chosen - rejected,
            "absolute difference": sum(abs(pair.gap) for pair in self.pairs),
            "chosen longer": sum(pair.gap > 0 for pair in self.pairs),
            "chosen shorter": sum(pair.gap < 0 for pair in self.pairs),
        }
        return {name: round(value / count, 4) for name, value in shares.items()}
