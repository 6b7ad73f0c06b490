"""Which language a text is in, by `langdetect` (55 languages, n-grams), seeded and without globals.

    detect("¿Dónde está la biblioteca?")          -> "es"
    sure("OK")                                    -> None: too short to tell
    sure("你好")                                   -> "zh"

The library seeds its sampling from the clock and reads its profiles in the order of the folder;
here both are fixed, so that a text has one answer, in every thread.
"""

import re
from functools import cache
from pathlib import Path

from langdetect.detector_factory import PROFILES_DIRECTORY, Detector, DetectorFactory
from langdetect.lang_detect_exception import LangDetectException

_READ = 20_000  # characters looked at; the library itself keeps 10,000
_SURE = 0.9  # share of the library's trials that have to agree
_SHORT = 50  # Latin letters below which its verdict is a guess: "OK" is Portuguese to it
_LATIN = re.compile("[a-z\u00df-\u024f]")
_HAN = re.compile("[\u3400-\u9fff]")
_KANA = re.compile("[\u3040-\u30ff]")


def codes() -> frozenset[str]:
    """The codes that can be asked for: ISO 639-1, and `zh-cn` and `zh-tw` as the library has."""
    return frozenset((*_profiles().langlist, "zh"))


def detect(text: str) -> str | None:
    """The likeliest language as the library has it; None for a text without letters."""
    likely = _probabilities(text)
    if likely is None:
        return None
    return likely[0][0] if likely else "unknown"


def sure(text: str) -> str | None:
    """The language of `text` by its ISO 639-1 code, or None where that is not sure.

    Capitals count as small letters (they are no evidence to the library), and Chinese is known by
    its script: characters and no kana.
    """
    text = text[:_READ].lower()
    letters = sum(map(str.isalpha, text))
    if len(_HAN.findall(text)) * 2 > letters and not _KANA.search(text):
        return "zh"
    likely = _probabilities(text)
    short = len(_LATIN.findall(text)) * 2 > letters and letters < _SHORT
    if short or not likely or likely[0][1] < _SURE:
        return None
    return likely[0][0].partition("-")[0]


def _probabilities(text: str) -> list[tuple[str, float]] | None:
    detector = Detector(_profiles())
    try:
        detector.append(text[:_READ])
        return [(found.lang, found.prob) for found in detector.get_probabilities()]
    except LangDetectException:  # no letters in the text
        return None


@cache
def _profiles() -> DetectorFactory:
    factory = DetectorFactory()
    factory.set_seed(0)
    files = sorted(Path(PROFILES_DIRECTORY).iterdir())
    factory.load_json_profile([file.read_text(encoding="utf-8") for file in files])
    return factory
