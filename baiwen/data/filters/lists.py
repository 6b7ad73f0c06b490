"""Block lists of addresses and allow lists of licences, given in the recipe or as files.

    [filters]
    blocked_hosts = {files = ["hosts.txt"], hosts = ["ads.example.com"]}
    blocked_words = {words = ["casino", "xxx"], most = 0}
    licenses = {allow = ["MIT", "Apache-2.0", "CC-BY-SA-4.0"], unknown = false}

A file has an entry a line; what follows `#` is a comment. Addresses are `meta.url` (else
`meta.source`, where that is one), licences `meta.license`. Names of licences are SPDX's, or come
near them: "Apache License, Version 2.0" and "apache-2.0" are one licence; of `A OR B` one has to be
allowed, of `A AND B` both. Lists as in RefinedWeb (Penedo et al., 2023, appendix G.1) and The Stack
(Kocetkov et al., 2022, section 3).
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from baiwen.data.filters.page import Page, above
from baiwen.data.pipeline.step import Verdict
from baiwen.errors import UserError

_WORD = re.compile(r"[a-z0-9]+")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.I)

# How names of licences become SPDX's, in this order.
_SPELLINGS = tuple(
    (re.compile(pattern), with_)
    for pattern, with_ in (
        (r".*creativecommons\.org/publicdomain/zero/.*", "cc0-1.0"),
        (r".*creativecommons\.org/licenses/([a-z-]+)/(\d\.\d).*", r"cc-\1-\2"),
        (r"[,()\"']|\b(?:the|licen[cs]ed?|version|under|software|international|unported)\b", " "),
        (r"\bcreative commons\b", "cc"),
        (r"\battribution\b", "by"),
        (r"\bshare[ -]?alike\b", "sa"),
        (r"\bnon-?commercial\b", "nc"),
        (r"\bno-?deriv(?:s|atives)\b", "nd"),
        (r"\bgnu (?:(l)esser |(a)ffero )?general public\b", r"\1\2gpl"),
        (r"\bmozilla public\b", "mpl"),
        (r"\beclipse public\b", "epl"),
        (r"\bpython foundation\b", "psf"),
        (r"\bboost\b", "bsl"),
        (r"[- ](?:only|or[- ]later)\b|\+(?=\s|$)", ""),
        (r"\b([al]?gpl|apache|mpl|epl|psf|bsl|cc0)[- ]*v?\.? *(\d+(?:\.\d+)?)\b", r"\1-\2"),
        (r"(-\d+)(?=\s|$)", r"\1.0"),
        (r"[^a-z0-9.]+", "-"),
        (r"^-+|-+$", ""),
    )
)
_ALIASES = {
    "apache": "apache-2.0",
    "bsd-2.0": "bsd-2-clause",
    "bsd-3.0": "bsd-3-clause",
    "bsl": "bsl-1.0",
    "cc0": "cc0-1.0",
    "expat": "mit",
    "modified-bsd": "bsd-3-clause",
    "new-bsd": "bsd-3-clause",
    "psf": "psf-2.0",
    "simplified-bsd": "bsd-2-clause",
}


def blocked_hosts(
    page: Page, hosts: Sequence[str] = (), files: Sequence[str] = ()
) -> Verdict | None:
    """From a host of the list, or one below it."""
    host = (urlsplit(address(page)).hostname or "").lower().rstrip(".")
    listed = entries(tuple(hosts), tuple(files))
    while host:
        if host in listed:
            return Verdict("blocked host")
        host = host.partition(".")[2]
    return None


def blocked_words(
    page: Page, words: Sequence[str] = (), files: Sequence[str] = (), most: int = 0
) -> Verdict | None:
    """An address with words of the list: more than `most` of them."""
    found = set(_WORD.findall(address(page).lower()))
    count = len(found & entries(tuple(words), tuple(files)))
    return above("blocked words in the address", count, most)


def licenses(
    page: Page, allow: Sequence[str] = (), files: Sequence[str] = (), unknown: bool = False
) -> Verdict | None:
    """A licence that is not on the list; `unknown`: whether documents without one stay."""
    name = page.meta.get("license")
    if not name:
        return None if unknown else Verdict("no licence")
    listed = _spdx_entries(tuple(allow), tuple(files))
    return None if allowed(str(name), listed) else Verdict("licence not allowed")


RULES = (blocked_hosts, blocked_words, licenses)


def address(page: Page) -> str:
    """Where a page is from; "" where it is from no address."""
    found = str(page.meta.get("url") or page.meta.get("source") or "")
    try:
        return urlsplit(found).geturl() if _ADDRESS.match(found) else ""
    except ValueError:  # such as "http://[::1"
        return ""


def spdx(name: str) -> str:
    """The name of one licence in SPDX's form, in lower case and without "or later"."""
    name = name.lower().strip()
    for pattern, with_ in _SPELLINGS:
        name = pattern.sub(with_, name)
    return _ALIASES.get(name, name)


def allowed(expression: str, listed: frozenset[str]) -> bool:
    """Whether a licence, or an expression of several, is on the list of SPDX names.

    In parentheses `or` may stand below `and`; all of the names have to be listed then.
    """
    if spdx(expression) in listed:
        return True
    expression = re.sub(r"(?i)[- ]or[- ]later\b|\s+with\s+[\w.-]+", "", expression)
    if "(" in expression:
        return all(spdx(name) in listed for name in re.split(r"(?i)\s+(?:or|and)\s+", expression))
    either = re.split(r"(?i)\s+or\s+|/", expression)
    return any(
        all(spdx(name) in listed for name in re.split(r"(?i)\s+and\s+", choice))
        for choice in either
    )


@lru_cache(maxsize=16)
def entries(given: tuple[str, ...], files: tuple[str, ...]) -> frozenset[str]:
    """The entries of the recipe and of the files, in lower case."""
    found = {entry.strip().lower() for entry in given}
    for path in files:
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the list {path} cannot be read: {error}") from error
        found.update(line.partition("#")[0].strip().lower() for line in text.splitlines())
    return frozenset(found - {""})


@lru_cache(maxsize=16)
def _spdx_entries(given: tuple[str, ...], files: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(spdx, entries(given, files)))
