"""Folders: what is written can be read by us and by transformers; what is damaged is refused."""

import json
import shutil

import pytest
from transformers import AutoTokenizer

from baiwen.errors import UserError
from baiwen.tokenizer import Tokenizer, control

TEXT = "def f(x):\n    return x + 12  # 你好, cafe\u0301!\r\n\n   😀 <|im_end|>"


@pytest.fixture
def folder(small, tmp_path):
    small.save(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_a_saved_tokenizer_loads_as_itself(small, folder):
    loaded = Tokenizer.load(folder)
    assert loaded.vocabulary == small.vocabulary
    assert loaded.fingerprint == small.fingerprint


def test_vocab_and_merges_alone_are_enough(small, folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    assert Tokenizer.load(folder).fingerprint == small.fingerprint


def test_the_published_folder_comes_out_as_it_went_in(qwen, shared, tmp_path):
    qwen.save(tmp_path)
    source = shared / "tokenizer" / "qwen2.5"
    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / name).read_bytes() == (source / name).read_bytes()
    written, published = (
        json.loads((place / "tokenizer.json").read_bytes()) for place in (tmp_path, source)
    )
    assert written == published


def test_published_vocab_and_merges_make_the_published_tokenizer(qwen, shared, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(shared / "tokenizer" / "qwen2.5" / name, tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == qwen.fingerprint


@pytest.mark.parametrize("missing", [[], ["tokenizer.json"]])
def test_transformers_agrees_on_every_id(small, folder, missing):
    for name in missing:
        (folder / name).unlink()
    theirs = AutoTokenizer.from_pretrained(folder)
    assert type(theirs).__name__.startswith("Qwen2Tokenizer")
    assert theirs.get_vocab() == {**small.vocabulary.ids, **small.vocabulary.control_ids}
    assert {token.content: token.special for token in theirs.added_tokens_decoder.values()} == dict(
        control.PUBLISHED
    )
    assert theirs.encode(TEXT.replace("<|im_end|>", "")) == small.encode(
        TEXT.replace("<|im_end|>", "")
    )
    assert theirs.encode("<tool_call>") == [small.id("<tool_call>")]


def test_transformers_reads_end_and_padding(small, folder):
    theirs = AutoTokenizer.from_pretrained(folder)
    assert (theirs.eos_token_id, theirs.pad_token_id) == (small.end_of_turn, small.end_of_text)
    small.save(folder, eos_token=control.END_OF_TEXT)
    assert AutoTokenizer.from_pretrained(folder).eos_token_id == small.end_of_text


def test_a_folder_that_transformers_wrote_is_read(small, folder, tmp_path):
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "theirs")
    assert Tokenizer.load(tmp_path / "theirs").fingerprint == small.fingerprint


def test_a_qwen2_folder_with_three_control_tokens_is_read(small, folder):
    edit(folder, lambda content: content["added_tokens"].__delitem__(slice(3, None)))
    loaded = Tokenizer.load(folder)
    assert len(loaded) == 1_003
    assert loaded.render([{"role": "user", "content": "Hi"}]).ids[0] == loaded.id("<|im_start|>")
    with pytest.raises(UserError, match="no control token '<tool_call>'"):
        loaded.render([{"role": "user", "content": "Hi"}], tools=[{"name": "f"}])


def edit(folder, change):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


DAMAGES = {
    "no normalizer": lambda content: content.update(normalizer=None),
    "another pattern": lambda content: content["pre_tokenizer"]["pretokenizers"][0].update(
        pattern={"Regex": r"\w+"}
    ),
    "another kind of model": lambda content: content["model"].update(type="Unigram"),
    "no model": lambda content: content.pop("model"),
    "a hole in the ids": lambda content: content["model"]["vocab"].pop("Ġthe"),
    "an id twice": lambda content: content["model"]["vocab"].update({"!": 1}),
    "a byte missing": lambda content: content["model"]["vocab"].update(
        {"!!!": content["model"]["vocab"].pop("Ń")}
    ),
    "a foreign symbol": lambda content: content["model"]["vocab"].update(
        {"中": content["model"]["vocab"].pop("Ġthe")}
    ),
    "a merge of nothing": lambda content: content["model"]["merges"].append(["zz", "qq"]),
    "a merge of three": lambda content: content["model"]["merges"].append("a b c"),
    "a gap before the control tokens": lambda content: content["added_tokens"].pop(0),
    "a control token without a name": lambda content: content["added_tokens"][3].update(content=[]),
    "no control tokens": lambda content: content["added_tokens"].clear(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_tokenizer_is_refused_by_name(folder, damage):
    edit(folder, DAMAGES[damage])
    with pytest.raises(UserError, match="tokenizer"):
        Tokenizer.load(folder)


def test_a_cut_file_is_refused_by_name(folder):
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        Tokenizer.load(folder)


def test_a_cut_merges_file_is_refused_by_name(folder):
    (folder / "tokenizer.json").unlink()
    path = folder / "merges.txt"
    path.write_bytes(path.read_bytes()[:1_001].rsplit(b" ", 1)[0])
    with pytest.raises(UserError, match=r"merges\.txt"):
        Tokenizer.load(folder)


def test_an_empty_folder_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"neither tokenizer\.json nor vocab\.json"):
        Tokenizer.load(tmp_path)


def test_an_unknown_end_token_is_a_clear_error(small, tmp_path):
    with pytest.raises(UserError, match="no control token '</s>'"):
        small.save(tmp_path, eos_token="</s>")
