"""Sentences of English as Punkt cuts them (Kiss & Strunk, 2006), with nltk's model, without nltk.

    [*cut("Mr. Li left. He ran!")]         -> ["Mr. Li left.", "He ran!"]
    [*cut("Ask J. Smith. 3. apples")]      -> ["Ask J. Smith.", "3. apples"]

A mark `. ? !` is looked at before white space or punctuation, the last one of each run without
white space. The model's lists of abbreviations and starters are here; for its table of 20,000
spellings, which settles cases behind an abbreviation, an initial or an ellipsis, stand a few
common words.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

# Before these an abbreviation's full stop ends no sentence (punkt_tab/english/abbrev_types.txt).
_ABBREVIATED = """
adm ala ariz aug ave bros calif chg cie co col colo conn corp cos ct dec dr feb fla fri ft ga
gen ill inc jan jr kan ky lt ltd maj messrs mg mich minn mr mrs ms nev nov oct ok okla ore pa
prof rep reps sen sep sept sr st sw tenn tues va vs vt wash wed wis yr ph.d
c d e f g h k l m n p r s t v w a.a a.c a.d a.g a.h a.m a.m.e a.s a.t b.f b.v c.i.t c.o.m.b c.v
d.c d.h d.w e.f e.h e.l e.m f.g f.j g.d g.f g.k h.c h.f h.m i.m.s j.b j.c j.j j.k j.p j.r l.a
l.f l.p m.b.a m.d.c m.j n.c n.d n.h n.j n.m n.v n.y p.a.m p.m r.a r.h r.i r.j r.k r.t s.a s.a.y
s.c s.g s.p.a s.s t.j u.k u.n u.s u.s.a u.s.s.r w.c w.r w.va w.w"""
# These, capitalised, begin one all the same (punkt_tab/english/sent_starters.txt).
_STARTING = """
according although among both but despite even he however i if in indeed instead it many
meanwhile moreover most nevertheless nonetheless nor sales separately similarly since so some
the there these they this though thus under when while yet"""
# Of the 20,000 words that its table knows in lower case, those that may follow an initial.
_KNOWN = """
a after all also an another any are as at because before by can could do does during each every
finally first for from her here his how is its let let's may might must my next no not now of on
one or other our out over please second she should such that then those three to two up was we
what where which who why will with would you your"""
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_STARTERS = frozenset(_STARTING.split())
_COMMON = _STARTERS | frozenset(_KNOWN.split())
_BETWEEN = "[)\";}\\]*:@'({\\[!?]"  # what Punkt never takes into a word
_CHUNK = re.compile(r"(?<!\S)[^\s.?!]*+[.?!]\S*")  # without white space, with a mark
_NEXT = re.compile(r"\s*+(\S{1,100})")
_LAST_MARK = re.compile(f"\\S*[.?!](?={_BETWEEN}|$)")
_FIRST_MARK = re.compile(f"[.?!]{_BETWEEN}")
_TOKENS = re.compile(f"({_BETWEEN}|\\.{{2,}}|-{{2,}})")
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*\.?")
_CLOSING = re.compile(r"[\"')\]}]+(?:\s+|(?=--)|$)", re.MULTILINE)


def cut(text: str) -> Iterator[str]:
    """The sentences of `text`, stripped, with the marks that end them and what closes them."""
    held = ""
    for piece in _pieces(text):
        closing = _CLOSING.match(piece) if held else None
        if closing:  # quotes and brackets go to the sentence before them
            held, piece = held + closing[0].rstrip(), piece[closing.end() :]
        if held:
            yield held
        held = piece
    if held:
        yield held


def _pieces(text: str) -> Iterator[str]:
    start = 0
    for chunk in _CHUNK.finditer(text):
        after = _NEXT.match(text, chunk.end())
        for end in _marks(chunk[0]):
            rest = chunk[0][end:]
            following = rest or (after[1] if after else "")
            if following and _holds_end(chunk[0][:end], following):
                yield text[start : chunk.start() + end]
                start = chunk.start() + end if rest or not after else after.start(1)
    yield text[start:].rstrip()


def _marks(chunk: str) -> list[int]:
    """Where a sentence may end: at the last mark, and behind a mark that begins the run."""
    last = _LAST_MARK.match(chunk)
    if not last:
        return []
    first = [1] if last.end() > 1 and _FIRST_MARK.match(chunk) else []
    return [*first, last.end()]


def _holds_end(head: str, following: str) -> bool:
    """Does a sentence end in `head`, which ends in a mark, with `following` behind it?"""
    tokens = [token for token in _TOKENS.split(head) if token]
    opening = next(token for token in _TOKENS.split(following) if token)
    return any(_ends(token, after) for token, after in pairwise([*tokens, opening]))


def _ends(token: str, after: str) -> bool:
    if token in ("?", "!", "."):
        return True
    if not token.endswith("."):
        return False
    word, first, next_word = token[:-1].lower(), after[0], after.lower().rstrip(",.")
    initial = len(word) == 1 and word.isalpha()
    starts = first.isupper() and next_word in (_COMMON if initial else _STARTERS)
    if token.startswith("..") or word in _ABBREVIATIONS or word.split("-")[-1] in _ABBREVIATIONS:
        return starts and not initial
    if initial:
        return starts or not first.isalpha()
    return not (_NUMBER.fullmatch(token) and (first.islower() or after in ";:,.!?"))
