"""A step over parts that are held in memory, one after the other as the pipeline runs them."""

from dataclasses import dataclass, field

import pyarrow as pa
import pytest


@dataclass
class Held:
    """Parts in memory (`step.Parts`)."""

    tables: list[pa.Table]
    asked: list[tuple[str, int]] = field(default_factory=list)  # columns, and of how many rows

    def __len__(self):
        return len(self.tables)

    def table(self, part, columns):
        self.asked += [(name, len(self.tables[part])) for name in columns]
        return self.tables[part].select(list(dict.fromkeys(("id", *columns))))

    def rows(self, part, places, columns):
        self.asked += [(name, len(places)) for name in columns]
        names = list(dict.fromkeys(("id", *columns)))
        return self.tables[part].select(names).take(pa.array(places, pa.int64()))


def documents(texts, first=0, **columns):
    """A part of the documents d0, d1, ... of these texts."""
    count = len(texts)
    table = pa.table(
        {
            "id": pa.array([f"d{first + place}" for place in range(count)], pa.string()),
            "text": pa.array(texts, pa.large_string()),
            "domain": pa.array(["prose"] * count, pa.string()),
            "source": pa.array(["corpus"] * count, pa.string()),
            "bytes": pa.array([len(text.encode()) for text in texts], pa.int64()),
        }
    )
    return pa.table({name: table[name] for name in table.column_names} | columns)


@dataclass
class Steps:
    """How a pair of steps is run over tables of documents."""

    parts: Held | None = None

    def __call__(self, steps, *tables):
        """What the global step found, all parts in one: {column: [...]}."""
        local, together = steps
        known = []
        for table in tables:
            found = local.function(table.select(["id", *local.reads]))
            for name in found.column_names:
                table = table.append_column(f"{local.name}.{name}", found[name])
            known.append(table)
        self.parts = Held(known)
        made = list(together.function(self.parts))
        assert [len(one) for one in made] == [len(table) for table in tables]
        assert {name for name, _ in self.parts.asked} <= set(together.reads)
        return pa.concat_tables(made).to_pydict()


@pytest.fixture(scope="session")
def run():
    """Run the two steps of a module over tables; `parts` are those of the last call."""
    return Steps()


@pytest.fixture(scope="session")
def part():
    """Make a part of texts."""
    return documents
