import pytest
from pydantic import ValidationError

from baiwen import files
from baiwen.dist import World
from baiwen.scaling import laws, settings
from baiwen.scaling.presets import Target
from baiwen.stages.pretrain import Config, work
from baiwen.train.optim import AskedOptim

LAW = {"optim": AskedOptim(lr="law"), "tokens_per_step": "law", "law": "steplaw"}
STEPLAW = settings.setting("steplaw", Target(357.9e6, 10e9))


def config(**knobs):
    needed = {"out": "o", "shards": "s", "tokenizer": "t", "size": "0.5b"}
    return Config(**needed | {"tokens": 10**10} | knobs)


def test_a_published_law_gives_its_worked_values():
    found = settings.numbers(config(**LAW, sequence_length=2048, micro_tokens=2048), STEPLAW)
    assert found.lr == pytest.approx(1.68e-3, rel=0.01)
    assert found.tokens_per_step == pytest.approx(0.30e6, rel=0.02)
    assert found.tokens_per_step % 2048 == 0


@pytest.mark.parametrize(("shares", "micro_batches"), [(1, 36), (3, 12), (8, 5), (64, 1)])
def test_a_step_is_the_nearest_that_all_ranks_divide(shares, micro_batches):
    """The law says 297,460, which is 36.3 micro-batches; 64 ranks have one each at least."""
    found = settings.numbers(config(**LAW), STEPLAW, shares)
    assert found.tokens_per_step == 8192 * shares * micro_batches
    planned = work(config(**LAW)).on(shares)
    assert planned.tokens_per_step == found.tokens_per_step


def test_only_what_is_asked_is_told_by_the_law():
    found = settings.numbers(config(**LAW | {"tokens_per_step": 2**20}), STEPLAW)
    assert (found.lr, found.tokens_per_step) == (STEPLAW.lr.value, 2**20)
    found = settings.numbers(config(**LAW | {"optim": AskedOptim(lr=0.5)}), STEPLAW)
    assert found.lr == 0.5 and found.tokens_per_step < 2**20


def test_without_a_law_numbers_stay_and_nothing_is_written(tmp_path):
    found = settings.begin(config(), None, files.RunFolder(tmp_path, False, False), world())
    assert (found.lr, found.tokens_per_step, found.told) == (3e-4, 2**20, {})
    assert not list(tmp_path.iterdir())


def test_a_resume_goes_on_with_what_the_run_began_with(tmp_path):
    fresh, resumed = (files.RunFolder(tmp_path, False, resumable) for resumable in (False, True))
    begun = settings.begin(config(**LAW), STEPLAW, fresh, world())
    other = settings.setting("deepseek", Target(357.9e6, 10e9))
    assert settings.begin(config(**LAW), other, resumed, world()) == begun
    assert settings.begin(config(**LAW), other, fresh, world()) != begun


def test_every_rank_has_the_same_numbers_and_one_keeps_them(tmp_path):
    folders = [tmp_path / name for name in ("first", "second")]
    found = []
    for rank, path in enumerate(folders):
        path.mkdir()
        folder = files.RunFolder(path, False, False)
        found.append(settings.begin(config(**LAW), STEPLAW, folder, world(rank, 2)))
    assert found[0] == found[1] and found[0].tokens_per_step == 2 * 18 * 8192
    assert [(path / "law.json").exists() for path in folders] == [True, False]


def test_beyond_its_runs_a_law_says_so():
    told = settings.numbers(config(**LAW), settings.setting("steplaw", Target(7e9, 18e12))).told
    assert "beyond its runs: parameters 6.36x above, tokens 180x above" in told["peak lr by law"]


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"law": "steplaw"}, "law is asked for nothing"),
        ({"tokens_per_step": "law"}, '"law" needs `law`'),
        (LAW | {"law": "minicpm"}, 'law = "minicpm" is neither a laws.json nor'),
        (LAW | {"tokens": None, "steps": 5}, "needs tokens or epochs"),
        (LAW | {"start": "base"}, "laws are of models trained from fresh weights"),
        ({"tokens_per_step": "much"}, "Input should be 'law'"),
    ],
)
def test_what_a_law_cannot_answer_is_refused(knobs, told):
    with pytest.raises(ValidationError, match=told):
        config(**knobs)


def test_laws_of_ones_own_have_intervals(tmp_path):
    cells = [(n, d) for n in (1e6, 1e7) for d in (1e8, 1e9)]
    rows = [
        f"{n},{d},{2 * n**-0.7 * d**0.3 * noise},{0.6 * d**0.5 / 2048},{3 / noise}"
        for n, d in cells
        for noise in (1, 1.001)
    ]
    (tmp_path / "runs.csv").write_text("\n".join(["N,D,lr,bs,smooth loss", *rows]))
    laws.write(tmp_path / "laws.json", laws.fit(tmp_path / "runs.csv", draws=50))
    found = settings.setting(tmp_path / "laws.json", Target(1e7, 1e9))
    assert found.lr.value == pytest.approx(2 * 1e7**-0.7 * 1e9**0.3, rel=0.01)
    assert found.lr.low <= found.lr.value <= found.lr.high and not found.lr.beyond


def world(rank=0, ranks=1):
    return World(rank, ranks, None, None)
