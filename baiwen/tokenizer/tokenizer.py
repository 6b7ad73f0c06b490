"""The tokenizer of a model: text to ids, messages to ids and loss mask, and back.

tokenizer = Tokenizer.load("runs/tiny/tokenizer")
tokenizer.encode("Hello world")                     # [9707, 1879] in the published vocabulary
tokenizer.encode("<|im_end|>")                      # words, never the control token
chat = tokenizer.render([{"role": "user", "content": "Hello"}], generate=True)
tokenizer.parse(tokenizer.decode(answer))           # content and tool calls
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from baiwen.errors import UserError
from baiwen.tokenizer import chat, control, storage
from baiwen.tokenizer.chat import Piece
from baiwen.tokenizer.encoder import Encoder
from baiwen.tokenizer.parse import Parsed, parse
from baiwen.tokenizer.stream import StreamDecoder
from baiwen.tokenizer.vocabulary import Vocabulary, to_json


@dataclass(frozen=True)
class Rendered:
    """A conversation in ids; `mask` is 1 for the tokens that loss is meant for, else 0.

    `text` is what a template would write; it is for the eye: encoding it is not the same as `ids`.
    """

    ids: list[int]
    mask: list[int]
    text: str


class Tokenizer:
    """Byte-level BPE in the Qwen form with its control tokens and chat protocol."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    @classmethod
    def load(cls, folder: Path | str) -> "Tokenizer":
        """The tokenizer of any Qwen2 or Qwen2.5 folder; `UserError` if it is none or damaged."""
        return cls(storage.read(Path(folder)))

    def save(self, folder: Path | str, eos_token: str = control.IM_END) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json`, `vocab.json` and `merges.txt`.

        eos_token: what ends an answer: `<|im_end|>` of chat models, `<|endoftext|>` of base models.
        """
        self.id(eos_token)
        storage.write(self.vocabulary, Path(folder), eos_token)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, in which control tokens are never read; `UserError` for no Unicode."""
        return self._encoder.encode(text).tolist()

    def encode_many(self, texts: Sequence[str], threads: int | None = None) -> list[np.ndarray]:
        """The ids of each text, uint32 [T]; threads: all cores if not given."""
        return self._encoder.encode_many(texts, threads or os.cpu_count() or 1)

    def decode(self, ids: Iterable[int], control: bool = True) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD.

        control: write control tokens by their names, or leave them out.
        """
        shown = ids if control else (token for token in ids if token < len(self._regular))
        return b"".join(map(self._spell, shown)).decode(errors="replace")

    def stream(self) -> StreamDecoder:
        """A decoder that takes one id at a time and gives whole characters."""
        return StreamDecoder(self._spell)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        generate: bool = False,
        train: Literal["all", "last"] = "all",
    ) -> Rendered:
        """Messages and tools in ids, with the loss mask.

        generate: end with the head of the assistant's next turn.
        train: loss on what the assistant says and its end marker, in all its turns or the last.
        `UserError` names the message that is wrong. The form of messages: `tokenizer/messages.py`.
        """
        pieces = list(chat.joined(chat.pieces(messages, tools, generate)))
        answers = {piece.answer for piece in pieces if piece.answer is not None}
        trained = answers if train == "all" else {max(answers, default=None)}
        ids: list[int] = []
        mask: list[int] = []
        for piece in pieces:
            added = self._piece(piece)
            ids += added
            mask += [int(piece.answer is not None and piece.answer in trained)] * len(added)
        return Rendered(ids, mask, "".join(piece.text for piece in pieces))

    def assemble(self, pieces: Iterable[Piece]) -> list[int]:
        """The ids of pieces: control tokens by name, everything else as words."""
        return [token for piece in chat.joined(pieces) for token in self._piece(piece)]

    def parse(self, text: str) -> Parsed:
        """Content and tool calls of what the assistant said; never raises."""
        return parse(text)

    def id(self, name: str) -> int:
        """The id of a control token; `UserError` if this tokenizer has none of that name."""
        found = self.vocabulary.control_ids.get(name)
        if found is None:
            known = ", ".join(self.vocabulary.control_ids)
            raise UserError(f"this tokenizer has no control token {name!r}; it has {known}")
        return found

    def __len__(self) -> int:
        return len(self.vocabulary.tokens) + len(self.vocabulary.control)

    @property
    def vocab_size(self) -> int:
        """Regular and control tokens; the rows of an embedding may be more (padding)."""
        return len(self)

    @property
    def end_of_text(self) -> int:
        """`<|endoftext|>`: ends a document, pads a batch."""
        return self.id(control.END_OF_TEXT)

    @property
    def end_of_turn(self) -> int:
        """`<|im_end|>`: ends a turn of a conversation."""
        return self.id(control.IM_END)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of `tokenizer.json` as `save` writes it: equal for equal tokenizers."""
        return hashlib.sha256(to_json(self.vocabulary).encode()).hexdigest()

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.vocabulary)

    @cached_property
    def _regular(self) -> list[bytes]:
        return self.vocabulary.spellings

    @cached_property
    def _spellings(self) -> list[bytes]:
        return [*self._regular, *(name.encode() for name, _ in self.vocabulary.control)]

    def _spell(self, token: int) -> bytes:
        if not 0 <= token < len(self._spellings):
            raise UserError(f"token {token} is outside the vocabulary of {len(self)} tokens")
        return self._spellings[token]

    def _piece(self, piece: Piece) -> list[int]:
        return [self.id(piece.text)] if piece.control else self.encode(piece.text)
