"""The reward model: one number for how good an answer is, read at its last token.

The only public architecture is that of Qwen2.5-Math-RM (spec 9.2): the decoder of the SFT model,
and two linear layers with a ReLU between them in place of the language model's head. The files call
them `score.0` and `score.2`, and `config.json` names the class `Qwen2ForRewardModel`.

    model = RewardModel.on(language_model, seed=0)      # its decoder, and a fresh head
    model(tokens, documents=documents).documents        # [n], a reward for each document

Which token is the last: the published usage renders a conversation with its answer, without the
head of a next one (`add_generation_prompt=False`), and reads the score at the end of that, the line
break after `<|im_end|>`; vLLM scores every token, and the last one's is the same.

B batch, T tokens, C hidden size, n documents.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baiwen.model.config import ModelConfig
from baiwen.model.documents import Documents
from baiwen.model.routing import Routing
from baiwen.model.transformer import Model, Transformer


@dataclass
class Rewards:
    """What one forward gives: what the objective of a reward model reads."""

    documents: Tensor  # [n], the reward at the last token of each, in reading order
    routing: Routing | None = None  # of the sparse layers


class RewardModel(Model):
    """A decoder with a scalar head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(replace(config, reward=True))
        size = config.hidden_size
        self.score = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 1))

    @classmethod
    def on(cls, model: Transformer, seed: int = 0) -> Self:
        """The decoder of `model`, which it shares, and a head drawn from `seed`."""
        with torch.device("meta"):
            made = cls(model.config)
        made.model = model.model
        weight = model.model.norm.weight
        made.score.to_empty(device=weight.device).to(weight.dtype)
        made.score.requires_grad_()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in made.score.named_parameters():
                drawn = torch.zeros(parameter.shape)
                if name.endswith("weight"):
                    drawn.normal_(0, model.config.initializer_range, generator=generator)
                parameter.copy_(drawn)
        return made

    def forward(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        documents: Documents | None = None,
        chosen: Tensor | None = None,
    ) -> Rewards:
        """tokens [B, T] -> a reward for each document; without `documents`, for each row."""
        hidden, routing = self.states(tokens, positions, documents, chosen=chosen)  # [B, T, C]
        if documents is None:
            last = hidden[:, -1]
        else:
            last = hidden.flatten(0, 1)[documents.ends[1:].long() - 1]  # [n, C]
        return Rewards(self.rewards(last), routing)

    def rewards(self, states: Tensor) -> Tensor:
        """Hidden states [n, C] after the final norm -> [n]; in fp32 where the weights are less.

        bf16 has 8 bits: two good answers would often get the same number.
        """
        inner, _, outer = self.score
        wide = states.to(torch.promote_types(states.dtype, torch.float32))
        with torch.autocast(states.device.type, enabled=False):
            return _linear(F.relu(_linear(wide, inner)), outer).squeeze(-1)


def _linear(x: Tensor, layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
