"""Recipes: what is accepted, and the words for what is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar, Self

import pytest
from pydantic import Field, ValidationError, model_validator

from baiwen import config
from baiwen.config import Input, Inputs, Knobs
from baiwen.errors import UserError


class Optim(Knobs):
    lr: Annotated[float, Field(gt=0)] = 3e-4
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)


class Source(Knobs):
    path: Input
    weight: float = 1.0


class Recipe(Knobs):
    every_rank: ClassVar[bool] = True

    out: Path
    start: Input
    steps: int = 100
    shuffle: bool = True
    corpus: str | list[str] = "stdlib"
    also: Input | None = None
    more: list[Input] = []  # noqa: RUF012 - pydantic copies it
    mixture: dict[str, Source] = {}  # noqa: RUF012
    sources: tuple[Source, ...] = ()
    optim: Optim = Optim(lr=7e-6)


def parse(text: str, path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    path.write_text(text, encoding="utf-8")
    raw = config.override(config.read(path), overrides)
    return config.parse(raw, Recipe, path, overrides)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "1-recipe.toml"


def complaint(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


def test_a_recipe_becomes_typed_knobs(source):
    made = parse(
        'out = "runs/x"\nstart = "base"\nsteps = 7\n[optim]\nlr = 1\nbetas = [0.8, 0.9]\n', source
    )
    assert made == Recipe(
        out=Path("runs/x"), start=Path("base"), steps=7, optim=Optim(lr=1.0, betas=(0.8, 0.9))
    )
    assert isinstance(made.optim.lr, float)


def test_a_table_keeps_the_defaults_that_the_stage_gave_it(source):
    made = parse('out = "o"\nstart = "s"\noptim.weight_decay = 0.5\n', source)
    assert made.optim == Optim(lr=7e-6, weight_decay=0.5)


def test_knobs_are_frozen(source):
    made = parse('out = "o"\nstart = "s"\n', source)
    with pytest.raises(ValidationError):
        made.steps = 3


def test_a_resolved_recipe_parses_to_itself(source):
    made = parse('out = "o"\nstart = "s"\ncorpus = ["a", "b"]\noptim.lr = 1e-3\n', source)
    assert config.parse(config.resolved(made), Recipe, "recipe.json") == made


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('steps = "7"', 'steps = "7" must be a valid integer'),
        ("steps = true", "steps = true must be a valid integer"),
        ("steps = 7.0", "steps = 7.0 must be a valid integer"),
        ("shuffle = 1", "shuffle = 1 must be a valid boolean"),
        ("out = 3", "out = 3 must be a valid string"),
        ("corpus = 3", "corpus = 3 must be a valid string, or a valid array"),
        ("optim = 3", "optim = 3 must be a table"),
        ("optim.lr = -1", "optim.lr = -1 must be greater than 0"),
        ("optim.lr = nan", "optim.lr = NaN must be a finite number"),
        ("optim.betas = [0.9]", "optim.betas[1] is missing"),
        ("stepz = 7", "stepz is not a knob. Did you mean steps?\n    the recipe may have: out, "),
        ("optim.weigth_decay = 7", "optim.weigth_decay is not a knob. Did you mean weight_decay?"),
        ("mixture.web.path = 3", "mixture.web.path = 3 must be a valid string"),
        ("mixture.web = {pth = 3}", "mixture.web.path is missing"),
    ],
)
def test_a_mistake_is_named_with_its_line(source, line, told):
    text = "".join(f"{given}\n" for given in ('out = "o"', 'start = "s"') if given[:3] != line[:3])
    place = f"{source}:{text.count(chr(10)) + 1}: "
    assert place + told in complaint(lambda: parse(text + line, source))


def test_the_line_is_found_in_tables_and_arrays_of_tables(source):
    text = 'out = "o"\nstart = "s"\n\n[optim]  # AdamW\n\nlr = "x"\n[[sources]]\npath = "a"\n'
    text += '[[sources]]\npath = "b"\nweight = "y"\n'
    told = complaint(lambda: parse(text, source)).splitlines()
    assert [line.split(": ")[0] for line in told] == [f"{source}:6", f"{source}:11"]
    assert told[1].endswith('sources[1].weight = "y" must be a valid number')


def test_all_mistakes_come_at_once_and_in_the_order_of_the_file(source):
    told = complaint(lambda: parse('stepz = 1\nshuffle = 2\nout = "o"\n[optim]\nlr = 0', source))
    found = [line for line in told.splitlines() if not line.startswith(" ")]
    assert [line.split(": ")[1].split()[0] for line in found] == [
        "start", "stepz", "shuffle", "optim.lr",
    ]  # fmt: skip


def test_a_missing_knob_is_named(source):
    told = complaint(lambda: parse('out = "o"\n', source))
    assert told == f"{source}: start is missing: it has no default, so the recipe must set it"


def test_a_mistake_in_an_override_is_not_blamed_on_the_file(source):
    told = complaint(lambda: parse('out = "o"\nstart = "s"\nsteps = 3', source, ("steps=many",)))
    assert told == f'{source}, with steps=many: steps = "many" must be a valid integer'
    twice = ("steps=3", "steps=more")
    assert complaint(lambda: parse('out = "o"\nstart = "s"', source, twice)).startswith(
        f"{source}, with steps=more: "
    )


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("a.b=1e-3", 1e-3),
        ("a.b=3", 3),
        ("a.b=true", True),
        ("a.b=[1, 2]", [1, 2]),
        ('a.b="3"', "3"),
        ("a.b=runs/x", "runs/x"),
        ("a . b = runs/x", "runs/x"),
        ("""'a'."b"=it's""", "it's"),
        ("a.b=007", "007"),
        ("a.b=", ""),
        ("a.b=x=y", "x=y"),
        ("a.b=1\nc = 2", "1\nc = 2"),
    ],
)
def test_an_override_is_a_toml_value_or_a_bare_string(assignment, value):
    before = {"a": {"b": 0, "c": 1}}
    assert config.override(before, [assignment]) == {"a": {"b": value, "c": 1}}
    assert before == {"a": {"b": 0, "c": 1}}


