"""A byte-level BPE vocabulary in the Qwen form: tokens, merges, control tokens (spec 2.1).

Text is normalised (NFC), cut by `PATTERN` (digits one by one), written in 256 byte symbols and
merged. The files spell a byte by a printable character, as GPT-2 did (Radford et al., 2019): the
188 printable bytes of Latin-1 by themselves, the others by U+0100 onwards; a space is `Ġ`, a line
feed `Ċ`.

    Vocabulary(tokens=("!", '"', ..., "Ġt", ...), merges=(("Ġ", "t"), ...), control=PUBLISHED)
"""

import json
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from baiwen.tokenizer import control

# Published with Qwen2.5 (tokenizer.json); `tokenizers` and tiktoken read it alike.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_symbols() -> tuple[str, ...]:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    moved = {byte: 256 + place for place, byte in enumerate(others)}
    return tuple(chr(moved.get(byte, byte)) for byte in range(256))


SYMBOLS = _byte_symbols()  # byte -> the character that spells it
BYTES = {symbol: byte for byte, symbol in enumerate(SYMBOLS)}


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer folder says: regular tokens, merges, and the control tokens after them."""

    tokens: tuple[str, ...]  # spelled in SYMBOLS; the place is the id
    merges: tuple[tuple[str, str], ...]  # the earlier goes first
    control: tuple[tuple[str, bool], ...] = control.PUBLISHED  # (name, special)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each regular token, by its spelling."""
        return {token: index for index, token in enumerate(self.tokens)}

    @cached_property
    def spellings(self) -> list[bytes]:
        """The bytes of each regular token, by id."""
        return [bytes(map(BYTES.__getitem__, token)) for token in self.tokens]

    @cached_property
    def control_ids(self) -> dict[str, int]:
        """The id of each control token, by its name."""
        return {name: len(self.tokens) + place for place, (name, _) in enumerate(self.control)}


def backend(model: models.BPE) -> Tokenizer:
    """Qwen's pipeline around a BPE model, with no control tokens: text cannot name one."""
    pipeline = Tokenizer(model)
    pipeline.normalizer = normalizers.NFC()
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return pipeline


def to_json(vocabulary: Vocabulary) -> str:
    """The text of `tokenizer.json`, laid out as the published file is."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    split = {
        "type": "Split",
        "pattern": {"Regex": PATTERN},
        "behavior": "Isolated",
        "invert": False,
    }
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocabulary.control_ids[name], **added_token(name, special)}
            for name, special in vocabulary.control
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary.ids,
            "merges": [f"{left} {right}" for left, right in vocabulary.merges],
        },
    }
    return json.dumps(content, ensure_ascii=False, indent=2)


def added_token(name: str, special: bool) -> dict[str, object]:
    """How the files describe a control token."""
    return {
        "content": name,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }
