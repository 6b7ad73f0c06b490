"""The command line as a user meets it: what it prints, how it exits, what it imports."""

import errno
import importlib
import io
import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import torch
from pydantic.fields import FieldInfo

import baiwen
from baiwen import cli, config, files, stages
from baiwen.commands import chat, doctor, plan, show
from baiwen.config import Knobs
from baiwen.files import inputs
from baiwen.model.sizes import SIZES
from baiwen.model.transformer import Transformer
from baiwen.tokenizer import bpe

RECIPE = """# The smallest run there is.
stage = "instruct"
out = "runs/instruct"
train = 20
heldout = 2
documents = 4
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with one folder of recipes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/1-instruct.toml").write_text(RECIPE)
    return tmp_path


def add(folder: Path, name: str, text: str) -> None:
    (folder / "recipes" / name).write_text(text)


def process_of(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "baiwen", *arguments]
    root = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env)


def failing(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that must end with 2 complains of."""
    assert cli.main(arguments) == 2
    return capsys.readouterr().err


# Running recipes.


def test_a_recipe_runs_and_then_is_done(here, capsys):
    assert cli.main(["run", "recipes"]) == 0
    written = {path: path.stat().st_mtime_ns for path in Path("runs/instruct").iterdir()}
    assert len(list(files.read_jsonl("runs/instruct/train.jsonl"))) == 20
    capsys.readouterr()
    assert cli.main(["run", "recipes/1-instruct.toml"]) == 0
    assert capsys.readouterr().err.startswith("done: runs/instruct (")
    assert {path: path.stat().st_mtime_ns for path in Path("runs/instruct").iterdir()} == written


def test_the_resolved_recipe_is_stored_with_the_run(here):
    assert cli.main(["run", "recipes", "seed=7"]) == 0
    (recipe,) = stages.load("recipes", ["seed=7"])
    stored = files.read_json("runs/instruct/recipe.json")
    assert stored == {"stage": "instruct", **config.resolved(recipe.config)}
    assert stored["seed"] == 7


def test_a_finished_run_of_other_inputs_stops_before_anything_runs(here, capsys):
    add(here, "2-tokenizer.toml", TOKENIZER)
    assert cli.main(["run", "recipes"]) == 0
    shutil.rmtree("runs/instruct")
    capsys.readouterr()
    told = failing(capsys, "run", "recipes", "instruct.documents=5")
    assert "done: runs/tokenizer" not in told
    assert told.endswith(
        "baiwen: recipes/2-tokenizer.toml: runs/tokenizer was made from another content of "
        "documents\nput that back, choose another `out`, or delete the folder to start over\n"
    )
    add(here, "3-more.toml", RECIPE.replace("runs/instruct", "runs/more"))
    assert "runs/tokenizer was made" in failing(capsys, "run", "recipes", "instruct.documents=5")
    assert not Path("runs/more").exists()


def test_an_input_that_is_made_again_in_the_same_bits_changes_nothing(here, capsys):
    add(here, "2-tokenizer.toml", TOKENIZER)
    assert cli.main(["run", "recipes"]) == 0
    shutil.rmtree("runs/instruct")
    assert cli.main(["run", "recipes"]) == 0
    assert "done: runs/tokenizer" in capsys.readouterr().err


def test_a_large_input_that_was_touched_is_a_note(here, capsys, monkeypatch):
    monkeypatch.setattr(inputs, "READ", 0)
    Path("corpus.txt").write_text("to be or not to be\n" * 20)
    corpus = TOKENIZER.replace("runs/instruct/documents.jsonl.zst", "corpus.txt")
    add(here, "1-instruct.toml", corpus)
    assert cli.main(["run", "recipes", "vocab_size=258"]) == 0
    assert "note:" not in capsys.readouterr().err
    os.utime("corpus.txt", (1, 1))
    assert cli.main(["run", "recipes", "vocab_size=258"]) == 0
    told = "note: documents was written after runs/tokenizer was made; delete that to make it again"
    assert told in capsys.readouterr().err


def test_another_recipe_does_not_take_the_folder(here, capsys):
    assert cli.main(["run", "recipes"]) == 0
    assert "train: 20 -> 21" in failing(capsys, "run", "recipes", "train=21")


def test_a_changed_recipe_is_refused_before_the_first_one_runs(here, capsys):
    add(here, "2-more.toml", RECIPE.replace("runs/instruct", "runs/more"))
    assert cli.main(["run", "recipes/2-more.toml"]) == 0
    capsys.readouterr()
    told = failing(capsys, "run", "recipes", "more.train=21")
    assert told.startswith("baiwen: recipes/2-more.toml: runs/more belongs to another recipe:\n")
    assert not Path("runs/instruct").exists()


def test_a_changed_recipe_names_all_that_was_made_of_its_run(here, capsys):
    add(here, "2-tokenizer.toml", TOKENIZER)
    add(here, "3-report.toml", REPORT)
    assert cli.main(["run", "recipes"]) == 0
    line = failing(capsys, "run", "recipes", "train=21").splitlines()[-1]
    assert line.endswith("start all of it over: rm -r runs/instruct runs/tokenizer runs/report")
    subprocess.run(line.partition("over: ")[2], shell=True, check=True)
    assert cli.main(["run", "recipes", "train=21"]) == 0


def test_a_mended_recipe_takes_the_place_of_one_that_left_nothing(here, capsys, monkeypatch):
    def interrupted(settings, folder):
        files.write(folder.path / "train.jsonl", "")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("baiwen.stages.instruct.run", interrupted)
        assert cli.main(["run", "recipes"]) == 130
    assert cli.main(["run", "recipes", "train=21"]) == 0
    told = "runs/instruct was another recipe's, which left nothing to go on from"
    assert told in capsys.readouterr().err


def test_recipes_run_in_the_order_of_their_numbers(here):
    add(here, "10-last.toml", RECIPE.replace("runs/instruct", "runs/last"))
    add(here, "2-second.toml", RECIPE.replace("runs/instruct", "runs/second"))
    assert [recipe.name for recipe in stages.load("recipes")] == ["instruct", "second", "last"]


def test_an_override_reaches_every_recipe_that_has_the_knob_or_the_one_it_names(here):
    add(here, "2-more.toml", RECIPE.replace("runs/instruct", "runs/more"))
    add(here, "3-tokenizer.toml", TOKENIZER)
    loaded = stages.load("recipes", ["train=1", "more.seed=5", "tokenizer.vocab_size=300"])
    assert [getattr(recipe.config, "train", None) for recipe in loaded] == [1, 1, None]
    assert [getattr(recipe.config, "seed", None) for recipe in loaded] == [0, 5, None]
    assert loaded[2].config.vocab_size == 300


REPORT = """stage = "report"
out = "runs/report"
[runs]
instruct = "runs/instruct"
"""
TOKENIZER = """stage = "tokenizer"
out = "runs/tokenizer"
documents = "runs/instruct/documents.jsonl.zst"
vocab_size = 270
"""


def test_an_input_may_come_from_an_earlier_recipe_but_not_from_a_later_one(here, capsys):
    add(here, "2-tokenizer.toml", TOKENIZER)
    stages.check(stages.load("recipes"))
    add(here, "0-tokenizer.toml", TOKENIZER.replace('out = "runs/', 'out = "runs/early-'))
    told = failing(capsys, "run", "recipes")
    assert 'recipes/0-tokenizer.toml:3: documents = "runs/instruct/documents' in told
    assert "2-tokenizer.toml" not in told
    assert not Path("runs").exists()


def test_an_input_of_a_finished_recipe_must_be_there(here, capsys):
    assert cli.main(["run", "recipes"]) == 0
    add(here, "2-tokenizer.toml", TOKENIZER.replace("documents.jsonl", "dokuments.jsonl"))
    told = failing(capsys, "run", "recipes")
    assert told.endswith("does not exist. Did you mean documents.jsonl.zst?\n")


def test_a_corpus_that_is_not_there_is_told_before_the_first_recipe_runs(here, capsys):
    add(here, "2-data.toml", 'stage = "data"\nout = "runs/data"\ncorpus = "stdlb"\n')
    told = failing(capsys, "run", "recipes")
    assert told.startswith("baiwen: recipes/2-data.toml: corpus: there is no file, folder or glob")
    assert not Path("runs").exists()


def test_what_a_finished_run_has_read_may_be_gone(here):
    corpus = Path("corpus.txt")
    corpus.write_text("to be or not to be\n" * 20)
    add(
        here,
        "2-tokenizer.toml",
        TOKENIZER.replace("runs/instruct/documents.jsonl.zst", "corpus.txt"),
    )
    assert cli.main(["run", "recipes", "vocab_size=258"]) == 0
    corpus.unlink()
    assert cli.main(["run", "recipes", "vocab_size=258"]) == 0


