import json

import pytest

from baiwen.data import conversations
from baiwen.data.loader import Loader, Split, assemble
from baiwen.data.mixture import Mixture
from baiwen.errors import UserError

SIZE = 256  # tokens of a row


def conversation(words, answer="the of and"):
    return {
        "messages": [
            {"role": "user", "content": "the " * words},
            {"role": "assistant", "content": answer},
        ]
    }


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def rows():
    two_turns = conversation(2)["messages"] + conversation(3, "to in")["messages"]
    return [conversation(n % 17) for n in range(60)] + [{"messages": two_turns}]


def learned(batch):
    """(the ids of a document, the targets that are learned in it) for every document of a batch."""
    found, flat = [], [batch.tokens.flatten(), batch.targets.flatten(), batch.mask.flatten()]
    for start, end in zip(batch.documents.ends, batch.documents.ends[1:], strict=False):
        tokens, targets, mask = (part[start:end] for part in flat)
        found.append((tokens.tolist(), targets[mask > 0].tolist()))
    return found


@pytest.mark.parametrize("train", ["all", "last"])
def test_rows_hold_whole_conversations_with_the_masks_of_the_renderer(
    rows, train, tokenizer, tokenizer_folder, tmp_path
):
    path = write(tmp_path / "train.jsonl", rows)
    pool = conversations.pool(path, tokenizer_folder, SIZE, train=train)
    batch = assemble([(pool, row) for row in range(len(pool.rows))], SIZE)
    wanted = []
    for row in rows:
        chat = tokenizer.render(row["messages"], train=train)
        targets = [token for token, mask in zip(chat.ids, chat.mask, strict=True) if mask]
        wanted.append((chat.ids, targets))
    padding = [(ids, targets) for ids, targets in learned(batch) if not any(ids)]
    found = [entry for entry in learned(batch) if any(entry[0])]
    assert sorted(found) == sorted(wanted)
    assert all(not targets for _, targets in padding)


def test_processes_render_the_same_bytes_as_one(rows, tokenizer_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("baiwen.data.conversations.CHUNK", 7)
    path = write(tmp_path / "train.jsonl", rows)
    one = conversations.render(path, tokenizer_folder)
    two = conversations.render(path, tokenizer_folder, workers=2)
    for name in ("ids", "mask", "lengths"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()


def test_two_epochs_show_every_conversation_twice_or_more(rows, tokenizer_folder, tmp_path):
    pool = conversations.pool(write(tmp_path / "a.jsonl", rows), tokenizer_folder, SIZE)
    loader = Loader([pool], Split(SIZE, 4 * SIZE, SIZE))
    drawn = [loader.row(i)[1] for i in range(loader.steps(2) * 4)]
    assert all(drawn.count(row) in (2, 3) for row in range(len(pool.rows)))


@pytest.fixture
def paths(tmp_path):
    """Short conversations, and long ones with a few short ones among them."""
    short = [conversation(n % 17) for n in range(200)]
    long = [conversation(100 + n) for n in range(9)] + short[:30]
    rows = {"short": short, "long": long}
    return {name: write(tmp_path / f"{name}.jsonl", rows[name]) for name in rows}


def test_files_are_a_mixture_by_weight(paths, tokenizer_folder):
    mixture = Mixture(weights={"long": 0.25})
    found = conversations.pools(paths, tokenizer_folder, SIZE, mixture)
    assert {pool.name: pool.weight for pool in found} == {"short": 0.75, "long": 0.25}
    assert [len(pool.pieces) for pool in found] == [200, 39]


def test_long_share_parts_every_file_by_the_length_of_its_conversations(paths, tokenizer_folder):
    mixture = Mixture(long_share=0.4, long_at=150)
    found = conversations.pools(paths, tokenizer_folder, SIZE, mixture)
    assert [pool.name for pool in found] == ["long (long)", "short (short)", "long (short)"]
    assert sum(pool.weight for pool in found[1:]) == pytest.approx(0.6)
    assert min(found[0].pieces.length) >= 150 > max(found[1].pieces.length)


def test_a_file_without_weight_is_not_read(paths, tokenizer_folder, tmp_path):
    paths["none"] = tmp_path / "is-not-there.jsonl"
    mixture = Mixture(weights={"none": 0, "short": 1, "long": 1})
    assert len(conversations.pools(paths, tokenizer_folder, SIZE, mixture)) == 2
    with pytest.raises(UserError, match=r"no source 'lon'\. Did you mean long\?"):
        conversations.pools(paths, tokenizer_folder, SIZE, Mixture(weights={"lon": 1}))


def test_long_conversations_are_dropped_and_counted(tokenizer_folder, tmp_path, capsys):
    path = write(tmp_path / "a.jsonl", [conversation(2), conversation(500), conversation(3)])
    pool = conversations.pool(path, tokenizer_folder, SIZE)
    assert len(pool.pieces) == 2
    assert (
        f"1 of 3 conversations are longer than {SIZE} tokens: 1 dropped, 0"
        in capsys.readouterr().err
    )


def test_truncation_keeps_what_still_has_something_to_learn(tokenizer, tokenizer_folder, tmp_path):
    long_answer, long_question = conversation(2, "the of " * 100), conversation(500)
    path = write(tmp_path / "a.jsonl", [long_answer, long_question, conversation(3)])
    pool = conversations.pool(path, tokenizer_folder, SIZE, too_long="truncate")
    assert sorted(pool.pieces.length)[-1] == SIZE
    assert len(pool.pieces) == 2
    ids = tokenizer.render(long_answer["messages"]).ids
    assert pool.stream.read(0, SIZE).tolist() == ids[:SIZE]


def test_only_too_long_conversations_are_an_error(tokenizer_folder, tmp_path):
    path = write(tmp_path / "a.jsonl", [conversation(500)])
    with pytest.raises(UserError, match="all 1 conversations are longer than sequence_length = 64"):
        conversations.pool(path, tokenizer_folder, 64)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"messages": [{"role": "user", "content": "hello"}]}', "nothing to learn"),
        ('{"messages": [{"role": "user", "content": "hello"}]}', "hello"),
        ('{"messages": []}', "needs `messages`"),
        ('{"prompt": "a"}', "this line has 'prompt'"),
        ('{"messages": [', "is not JSON"),
        ('{"messages": [{"role": "user", "content": "a"}], "tools": {}}', "`tools` must be a list"),
        ('{"messages": [{"content": "a"}]}', "role"),
    ],
)
def test_a_wrong_line_is_named_and_shown(line, message, tokenizer_folder, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(conversation(1)) + "\n\n" + line + "\n")
    with pytest.raises(UserError) as error:
        conversations.pool(path, tokenizer_folder, 64)
    assert f"{path}:3" in str(error.value)
    assert message in str(error.value)


def test_an_empty_file_is_refused(tokenizer_folder, tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(UserError, match="holds no conversation"):
        conversations.pool(tmp_path / "a.jsonl", tokenizer_folder, 64)