@pytest.mark.parametrize("assignment", ["steps", "=3", "optim.=3", ""])
def test_what_is_no_override_is_refused(assignment):
    assert "is no override: write key=value" in complaint(lambda: config.override({}, [assignment]))


def test_a_name_with_dots_is_quoted_as_in_toml(source):
    before = {"mixture": {"en.web": {"path": "x"}}}
    found = config.override(before, ['mixture."en.web".path=y'])
    assert found == {"mixture": {"en.web": {"path": "y"}}}
    text = 'out = "o"\nstart = "s"\n\n[mixture."en.web"]\npath = "a"\nweight = "much"\n'
    told = complaint(lambda: parse(text, source))
    assert told == f'{source}:6: mixture.en.web.weight = "much" must be a valid number'


def test_an_override_does_not_go_through_a_value():
    told = complaint(lambda: config.override({"steps": 3}, ["steps.lr=1"]))
    assert told == "steps.lr=1: steps is not a table"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a = 1\nb = = 2\n", ":2: is not valid TOML: Invalid value"),
        (b"a = 1\na = 2\n", ":2: is not valid TOML: Cannot overwrite a value"),
        (b"a = [1,\n", "is not valid TOML"),
        (b"a = '\xff'", ": is not UTF-8 text (byte 5)"),
    ],
)
def test_a_broken_file_is_named(source, content, told):
    source.write_bytes(content)
    assert complaint(lambda: config.read(source)).startswith(f"{source}")
    assert told in complaint(lambda: config.read(source))