# Mistakes: exit code 2, a message, no traceback.


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (RECIPE.replace("train", "trian"), "instruct.toml:4: trian is not a knob. Did you mean tr"),
        (RECIPE.replace("20", '"20"'), 'instruct.toml:4: train = "20" must be a valid integer'),
        (RECIPE.replace("20", "-1"), "train = -1 must be greater than or equal to 0"),
        (RECIPE + 'kinds = ["tables"]', "toml:7: kinds: no task kind 'tables'; there are any_call"),
        (RECIPE + "kinds = []", "kinds = [] must have at least 1 item"),
        (RECIPE.replace("\nout", "\n# out"), "out is missing: it has no default"),
        (RECIPE.replace('"instruct"', '"instuct"'), "toml:2: there is no stage 'instuct'. Did"),
        (RECIPE.replace("stage", "# stage"), "stage is missing: name one of "),
        (RECIPE.replace("= 20", "= "), "1-instruct.toml:4: is not valid TOML: Invalid value"),
    ],
)
def test_a_mistake_in_a_recipe_is_told(here, capsys, recipe, told):
    add(here, "1-instruct.toml", recipe)
    shown = failing(capsys, "run", "recipes")
    assert shown.startswith("baiwen: recipes/1-instruct.toml")
    assert told in shown
    assert "Traceback" not in shown


def test_mistakes_of_all_recipes_come_at_once(here, capsys):
    add(here, "1-instruct.toml", RECIPE + "x = 1\n")
    add(here, "2-more.toml", RECIPE.replace("runs/instruct", "runs/more") + "y = 1\n")
    told = failing(capsys, "plan", "recipes")
    assert "1-instruct.toml:7: x is not a knob" in told
    assert "2-more.toml:7: y is not a knob" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rum", "recipes"], "there is no command rum. Did you mean run?\n    commands: run, plan"),
        (["run"], "the following arguments are required: recipe\n    usage: baiwen run"),
        (
            ["run", "recipies"],
            "no recipe, or folder of recipes, at recipies. Did you mean recipes?",
        ),
        (["run", "empty"], "empty: holds no recipe"),
        (["run", "."], ".: holds no recipe (NAME.toml); there are some in recipes"),
        (["run", "recipes", "train"], "'train' is no override: write key=value"),
        (["run", "recipes", "trian=3"], "with trian=3: trian is not a knob. Did you mean train?"),
        (["run", "recipes", "out.x=3"], "out.x=3: out is not a table"),
        (["show", "instuct"], "there is no stage instuct. Did you mean instruct?"),
        (["chat", "runs/sft"], "there is no model at runs/sft. The folder . holds: empty"),
        (["eval", "recipes", "--tsks", "x"], "unrecognized arguments: --tsks x"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(here, capsys, arguments, told):
    Path("empty").mkdir()
    assert told in failing(capsys, *arguments)


def test_an_override_that_no_recipe_of_a_folder_has_is_told(here, capsys):
    add(here, "2-more.toml", RECIPE.replace("runs/instruct", "runs/more"))
    told = failing(capsys, "run", "recipes", "trian=3")
    assert told == "baiwen: trian=3: no recipe of the folder has trian. Did you mean train?\n"


def test_two_recipes_do_not_share_a_folder(here, capsys):
    add(here, "2-more.toml", RECIPE)
    told = failing(capsys, "run", "recipes")
    assert told.startswith("baiwen: recipes/2-more.toml: out = runs/instruct is also that of ")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space", "runs/x"), "no space is left on the disk (runs/x)"),
        (MemoryError(), "this machine is out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "this machine is out of mem"),
    ],
)
def test_what_runs_out_is_told(here, capsys, monkeypatch, error, told):
    def fail(recipe: stages.Recipe) -> None:
        raise error

    monkeypatch.setattr(stages, "run", fail)
    assert told in failing(capsys, "run", "recipes")


def test_a_fault_of_ours_keeps_its_traceback(here, monkeypatch):
    def fail(recipe: stages.Recipe) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(stages, "run", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        cli.main(["run", "recipes"])


# Interruption: one line that resumes.


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_prints_the_line_that_resumes_it(here, forks, number, code):
    command = ["run", "recipes", "train=10000000", "instruct.seed=3"]
    job = forks.start("-m", "baiwen", *command)
    _await(Path("runs/instruct/run.json"))
    job.kill(number)
    told = job.wait().stderr
    assert job.returncode == code
    typed = shlex.join([sys.executable, "-m", "baiwen", *command])
    assert told.splitlines()[-1] == f"baiwen: interrupted; resume with: {typed}"
    assert "Traceback" not in told
    assert not files.complete("runs/instruct")


def _await(path: Path, seconds: float = 250) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.05)


