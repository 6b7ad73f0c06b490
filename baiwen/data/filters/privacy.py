r"""Masks what identifies a person or opens a door: addresses, phone numbers, keys.

    mask(table, Privacy())                  # a step: it changes the text
    masked("write to ann@corp.com", Privacy())      # ("write to email@example.com", {...})

Emails and IPv4 addresses become those that stand for nobody, in datatrove's form (its PIIFormatter;
FineWeb, Penedo et al., 2024): a model learns where an address goes, and none that is anyone's. They
are taken in turn from the beginning of each text, so a text's masks depend on nothing else. Only
public IP addresses identify anyone: 10.0.0.1 and 127.0.0.1 stay. Keys are those of known forms and,
where a name says so, long random-looking strings, as in StarCoder's PII (Li et al., 2023, section
4); phone numbers have a country code, or the separators of North America.

What is masked is counted, not kept.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Annotated, NamedTuple

import pyarrow as pa
from pydantic import Field

from baiwen.config import Knobs

EMAILS = ("email@example.com", "firstname.lastname@example.org")  # datatrove's: RFC 2606 reserves
IPV4 = (  # datatrove's: they answered nothing
    "22.214.171.124",
    "126.96.36.199",
    "188.8.131.52",
    "184.108.40.206",
    "220.127.116.11",
    "18.104.22.168",
)
IPV6 = ("2001:db8::1", "2001:db8::2")  # RFC 3849 reserves them for documentation
PHONES = ("+1-202-555-0100", "+1-202-555-0199")  # 555-01xx is given to nobody
SECRETS = ("<SECRET>",)

# Each pattern begins with a set of characters, which `re` skips to: what must not stand before is
# looked for from behind the first.
_EMAIL = re.compile(
    r"[\w!#$%&'*+/=?^`{|}~-](?<![\w!#$%&'*+/=?^`{|}~.-].)[\w!#$%&'*+/=?^`{|}~-]*"
    r"(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?",
    re.ASCII,
)
_IPV4 = re.compile(r"[0-9](?<![0-9.].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\.?[0-9])")
_IPV6 = re.compile(
    r"[0-9A-Fa-f:](?<![:.\w].)[0-9A-Fa-f]{0,3}(?::[0-9A-Fa-f]{0,4}){1,7}(?![:.]?\w)(?!:)"
)
_PHONE = re.compile(
    r"[+(0-9](?<![\w.+-].)(?:(?<=\+)[0-9]{1,3}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?[0-9]{1,4}"
    r"(?:[ .-]?[0-9]{2,4}){1,4}"
    r"|(?<=\()[0-9]{3}\) ?[0-9]{3}[-.][0-9]{4}|[0-9]{2}-[0-9]{3}-[0-9]{4})(?![\w-]|\.[0-9])"
)
_PREFIXES = (  # of keys whose form is known, and what follows
    (r"AKIA|ASIA", r"[0-9A-Z]{16}"),  # Amazon
    (r"AIza", r"[0-9A-Za-z_-]{35}"),  # Google
    (r"gho_|ghp_|ghr_|ghs_|ghu_", r"[0-9A-Za-z]{36,}"),  # GitHub
    (r"github_pat_", r"[0-9A-Za-z_]{22,}"),
    (r"glpat-", r"[0-9A-Za-z_-]{20,}"),  # GitLab
    (r"xoxa-|xoxb-|xoxp-|xoxr-|xoxs-", r"[0-9A-Za-z-]{10,}"),  # Slack
    (r"sk_live_|rk_live_|sk_test_|rk_test_", r"[0-9A-Za-z]{16,}"),  # Stripe
    (r"sk-", r"[0-9A-Za-z_-]{32,}"),  # OpenAI and those that took its form
    (r"hf_", r"[0-9A-Za-z]{30,}"),  # Hugging Face
    (r"npm_", r"[0-9A-Za-z]{36}"),
    (r"pypi-", r"[0-9A-Za-z_-]{50,}"),
    (r"eyJ", r"[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}"),  # JSON web tokens
)
_GIVEN_OUT = ipaddress.ip_network("2000::/3")  # of IPv6, by IANA; `a::b` is C++, not in it
_KEY_SIGNS = tuple(sign for prefix, _ in _PREFIXES for sign in prefix.split("|"))
_KEY = re.compile(
    "(?<![A-Za-z0-9])(?:"
    + "|".join(f"(?:{prefix}){rest}" for prefix, rest in _PREFIXES)
    + ")(?![A-Za-z0-9])"
)
_BLOCK = re.compile(
    r"-----BEGIN (?P<kind>[A-Z ]*PRIVATE KEY(?: BLOCK)?)-----"
    r"(?:.{,16384}?-----END (?P=kind)-----|(?:(?:\s|\\[nr])*[0-9A-Za-z+/=]{16,})*)",  # or cut off
    re.S,
)
_NAMED = re.compile(
    r"(?:(?:api|access|auth|secret|private)[_-]?(?:key|token)|secret|passwd|password|token)"
    r"[\"']?\s*(?::=?|=>?)\s*[\"'](?P<own>[0-9A-Za-z+/=_.~-]{16,})(?=[\"'])",
    re.I,
)


class Privacy(Knobs):
    """What is masked."""

    emails: bool = True  # addresses of mail
    ips: bool = True  # addresses of machines, IPv4 and IPv6
    public_only: bool = True  # of those, public ones alone (datatrove's default)
    phones: bool = True  # telephone numbers with a country code or North America's separators
    secrets: bool = True  # keys and tokens of known forms, and private keys
    entropy: Annotated[float, Field(ge=0)] = 3.0  # bits a character of a secret known by its name


def mask(table: pa.Table, knobs: Privacy) -> pa.Table:
    """A step: each text with its masks, and how many of which kind; reads text."""
    texts, counts = [], []
    for text in table["text"].to_pylist():
        other, count = masked(text, knobs)
        texts.append(None if other == text else other)
        counts.append(count)
    columns = {name: pa.array([count[name] for count in counts], pa.int64()) for name in COUNTED}
    return pa.table({"text": pa.array(texts, pa.large_string()), **columns})


def masked(text: str, knobs: Privacy) -> tuple[str, Counter[str]]:
    """A text with its masks, and how many of each kind."""
    counts: Counter[str] = Counter()
    for kind in _KINDS:
        if getattr(knobs, kind.knob) and kind.likely(text):
            text, count = _replaced(text, kind, knobs)
            counts[kind.knob] += count
    return text, counts


class _Kind(NamedTuple):
    """A kind of things to mask."""

    knob: str  # that has it masked
    likely: Callable[[str], bool]  # whether a text may hold any, cheaply
    pattern: re.Pattern[str]
    masks: Sequence[str]
    genuine: Callable[[str, Privacy], bool]


def _replaced(text: str, kind: _Kind, knobs: Privacy) -> tuple[str, int]:
    masks, group = cycle(kind.masks), kind.pattern.groupindex.get("own", 0)
    parts: list[str] = []
    end = count = 0
    for found in kind.pattern.finditer(text):
        own = found[group]
        if own not in kind.masks and kind.genuine(own, knobs):
            parts += text[end : found.start(group)], next(masks)
            end, count = found.end(group), count + 1
    return "".join((*parts, text[end:])), count


def _anything(_found: str, _knobs: Privacy) -> bool:
    return True


def _machine(found: str, knobs: Privacy) -> bool:
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return False
    if address.version == 6 and address.is_global:
        return address in _GIVEN_OUT
    private = address.is_private and not address.is_unspecified
    return address.is_global or (private and not knobs.public_only)


def _phone(found: str, _knobs: Privacy) -> bool:
    return 8 <= sum(map(str.isdigit, found)) <= 15  # E.164 has 15 at most


def _random(found: str, knobs: Privacy) -> bool:
    """Whether a string has the entropy of one that nobody chose, and a digit."""
    shares = [count / len(found) for count in Counter(found).values()]
    bits = -sum(share * math.log2(share) for share in shares)
    return bits >= knobs.entropy and any(map(str.isdigit, found))


def _has_key(text: str) -> bool:
    return any(map(text.__contains__, _KEY_SIGNS))


def _has_named(text: str) -> bool:
    lower = text.lower()
    return any(map(lower.__contains__, ("key", "token", "secret", "passw")))


_KINDS = (
    _Kind("secrets", lambda text: "PRIVATE KEY" in text, _BLOCK, SECRETS, _anything),
    _Kind("secrets", _has_key, _KEY, SECRETS, _anything),
    _Kind("secrets", _has_named, _NAMED, SECRETS, _random),
    _Kind("emails", lambda text: "@" in text, _EMAIL, EMAILS, _anything),
    _Kind("ips", lambda text: text.count(".") > 2, _IPV4, IPV4, _machine),
    _Kind("ips", lambda text: "::" in text or text.count(":") > 6, _IPV6, IPV6, _machine),
    _Kind("phones", lambda _: True, _PHONE, PHONES, _phone),
)
COUNTED = tuple(dict.fromkeys(kind.knob for kind in _KINDS))  # columns of counts
