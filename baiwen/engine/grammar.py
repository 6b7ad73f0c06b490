"""Structured output: the tokens that may come next, by a grammar.

    grammar = Grammar.json_schema(tokenizer, {"type": "object", "properties": {...}})
    grammar.matcher()                        # where a sample stands in it (`matcher.py`)

A grammar is compiled by llguidance from our own vocabulary; no control token is ever text. Where
the grammar is complete the end of the turn (or of the text) is allowed, and once nothing else is,
the matcher is finished. Compiled grammars are kept, the latest used `KEPT` of each tokenizer.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import chain
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from baiwen.engine import json_schema, keywords, lark
from baiwen.engine.matcher import Matcher, check, reason
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
Schema = Mapping[str, Any] | bool


class Grammar:
    """A compiled grammar, for any number of samples."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._start, self._vocabulary = matcher, vocabulary

    def matcher(self) -> Matcher:
        """A matcher at the beginning of an answer."""
        return Matcher(self._start.deep_copy(), self._vocabulary)

    @classmethod
    def json_object(cls, tokenizer: Tokenizer) -> "Grammar":
        """Any JSON object."""
        return cls.json_schema(tokenizer, {"type": "object"})

    @classmethod
    def json_schema(cls, tokenizer: Tokenizer, schema: Schema) -> "Grammar":
        """JSON that is valid by `schema`; `UserError` names a keyword that cannot be enforced."""
        part = lark.value(schema, "schema")
        return _compiled(tokenizer, f"start: {part}", "schema", {"schema": part})

    @classmethod
    def regex(cls, tokenizer: Tokenizer, pattern: str) -> "Grammar":
        """Text that matches `pattern` from its first character to its last."""
        keywords.check_pattern(pattern, "regex")
        _check_characters(pattern, "regex")
        return _compiled(tokenizer, LLMatcher.grammar_from_regex(pattern), "regex")

    @classmethod
    def choice(cls, tokenizer: Tokenizer, options: Sequence[str]) -> "Grammar":
        """One of `options`, exactly."""
        good = not isinstance(options, str) and all(isinstance(item, str) for item in options)
        if not good or not options or not all(options):
            raise UserError(f"choice must be a list of texts that are not empty: {options!r:.80}")
        if (most := max(map(len, options))) > keywords.REPEATS:
            raise UserError(f"choice: one has {most:,} characters of {keywords.REPEATS:,}")
        spelled = " | ".join(map(lark.quoted, options))
        return _compiled(tokenizer, f"start: OPTION\nOPTION: {spelled}", "choice")

    @classmethod
    def lark(cls, tokenizer: Tokenizer, text: str) -> "Grammar":
        """Text of the Lark grammar `text` (llguidance's dialect), which cannot name a token."""
        return _compiled(tokenizer, lark.checked(text), "grammar")

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
        functions = [lark.function(tool, f"tools[{place}]") for place, tool in enumerate(tools)]
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
        check(first)
        first.consume_token(int(np.unpackbits(bits, bitorder="little").argmax()))
        check(first)  # some grammars turn out to be too complex at their first token
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


def _refusal(told: str, where: str, part: str) -> str:
    """The words of llguidance, with the paths of the keyword that they are about."""
    schema = json.loads(part.removeprefix("%json "))
    for mark, (names, instead) in _ABOUT.items():
        if mark in told:
            paths = (json_schema.places(schema, name, where) for name in names)
            instead = instead or f"is not supported: {reason(told)}"
            return f"{', '.join(chain(*paths))} {instead}"
    return f"{where}: {reason(told)}"


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