def test_ranks_above_0_wait_for_what_rank_0_does_alone(here):
    follower = process_of("run", "recipes", RANK="1")
    time.sleep(1)
    assert follower.poll() is None
    leader = process_of("run", "recipes", RANK="0")
    assert (leader.wait(250), follower.wait(250)) == (0, 0)
    assert "done: runs/instruct" in leader.communicate()[1]
    assert follower.communicate() == ("", "")


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{shlex.quote(sys.executable)} -m baiwen show pretrain | head -1"
    told = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert told.stdout.startswith("pretrain: ")
    assert told.stderr == ""


# Plan: nothing is run or written.


def test_a_plan_writes_nothing_and_marks_what_differs(here, capsys):
    add(here, "2-tokenizer.toml", TOKENIZER)
    assert cli.main(["plan", "recipes", "seed=3"]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["*", "train", "20", "20000"] in lines
    assert ["*", "seed", "3", "0"] in lines
    assert ["per_document", "4"] in lines
    awaited = "documents: runs/instruct/documents.jsonl.zst is not there yet; instruct writes it"
    assert awaited in shown
    assert not Path("runs").exists()


def test_a_plan_shows_the_defaults_of_the_stage_not_of_the_table():
    class Optim(Knobs):
        lr: float = 1.0
        decay: float = 0.1

    class Made(Knobs):
        optim: Optim = Optim(lr=2.0)

    assert list(plan.knobs(Made(optim=Optim(lr=2.0, decay=0.3)))) == [
        ("optim.lr", "2.0", "2.0"),
        ("optim.decay", "0.3", "0.1"),
    ]


def test_what_the_terminals_encoding_lacks_is_shown_by_its_number(here, monkeypatch):
    told = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(told, encoding="ascii"))
    assert cli.main(["plan", "recipes/1-instruct.toml", "out=百问"]) == 0
    assert b"\\u767e\\u95ee" in told.getvalue()


# Show and help: from the source alone.


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["show"], ["show", "instruct"]]
)
def test_help_and_show_import_nothing_heavy(arguments):
    code = (
        "import sys; from baiwen.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass"
    )
    code += "\nprint(*sys.modules, file=sys.stderr)"
    told = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert told.stdout
    assert not {"torch", "pydantic", "pyarrow", "numpy", "rich", "typer"} & set(told.stderr.split())