def test_a_byte_order_mark_is_no_mistake(source):
    source.write_bytes(b"\xef\xbb\xbfa = 1")
    assert config.read(source) == {"a": 1}


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    told = complaint(lambda: config.read(tmp_path / "no.toml"))
    assert told == f"{tmp_path / 'no.toml'}: cannot be read: No such file or directory"


def test_inputs_are_found_wherever_they_stand():
    made = Recipe(
        out=Path("o"),
        start=Path("a"),
        also=Path("b"),
        more=[Path("c")],
        mixture={"web": Source(path=Path("d"))},
        sources=(Source(path=Path("e")),),
    )
    assert config.inputs(made) == [
        ("start", Path("a")),
        ("also", Path("b")),
        ("more[0]", Path("c")),
        ("mixture.web.path", Path("d")),
        ("sources[0].path", Path("e")),
    ]


class Joined(Knobs):
    parts: Inputs


class Spread(Knobs):
    sizes: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    least: int = 0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if min(self.sizes) < self.least:
            raise ValueError(f"least = {self.least} is above one of sizes")
        return self


def test_what_a_whole_recipe_gets_wrong_has_the_line_of_the_key_that_it_names(source):
    source.write_text("sizes = [3]\n\nleast = 5", encoding="utf-8")
    told = complaint(lambda: config.parse(config.read(source), Spread, source))
    assert told == f"{source}:3: least = 5 is above one of sizes"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ('["a"]', 'sizes[0] = "a" must be a valid integer'),
        ("[]", "sizes = [] must have at least 1 item"),
    ],
)
def test_items_that_are_wrong_are_not_called_missing_as_well(source, value, told):
    source.write_text(f"sizes = {value}", encoding="utf-8")
    found = complaint(lambda: config.parse(config.read(source), Spread, source))
    assert found == f"{source}:1: {told}"


class Named(Knobs):
    data: Input | dict[str, Input]


def test_a_path_alone_or_by_name_is_an_input_once():
    assert config.inputs(Named(data=Path("a"))) == [("data", Path("a"))]
    assert config.inputs(Named(data={"b": Path("a")})) == [("data.b", Path("a"))]


@pytest.mark.parametrize("value", ['"a"', '["a"]', '["a", "b"]'])
def test_one_path_or_several_are_inputs(source, value):
    source.write_text(f"parts = {value}", encoding="utf-8")
    made = config.parse(config.read(source), Joined, source)
    paths = [Path(name) for name in "ab" if name in value]
    assert config.inputs(made) == [(f"parts[{i}]", path) for i, path in enumerate(paths)]
    assert Joined(parts=paths) == Joined(parts=tuple(paths)) == made


def test_paths_that_are_none_are_refused(source):
    for value in ("3", "[]", "[3]"):
        source.write_text(f"parts = {value}", encoding="utf-8")
        assert "parts" in complaint(lambda: config.parse(config.read(source), Joined, source))


def test_a_missing_input_is_named_with_the_nearest_one(source, tmp_path):
    (tmp_path / "extend").mkdir()
    made = parse(f'out = "o"\nstart = "{tmp_path}/extent/model"\n', source)
    told = complaint(lambda: config.require(made, source))
    assert told == (
        f'{source}:2: start = "{tmp_path}/extent/model" does not exist. Did you mean extend?'
    )
    config.require(made, source, unless_below=[tmp_path / "extent"])


def test_an_input_that_no_file_system_could_hold_is_missing(source):
    made = parse(f'out = "o"\nstart = "{"x" * 300}"\n', source)
    told = complaint(lambda: config.require(made, source))
    assert told.startswith(f'{source}:2: start = "xxx')
    assert "does not exist" in told


def test_a_key_is_known_only_where_it_is_a_knob():
    keys = [
        "steps",
        "optim.lr",
        "mixture.web.weight",
        "optim.steps",
        "lr",
        "steps.lr",
        "mixture.x.y",
    ]
    assert [config.has(Recipe, key.split(".")) for key in keys] == [True] * 3 + [False] * 4
