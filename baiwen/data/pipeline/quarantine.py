"""Quarantine: a document that a function raises on goes; the others of its part do not notice.

    found, told = attempted(step, table)

The function is tried on the whole part; where it raises, on each document by itself. Those that it
raises on again go with the rule "error: ..." and the whole message as `STEP.error`. A `UserError`
is about the recipe and stops the run, and so does a function that raises on every document.
"""

from collections.abc import Callable

import pyarrow as pa

from baiwen.data.pipeline.step import Map
from baiwen.errors import UserError

ERROR = "error: "  # how the rules of quarantined documents begin
MESSAGE = "error"  # the column that says more
_TOLD = 200  # characters of an error's message

Function = Callable[[pa.Table], pa.Table]


def attempted(step: Map, table: pa.Table) -> tuple[pa.Table, list[str]]:
    """What a step finds about documents, and a line for each that it raised on."""
    try:
        return step.function(table), []
    except UserError:
        raise
    except Exception as error:
        if not table.num_rows:
            raise
        return _one_by_one(step, table, error)


def _one_by_one(step: Map, table: pa.Table, first: Exception) -> tuple[pa.Table, list[str]]:
    found = [_alone(step.function, table.take([row])) for row in range(table.num_rows)]
    tables = [one for one in found if isinstance(one, pa.Table)]
    if not tables and len(found) > 1:
        raise first
    blank = _blank(tables[0] if tables else step.function(table.slice(0, 0)))
    errors = [None if isinstance(one, pa.Table) else one for one in found]
    whole = pa.concat_tables(
        [one if isinstance(one, pa.Table) else blank for one in found], promote_options="permissive"
    )
    rules = whole["rule"].to_pylist() if "rule" in whole.column_names else [None] * len(found)
    rules = [
        f"{ERROR}{type(error).__name__}" if error else rule
        for error, rule in zip(errors, rules, strict=True)
    ]
    messages = [f"{type(e).__name__}: {e}"[:_TOLD] if e else None for e in errors]
    kept = [name for name in whole.column_names if name != "rule"]
    made = whole.select(kept).append_column("rule", pa.array(rules, pa.string()))
    told = [
        f"{step.name} cannot take {document}: {message}"
        for document, message in zip(table["id"].to_pylist(), messages, strict=True)
        if message
    ]
    return made.append_column(MESSAGE, pa.array(messages, pa.string())), told


def _alone(function: Function, table: pa.Table) -> pa.Table | Exception:
    try:
        return function(table)
    except UserError:
        raise
    except Exception as error:
        return error


def _blank(like: pa.Table) -> pa.Table:
    """One row of nulls."""
    return pa.table([pa.nulls(1, field.type) for field in like.schema], schema=like.schema)