def test_show_lists_every_stage(capsys):
    assert cli.main(["show"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == stages.NAMES
    assert all(len(line.split()) > 3 for line in shown)


@pytest.mark.parametrize("stage", stages.NAMES)
def test_show_agrees_with_the_stage(stage):
    module = importlib.import_module(f"baiwen.stages.{stage}")
    shown = {knob.key: knob for knob in show.knobs(stage)}
    fields = dict(_fields(module.Config))
    assert list(shown) == list(fields)
    for key, (owner, field, default) in fields.items():
        assert shown[key].comment, f"{stage}: {key} has no comment beside it"
        if default is ...:
            assert shown[key].default == ""
        else:
            home = vars(sys.modules[owner.__module__]) | vars(module) | {"Path": Path}
            assert eval(shown[key].default, home) == default, key
        bounds = [mark for mark in field.metadata if hasattr(mark, "gt")]
        assert all(f"> {mark.gt}" in shown[key].type for mark in bounds), key


def _fields(
    table: type[Knobs], above: Any = None, key: str = ""
) -> Iterator[tuple[str, tuple[type[Knobs], FieldInfo, Any]]]:
    """Every knob below a table as pydantic has it: its key, its owner, and its default."""
    for name, field in table.model_fields.items():
        given = getattr(above, name) if above is not None else field.default
        default = ... if field.is_required() and above is None else given
        if isinstance(field.annotation, type) and issubclass(field.annotation, Knobs):
            inner = default if isinstance(default, Knobs) else None
            yield from _fields(field.annotation, inner, f"{key}{name}.")
            continue
        yield f"{key}{name}", (table, field, default)
        for step, part in _held(field.annotation):
            yield from _fields(part, None, f"{key}{name}{step}.")


def _held(annotation: Any) -> Iterator[tuple[str, type[Knobs]]]:
    """The tables within a type, each with what leads to one of them."""
    many = {dict: ".NAME", tuple: "[N]", Annotated: ""}.get(get_origin(annotation), "")
    for part in get_args(annotation):
        if isinstance(part, type) and issubclass(part, Knobs):
            yield many, part
        yield from ((many + step, inner) for step, inner in _held(part))


# A model: loaded, talked to, scored.


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, large enough that every context gets another answer."""
    folder = tmp_path_factory.mktemp("model") / "random"
    tokenizer = bpe.train(["to be or not to be"] * 4, vocab_size=260)
    shape = replace(
        SIZES["tiny"],
        vocab_size=384,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
        initializer_range=0.5,
        eos_token_id=tokenizer.end_of_turn,
    )
    made = Transformer(shape)
    made.init_weights(seed=1)
    baiwen.save(made, tokenizer, folder)
    return folder


def test_the_names_of_the_package_load_a_model_and_save_it_again(model, tmp_path):
    loaded, tokenizer = baiwen.load(model)
    baiwen.save(loaded, tokenizer, tmp_path / "again")
    again, other = baiwen.load(tmp_path / "again")
    tokens = torch.tensor([tokenizer.encode("to be")])
    assert torch.equal(loaded.logits(tokens), again.logits(tokens))
    assert other.fingerprint == tokenizer.fingerprint
    done = baiwen.Engine(again, other).generate(["to be"], baiwen.Sampling(max_tokens=3))
    assert len(done[0].ids) <= 3
    assert isinstance(tokenizer, baiwen.Tokenizer)
    assert again.config.eos_token_id == tokenizer.end_of_turn


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        baiwen.Trainer  # noqa: B018


def chatting(model: Path, conversations: list[list[str]], system: str = "") -> list[str]:
    """The greedy answers to the last line of each conversation, as `generate` gives them."""
    engine = baiwen.Engine(*baiwen.load(model))
    greedy = baiwen.Sampling(repetition_penalty=1.05, max_tokens=6)
    messages = [
        [{"role": "system", "content": system}] * bool(system)
        + [
            {"role": "assistant" if index % 2 else "user", "content": line}
            for index, line in enumerate(lines)
        ]
        for lines in conversations
    ]
    return [done.text for done in engine.generate(messages, greedy)]


def piped(model: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    assert cli.main(["chat", str(model), "--temperature", "0", "--max-tokens", "6"]) == 0


def test_chat_remembers_the_conversation(model, capsys, monkeypatch):
    piped(model, ["to be", "", "or not"], monkeypatch)
    (first,) = chatting(model, [["to be"]])
    (second,) = chatting(model, [["to be", first, "or not"]])
    assert capsys.readouterr().out == f"{first}\n{second}\n"
    assert chatting(model, [["or not"]]) != [second]


def test_chat_obeys_its_commands(model, capsys, monkeypatch):
    lines = ["to be", "/system Be short.", "or not", "/reset", "to be", "/help", "/quit", "never"]
    piped(model, lines, monkeypatch)
    (before,) = chatting(model, [["to be"]])
    second, third = chatting(model, [["or not"], ["to be"]], system="Be short.")
    assert capsys.readouterr().out == f"{before}\n{second}\n{third}\n{chat.HELP}\n"
    assert before != third


def test_eval_prints_accuracy_and_bits_per_byte(here, model, capsys):
    assert cli.main(["run", "recipes"]) == 0
    arguments = ["--questions", "1", "--tasks", "runs/instruct/heldout.jsonl"]
    arguments += ["--documents", "runs/instruct/documents.jsonl.zst"]
    assert cli.main(["eval", str(model), *arguments]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert rows[0] == ["kind", "right", "95", "%", "n"]
    kinds = len({row["kind"] for row in files.read_jsonl("runs/instruct/heldout.jsonl")})
    assert rows[1][0] == "all" and rows[1][-1] == str(kinds)
    place = rows.index(
        ["source", "bits", "a", "byte", "95", "%", "gzip", "-9", "xz", "-9", "bytes"]
    )
    assert place == kinds + 2
    assert float(rows[place + 1][1]) > float(
        rows[place + 1][5]
    )  # random weights, so worse than gzip


@pytest.mark.parametrize(
    ("row", "arguments", "told"),
    [
        ('{"txt": "x"}', ["--documents", "rows.jsonl"], "rows.jsonl@0: no string `text`"),
        ('{"prompt": []}', ["--tasks", "rows.jsonl"], "rows.jsonl: row 1 has no `answer`"),
        ("{}", ["--tasks", "rows.jsonl", "--questions", "0"], "questions = 0 must be greater"),
        ("{}", ["--tasks", "rows.jsonl", "--device", "gpu"], 'device = "gpu" must match pattern'),
    ],
)
def test_eval_tells_what_it_cannot_score(
    model, capsys, tmp_path, monkeypatch, row, arguments, told
):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(f"{row}\n")
    assert told in failing(capsys, "eval", str(model), *arguments)


def test_eval_takes_a_model_by_any_path(model, capsys, monkeypatch):
    monkeypatch.chdir(model)
    text = model.parent / "text.txt"
    text.write_text("to be or not to be")
    assert cli.main(["eval", ".", "--documents", str(text)]) == 0
    assert "prose" in capsys.readouterr().out


def test_eval_needs_something_to_score_on(model, capsys):
    told = failing(capsys, "eval", str(model))
    assert "give --tasks FILE, --documents FILE or --suite long --lengths N" in told


def test_eval_prints_the_grid_of_the_pass_key_and_ruler_in_both_marks(model, capsys, tmp_path):
    text = tmp_path / "text.txt"
    parts = ("to", "up", "be", "at", "of"), ("walk", "look", "talk", "turn"), ("ed", "er", "s")
    words = map("".join, itertools.product(*parts))  # enough to make keys of
    text.write_text(f"{' '.join(words)}\n\n" * 80)
    arguments = ["--suite", "long", "--lengths", "1200", "1500", "--depths", "3", "--keys", "1"]
    arguments += ["--samples", "1", "--tasks", "passkey", "niah_single_2", "qa_1"]
    assert cli.main(["eval", str(model), *arguments, "--haystack", str(text)]) == 0
    out, progress = capsys.readouterr()
    rows = [line.split() for line in out.splitlines() if line]
    assert rows[0] == ["pass", "key,", "depth", "1,200", "1,500"]
    assert [row[0] for row in rows[1:5]] == ["0.00", "0.50", "1.00", "all"]
    assert ["niah_single_2", *["0.0", "/", "0.0", "%"] * 2] in rows
    assert rows[-2][-4:] == ["0.0", "%", "0.0", "%"] and rows[-1] == ["to", *["79.3", "%"] * 2]
    assert "reads 2,048 tokens, as trained" in progress
    more = ["--lengths", "3000", "--tasks", "passkey", "--context", "3000", "--no-dca"]
    more += ["--sparse", "--sparse-from", "2500", "--kv", "bf16"]
    assert cli.main(["eval", str(model), *arguments, "--haystack", str(text), *more]) == 0
    read = "by YaRN, by factors of 1, 1.46; prompts from 2,500 on sparsely, by vote"
    assert read in capsys.readouterr().err
    assert "qa_1 is left out: no questions on documents: give squad = FILE" in progress


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--suite", "long"], "--suite long needs --lengths"),
        (["--lengths", "512"], "--lengths is for --suite long"),
        (["--tasks", "a.jsonl", "b.jsonl"], "--tasks takes one file of questions; 2 were given"),
        (["--suite", "long", "--lengths", "9000"], "lengths = 9,000 are beyond it"),
        (["--suite", "long", "--lengths", "512", "--tasks", "needle"], "no task needle"),
        (["--suite", "long", "--lengths", "512", "--squad", "no.json"], "no.json"),
    ],
)
def test_eval_tells_what_it_cannot_ask_of_long_texts(model, capsys, arguments, told):
    assert told in failing(capsys, "eval", str(model), *arguments)


def test_the_doctor_finds_no_fault_here(capsys):
    assert cli.main(["doctor"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines] == [
        "python", "torch", "cpu", "native", "sandbox", "gpu",
        "memory", "disk", "packages", "tokenizer", "model",
    ]  # fmt: skip
    assert {line[0] for line in lines} <= {"ok", "note"}


def test_the_doctor_ends_with_1_where_it_finds_a_fault(capsys, monkeypatch):
    monkeypatch.setattr(
        doctor, "TEXT", f"e\u0301{doctor.TEXT}"
    )  # NFC makes one character of the two
    assert cli.main(["doctor"]) == 1
    assert "fault tokenizer" in capsys.readouterr().out
