"""Structured output: the tokens that may come next, by a grammar.

    grammar = Grammar.json_schema(tokenizer, {"type": "object", "properties": {...}})
    matcher = grammar.matcher()              # one a sample
    while not matcher.finished:
        matcher.mask(logits)                 # logits [V], in place: -inf for what is not allowed
        matcher.push(choose(logits))

A grammar is compiled by llguidance from our own vocabulary; no control token is ever text. Where
the grammar is complete the end of the turn (or of the text) is allowed, and once nothing else is,
the matcher is finished. Compiled grammars are kept, the latest used `KEPT` of each tokenizer.

V rows of the logits; those beyond the tokenizer's size are never allowed.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import chain
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from torch import Tensor

from baiwen.engine import json_schema
from baiwen.errors import UserError
from baiwen.tokenizer import control
from baiwen.tokenizer.tokenizer import Tokenizer

KEPT = 64  # compiled grammars of a tokenizer
LONGEST = 131_072  # characters of a grammar
# llguidance's own budgets, in its units: they bound the time to compile (0.1 s), the time of a
# token (20 ms) and the memory of a matcher (1 to 2 KB a state).
LIMITS = LLParserLimits(
    initial_lexer_fuel=100_000,
    max_lexer_states=50_000,
    max_grammar_size=100_000,
    verbose_errors=False,
)
# One blank, or a line break with an indentation: enough to print JSON prettily, not for a model
# that is stuck to write blanks forever. Escapes are those that must be: with \u any character has a
# second spelling, under which llguidance does not know a property again.
JSON_FORM = {"whitespace_pattern": r" |\n[ \t]{0,64}", "json_allowed_escapes": 'nrbtf\\"'}

Schema = Mapping[str, Any] | bool

# What a byte of llguidance's mask, the first token in its lowest bit, adds to eight logits.
_ALLOWED = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_BIAS = np.where(_ALLOWED == 1, 0, -np.inf).astype(np.float32)  # [256, 8]


class Grammar:
    """A compiled grammar, for any number of samples."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._start, self._vocabulary = matcher, vocabulary

    def matcher(self) -> "Matcher":
        """A matcher at the beginning of an answer."""
        return Matcher(self._start.deep_copy(), self._vocabulary)

    @classmethod
    def json_object(cls, tokenizer: Tokenizer) -> "Grammar":
        """Any JSON object."""
        return cls.json_schema(tokenizer, {"type": "object"})

    @classmethod
    def json_schema(cls, tokenizer: Tokenizer, schema: Schema) -> "Grammar":
        """JSON that is valid by `schema`; `UserError` names a keyword that cannot be enforced."""
        part = _json(schema, "schema")
        return _compiled(tokenizer, f"start: {part}", "schema", {"schema": part})

    @classmethod
    def regex(cls, tokenizer: Tokenizer, pattern: str) -> "Grammar":
        """Text that matches `pattern` from its first character to its last."""
        json_schema.check_pattern(pattern, "regex")
        _check_characters(pattern, "regex")
        return _compiled(tokenizer, LLMatcher.grammar_from_regex(pattern), "regex")

    @classmethod
    def choice(cls, tokenizer: Tokenizer, options: Sequence[str]) -> "Grammar":
        """One of `options`, exactly."""
        good = not isinstance(options, str) and all(isinstance(item, str) for item in options)
        if not good or not options or not all(options):
            raise UserError(f"choice must be a list of texts that are not empty: {options!r:.80}")
        if (most := max(map(len, options))) > json_schema.REPEATS:
            raise UserError(f"choice: one has {most:,} characters of {json_schema.REPEATS:,}")
        spelled = " | ".join(map(_quoted, options))
        return _compiled(tokenizer, f"start: OPTION\nOPTION: {spelled}", "choice")

    @classmethod
    def lark(cls, tokenizer: Tokenizer, text: str) -> "Grammar":
        """Text of the Lark grammar `text` (llguidance's dialect), which cannot name a token."""
        return _compiled(tokenizer, _checked_lark(text), "grammar")

    @classmethod
    def tool_calls(
        cls,
        tokenizer: Tokenizer,
        tools: Sequence[Mapping[str, Any]],
        name: str | None = None,
        parallel: bool = True,
        free: bool = False,
    ) -> "Grammar":
        """Calls of `tools` (OpenAI's form) in Qwen's protocol, and nothing else.

        name: the one tool to call; parallel: several calls may follow one another; free: words may
        stand before the calls, or instead of them.
        """
        markers = [tokenizer.id(marker) for marker in (control.TOOL_CALL, control.TOOL_CALL_END)]
        functions = [_function(tool, f"tools[{place}]") for place, tool in enumerate(tools)]
        chosen = [function for function in functions if name in (None, function.name)]
        if not chosen:
            known = ", ".join(function.name for function in functions)
            raise UserError(f"there is no tool {name!r} to call; there are: {known or 'none'}")
        more = r' ("\n" call)*' if parallel else ""
        start = f"words? (call{more})?\nwords: /(?s:.)+/" if free else f"call{more}"
        text = f'start: {start}\ncall: <[{markers[0]}]> "\\n" body "\\n" <[{markers[1]}]>\n'
        body = " | ".join(function.call for function in chosen)
        parts = {function.where: function.arguments for function in chosen}
        return _compiled(tokenizer, f"{text}body: {body}", "tools", parts)


