"""A tokenizer folder on disk, as transformers, vLLM and llama.cpp read it.

    tokenizer.json           all of it; read first
    vocab.json, merges.txt   the regular tokens; read where tokenizer.json is missing
    tokenizer_config.json    control tokens again, end and padding token, chat template

The published Qwen2.5 folder, read and written, comes out with the same vocab.json and merges.txt,
byte for byte, and the same tokenizer.json but for the order of keys in `added_tokens`.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from baiwen import files
from baiwen.errors import UserError
from baiwen.tokenizer import control, template
from baiwen.tokenizer.vocabulary import BYTES, PATTERN, Vocabulary, added_token, to_json

_LONGEST = 131_072  # tokens; `model_max_length` of the published file


def read(folder: Path) -> Vocabulary:
    """The vocabulary of a Qwen2 or Qwen2.5 tokenizer folder; `UserError` for anything else."""
    if (folder / "tokenizer.json").is_file():
        vocabulary = _from_tokenizer_json(folder / "tokenizer.json")
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        vocabulary = _from_vocab_and_merges(folder)
    else:
        raise UserError(
            f"{folder}: no tokenizer there: neither tokenizer.json nor vocab.json with merges.txt"
        )
    _check(vocabulary, folder)
    return vocabulary


def write(vocabulary: Vocabulary, folder: Path, eos_token: str) -> None:
    """The four files of a tokenizer, each written durably."""
    compact = json.dumps(vocabulary.ids, ensure_ascii=False, separators=(",", ":"))
    merges = "".join(f"{left} {right}\n" for left, right in vocabulary.merges)
    files.write(folder / "vocab.json", compact)
    files.write(folder / "merges.txt", merges)
    files.write_json(folder / "tokenizer_config.json", _config(vocabulary, eos_token))
    files.write(folder / "tokenizer.json", to_json(vocabulary))


def _config(vocabulary: Vocabulary, eos_token: str) -> dict[str, Any]:
    special = [name for name, is_special in vocabulary.control if is_special]
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(vocabulary.control_ids[name]): added_token(name, is_special)
            for name, is_special in vocabulary.control
        },
        "additional_special_tokens": [name for name in special if name != control.END_OF_TEXT],
        "bos_token": None,
        "chat_template": template.TEXT,
        "clean_up_tokenization_spaces": False,
        "eos_token": eos_token,
        "errors": "replace",
        "model_max_length": _LONGEST,
        "pad_token": control.END_OF_TEXT,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def _from_tokenizer_json(path: Path) -> Vocabulary:
    content = files.read_json(path)
    with _understood(path):
        _check_pipeline(content, path)
        model = content["model"]
        added = {
            token["id"]: (token["content"], token["special"]) for token in content["added_tokens"]
        }
        regular = {token: index for token, index in model["vocab"].items() if index not in added}
        merges = tuple(map(_pair, model["merges"]))
        return Vocabulary(_in_order(regular, path), merges, _after(added, len(regular), path))


def _from_vocab_and_merges(folder: Path) -> Vocabulary:
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    with _understood(vocab):
        tokens = _in_order(files.read_json(vocab), vocab)
    with _understood(merges):
        lines = files.read_text(merges).split("\n")
        pairs = tuple(_pair(line) for line in lines if line and not line.startswith("#version"))
    return Vocabulary(tokens, pairs, _described(folder / "tokenizer_config.json", len(tokens)))


def _described(config: Path, regular: int) -> tuple[tuple[str, bool], ...]:
    """The control tokens by `tokenizer_config.json`; those of Qwen2.5 where it has none."""
    described = files.read_json(config) if config.is_file() else {}
    with _understood(config):
        tokens = described.get("added_tokens_decoder", {}).items()
        added = {int(index): (token["content"], token["special"]) for index, token in tokens}
        return _after(added, regular, config) or control.PUBLISHED


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Turn what breaks on a file of another shape into words."""
    try:
        yield
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path}: damaged, or not the file of a Qwen2 or Qwen2.5 tokenizer ({error!r})"
        ) from error


def _check_pipeline(content: dict[str, Any], path: Path) -> None:
    """Refuses a tokenizer that normalises, cuts or spells text in another way than Qwen2's."""
    steps = content["pre_tokenizer"].get("pretokenizers", [{}])
    found = {
        "model": content["model"]["type"],
        "normalizer": (content["normalizer"] or {}).get("type"),
        "decoder": (content["decoder"] or {}).get("type"),
        "pattern": steps[0].get("pattern", {}).get("Regex"),
    }
    wanted = {"model": "BPE", "normalizer": "NFC", "decoder": "ByteLevel", "pattern": PATTERN}
    for part, value in wanted.items():
        if found[part] != value:
            raise UserError(
                f"{path}: not a Qwen2 or Qwen2.5 tokenizer: {part} is {found[part]!r}, "
                f"expected {value!r}"
            )


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _in_order(ids: dict[str, int], path: Path) -> tuple[str, ...]:
    if sorted(ids.values()) != list(range(len(ids))):
        raise UserError(f"{path}: damaged: the token ids are not 0 to {len(ids) - 1}, each once")
    return tuple(sorted(ids, key=ids.__getitem__))


def _after(
    added: dict[int, tuple[str, bool]], regular: int, path: Path
) -> tuple[tuple[str, bool], ...]:
    for name, special in added.values():
        if not (isinstance(name, str) and isinstance(special, bool)):
            raise UserError(f"{path}: damaged: a control token of the name {name!r}")
    if sorted(added) != list(range(regular, regular + len(added))):
        raise UserError(
            f"{path}: control tokens have the ids {sorted(added)}; Qwen's follow the "
            f"{regular} regular tokens without a gap"
        )
    return tuple(added[index] for index in sorted(added))


def _check(vocabulary: Vocabulary, folder: Path) -> None:
    """Refuses tokens that are no bytes, missing bytes, and merges of or into unknown tokens."""
    known = vocabulary.ids.keys()
    _refuse(folder, "tokens that are not spelled in byte symbols", _foreign(known))
    _refuse(folder, "missing byte symbols", (symbol for symbol in BYTES if symbol not in known))
    _refuse(
        folder,
        "merges that name a missing token",
        (
            f"{left} {right}"
            for left, right in vocabulary.merges
            if not (left in known and right in known and left + right in known)
        ),
    )
    if control.END_OF_TEXT not in vocabulary.control_ids:
        raise UserError(f"{folder}: not a Qwen tokenizer: it has no {control.END_OF_TEXT} token")


def _foreign(tokens: Iterable[str]) -> Iterable[str]:
    return (token for token in tokens if not BYTES.keys() >= set(token))


def _refuse(folder: Path, what: str, found: Iterable[str]) -> None:
    if examples := list(islice(found, 3)):
        raise UserError(f"{folder}: damaged or not a Qwen tokenizer: {what}, such as {examples}")
