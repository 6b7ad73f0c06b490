"""A row of JSONL or Parquet as a document.

It needs a string `text`; `id`, `meta`, `source`, `license`, `language` (or `lang`), `domain` and
`family` are taken over where it has them.
"""

import math
from typing import Any

from baiwen.data.document import Document, document, flawed

FIELDS = ("source", "license", "language", "domain", "family")
COLUMNS = ("id", "meta", "lang", *FIELDS)  # of a Parquet file that are read where it has them


def row_document(row: dict[str, Any], place: str, meta: dict[str, Any]) -> Document:
    """The document of a row; `meta` is for fields that it does not have."""
    text, own = row.get("text"), row.get("meta")
    if not isinstance(text, str):
        fields = ", ".join(row) or "none"
        return flawed(place, "", f"no string `text` (its fields: {fields})", meta)
    given = {name: str(row[name]) for name in FIELDS if row.get(name)}
    if row.get("lang"):
        given.setdefault("language", str(row["lang"]))
    try:
        its = plain(own) if isinstance(own, dict) else {}
    except RecursionError:
        return flawed(place, text, "`meta` is nested too deeply", meta)
    merged = {"place": place, **meta, **its, **given}
    return document(text, merged, None if row.get("id") is None else str(row["id"]))


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON or Parquet holds
    """The value in types of JSON: dates, bytes, NaN and the like become their text."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    is_plain = value is None or isinstance(value, str | int)
    if is_plain or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