class Matcher:
    """Where one sample stands in its grammar."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary
        self._bits = np.zeros(-(-vocabulary // 32), dtype=np.int32)

    @property
    def finished(self) -> bool:
        """Is the answer complete, so that nothing but its end may follow, or has it ended?"""
        return bool(self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """May the answer end here?"""
        return bool(self._matcher.is_accepting()) or self.finished

    def mask(self, logits: Tensor) -> None:
        """Set what is not allowed as the next token to -inf, in place; logits [V].

        `UserError` where the grammar is so ambiguous that a token would take too long.
        """
        bits = self._bits
        self._matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        _check(self._matcher)
        bias = np.take(_BIAS, bits.view(np.uint8), axis=0).reshape(-1)[: self._vocabulary]
        logits[: self._vocabulary] += torch.from_numpy(bias).to(logits.device)
        logits[self._vocabulary :] = -torch.inf

    def push(self, token: int) -> None:
        """Go on by one token; `UserError` for one that the mask does not allow."""
        self._matcher.consume_token(token)
        _check(self._matcher)

    def accepts(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` in a row, from the first, are allowed; nothing is pushed."""
        return int(self._matcher.validate_tokens([*tokens]))

    def rollback(self, count: int) -> None:
        """Take back the last `count` tokens that were pushed."""
        self._matcher.rollback(count)
        _check(self._matcher)


class _Compiler:
    """llguidance's view of one tokenizer, made at the first grammar, and its latest grammars."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = LLTokenizer(
            TokenizerWrapper(_Vocabulary(tokenizer)),
            n_vocab=len(tokenizer),
            eos_token=[tokenizer.end_of_turn, tokenizer.end_of_text],
        )
        self._size = len(tokenizer)
        self._kept: OrderedDict[str, Grammar] = OrderedDict()
        self._lock = Lock()

    def compiled(self, text: str) -> Grammar:
        """The grammar of llguidance's `text`; `UserError` in its words where it refuses."""
        with self._lock:
            if text not in self._kept:
                self._kept[text] = self._compile(text)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(text)
            return self._kept[text]

    def _compile(self, text: str) -> Grammar:
        matcher = LLMatcher(self._tokenizer, text, log_level=0, limits=LIMITS)
        first = matcher.deep_copy()
        bits = np.frombuffer(first.compute_bitmask(), dtype=np.uint8)
        _check(first)
        first.consume_token(int(np.unpackbits(bits, bitorder="little").argmax()))
        _check(first)  # some grammars turn out to be too complex at their first token
        return Grammar(matcher, self._size)


