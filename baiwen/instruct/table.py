"""Looking a value up in a small Markdown table.

    | name | age | city | job |
    |---|---|---|---|
    | Tom | 31 | Rome | poet |
    | Eva | 24 | Oslo | pilot |
    What is the city of Eva?      Oslo

The smallest of the table tasks that the report names (spec 7, area 5: structured data).
"""

from random import Random

from baiwen.instruct.task import Task, chinese
from baiwen.instruct.words import CITIES, JOBS, NAMES, ZH_CITIES, ZH_JOBS, ZH_NAMES

# Difficulty: how many rows.
FEWEST, MOST = 2, 4
OLDEST = 99

ENGLISH = (
    "{table}\nWhat is the {column} of {name}?",
    "{table}\nGive the {column} of {name}.",
    "Look up the {column} of {name}.\n{table}",
)
CHINESE = ("{table}\n{name}的{column}是什么？", "查表：{name}的{column}。\n{table}")


def produce(rng: Random) -> Task:
    """People with an age, a city and a job; one cell is asked for."""
    in_chinese = chinese(rng)
    rows = _rows(rng, in_chinese)
    columns = ["姓名", "年龄", "城市", "职业"] if in_chinese else ["name", "age", "city", "job"]
    row, at = rng.choice(rows), rng.randrange(1, len(columns))
    return Task(
        kind="table",
        prompt=rng.choice(CHINESE if in_chinese else ENGLISH).format(
            table=markdown([columns, *rows]), name=row[0], column=columns[at]
        ),
        reply=row[at],
        answer=row[at],
        verifier="exact",
        key="\n".join(sorted(" ".join(row) for row in rows)),
    )


def markdown(rows: list[list[str]]) -> str:
    """Rows as a Markdown table; the first is the heading."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def _rows(rng: Random, in_chinese: bool) -> list[list[str]]:
    names, cities, jobs = (ZH_NAMES, ZH_CITIES, ZH_JOBS) if in_chinese else (NAMES, CITIES, JOBS)
    return [
        [name, str(rng.randint(10, OLDEST)), rng.choice(cities), rng.choice(jobs)]
        for name in rng.sample(names, rng.randint(FEWEST, MOST))
    ]
