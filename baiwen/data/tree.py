"""A prompt with several answers, as ids: what a preference pair is, and a group of samples.

    Tree([1, 2, 3], [[4, 5], [6]], values={"reward": [1.0, 0.0]})

How trees become micro-batches is `data/trees.py`'s. Processes that render trees do without torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Tree:
    """A prompt and its answers, as ids; at least one of each, and one in each."""

    prompt: Sequence[int]
    answers: Sequence[Sequence[int]]
    masks: Sequence[Sequence[float]] | None = None  # weight of each answer token; None: all 1
    # name -> for each answer a number, or as many numbers as it has tokens
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    # Of each answer the experts of its prompt's tokens and its own but the last [., L, k], or none
    # [0, L, k]; None: of no answer. Those of the trunk are the first's that has any; where they are
    # not known, a mixture's router chooses.
    routes: "Sequence[Tensor] | None" = None

    def __post_init__(self) -> None:
        """Hold callers to what the fields say."""
        assert len(self.prompt) and len(self.answers) and all(map(len, self.answers))
        for given in (self.masks or self.answers, *self.values.values()):
            assert len(given) == len(self.answers)

    @property
    def tokens(self) -> int:
        """Tokens of the row that holds it."""
        return len(self.prompt) - 1 + sum(1 + len(answer) for answer in self.answers)