class _Vocabulary:
    """What llguidance asks of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocabulary = tokenizer.vocabulary
        self.tokens = [*vocabulary.spellings, *(name.encode() for name in vocabulary.control_ids)]
        self.special_token_ids = list(vocabulary.control_ids.values())
        self.eos_token_id, self.bos_token_id = tokenizer.end_of_turn, None
        self._tokenizer = ref(tokenizer)  # its compiler must not keep it alive

    def __call__(self, text: str) -> list[int]:
        tokenizer = self._tokenizer()
        assert tokenizer is not None
        return tokenizer.encode(text)


_COMPILERS: WeakKeyDictionary[Tokenizer, _Compiler] = WeakKeyDictionary()
_SETTING_UP = Lock()


def _compiled(
    tokenizer: Tokenizer, text: str, source: str, parts: Mapping[str, str] | None = None
) -> Grammar:
    """The grammar of `text`; parts: the schemas in it by their paths, for what an error names."""
    _check_characters(text, source)
    with _SETTING_UP:
        if tokenizer not in _COMPILERS:
            _COMPILERS[tokenizer] = _Compiler(tokenizer)
    try:
        return _COMPILERS[tokenizer].compiled(text)
    except UserError as error:
        for where, part in (parts or {}).items():
            if told := LLMatcher.validate_grammar(f"start: {part}", None, limits=LIMITS):
                raise UserError(_refusal(told, where, part)) from error
        raise UserError(f"{source}: {error}") from error


def _check_characters(text: str, source: str) -> None:
    if len(text) > LONGEST:
        raise UserError(f"{source} has {len(text):,} characters; it may have {LONGEST:,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{source} holds half a character (a lone surrogate)") from error


def _check(matcher: LLMatcher) -> None:
    """`UserError` in the words of llguidance, if it has given up."""
    if matcher.is_error():
        raise UserError(_words(matcher.get_error()))


def _refusal(told: str, where: str, part: str) -> str:
    """The words of llguidance, with the paths of the keyword that they are about."""
    schema = json.loads(part.removeprefix("%json "))
    for mark, (keywords, words) in _ABOUT.items():
        if mark in told:
            paths = (json_schema.places(schema, keyword, where) for keyword in keywords)
            return f"{', '.join(chain(*paths))} {words or f'is not supported: {_words(told)}'}"
    return f"{where}: {_words(told)}"


# What llguidance says, which keywords it is about, and what to say instead.
_ABOUT = {
    "coerce_one_of": (
        ("oneOf",),
        "is supported only where the options differ in type or in the constant of a required "
        "property: write anyOf",
    ),
    "min/maxProperties": (
        ("minProperties", "maxProperties"),
        "is supported only where all named properties are required",
    ),
    "patternProperty": (("patternProperties",), ""),
}


def _words(told: str) -> str:
    """What an error of llguidance says, without the grammar and the state that it shows."""
    if told.startswith("NoExtension"):
        return "no text satisfies it"
    told = re.split(r"<state>|<non-verbose/>|\n +\d+ \| ", told)[0].strip()
    told = re.sub(r"^(at )?\d+\(\d+\): (failed to compile JSON schema: )?", "", told)
    spent = re.search(r"[Tt]oo many|too large|fuel|limits\.", told)
    return f"too complex: {told}" if spent else told


def _quoted(text: str) -> str:
    """A text as Lark writes it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", r"\u007f")


def _json(schema: object, where: str) -> str:
    """A JSON value of `schema`, as a part of a Lark grammar."""
    form = {"x-guidance": JSON_FORM, **json_schema.enforced(schema, where)}
    try:
        return f"%json {json.dumps(form, ensure_ascii=False, allow_nan=False)}"
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{where} cannot be written as JSON: {error}") from error


class _Function(NamedTuple):
    """A tool: what its arguments are, and a call of it, both as parts of a Lark grammar."""

    name: str
    where: str
    arguments: str
    call: str


def _function(tool: object, where: str) -> _Function:
    if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping):
        tool, where = tool["function"], f"{where}.function"
    if not isinstance(tool, Mapping):
        raise UserError(f"{where} must be an object with name and parameters, not {tool!r:.60}")
    name, schema = tool.get("name"), tool.get("parameters")
    if not isinstance(name, str) or not name or json.dumps(name, ensure_ascii=False) != f'"{name}"':
        raise UserError(f"{where}.name must be a name without quotes and line breaks: {name!r:.60}")
    if schema is None:
        schema = {"type": "object", "additionalProperties": False}
    if isinstance(schema, Mapping):
        schema = {"type": "object", **schema}
        if schema["type"] != "object":
            raise UserError(f"{where}.parameters.type is {schema['type']!r:.60}, must be 'object'")
    where = f"{where}.parameters"
    arguments = _json(schema, where)
    head = _quoted(f'{{"name": "{name}", "arguments": ')
    return _Function(name, where, arguments, f'{head} {arguments} "}}"')


# What a Lark grammar consists of; blanks and whatever else are single characters.
_LARK = re.compile(
    r"""(?P<words>"(?:\\.|[^"\\])*"|(?:\#|//)[^\n]*|/(?:\\.|[^/\\])+/)"""
    r"""|(?P<token><[^<>\s]+>)|(?P<json>%json)|(?P<options>%llguidance)|.""",
    re.DOTALL,
)


def _checked_lark(text: str) -> str:
    """`text` with the JSON schemas in it in their enforced form; `UserError` for tokens by name."""
    if not isinstance(text, str):
        raise UserError(f"grammar must be a text, not {type(text).__name__}")
    checked, place = [], 0
    while part := _LARK.match(text, place):
        place = part.end()
        if part["token"] or part["options"]:
            raise UserError(f"grammar: {part[0]} is not supported; write text and rules")
        if part["json"]:
            start = re.compile(r"\s*").match(text, place)
            assert start is not None
            try:
                schema, place = json.JSONDecoder().raw_decode(text, start.end())
            except (ValueError, RecursionError) as error:
                raise UserError(f"grammar: no JSON schema follows %json: {error}") from error
            checked.append(_json(schema, "grammar.%json"))
        else:
            checked.append(part[0])
    return "".join(checked)
