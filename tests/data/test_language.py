import unicodedata
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from baiwen import files
from baiwen.data.language import MACRO, Language, identify, languages_of, scripts_of

SAID = {
    "en": "The quick brown fox jumps over the lazy dog, and nobody minds it at all.",
    "de": "Der schnelle braune Fuchs springt über den faulen Hund, und niemand stört sich daran.",
    "zh": "今天天气很好，我们一起去公园散步吧，顺便看看那里的花。",
    "ru": "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "ja": "今日は天気がいいので、公園へ散歩に行きましょう。",
    "ar": "اليوم الطقس جميل جدا ونريد أن نذهب إلى الحديقة",
    "th": "วันนี้อากาศดีมาก เราไปเดินเล่นที่สวนสาธารณะกันเถอะ",
    "el": "Η γρήγορη καφέ αλεπού πηδά πάνω από το τεμπέλικο σκυλί.",
}


def table(*texts, domain="prose"):
    rows = {"text": pa.array(texts, pa.large_string()), "domain": [domain] * len(texts)}
    return pa.table(rows)


def told(texts):
    codes, confidence = languages_of(pa.array(texts, pa.large_string()))
    return list(zip(codes.to_pylist(), confidence.to_pylist(), strict=True))


@pytest.fixture(scope="module")
def reference():
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def of(text):
        found = Counter()
        for code, share in model.rank(text):
            found[MACRO.get(code, code)] += share
        return found

    return of


def test_languages_and_scripts_are_told():
    found = identify(table(*SAID.values()), Language())
    assert found["language"].to_pylist() == list(SAID)
    scripts = ["Latn", "Latn", "Hani", "Cyrl", "Jpan", "Arab", "Thai", "Grek"]
    assert found["script"].to_pylist() == scripts
    assert min(found["confidence"].to_pylist()) > 0.9


@settings(max_examples=20)
@example(["Aº"])  # º is a small letter to Python, and no letter of any case to Arrow
@given(st.lists(st.text(max_size=60), max_size=6))
def test_texts_side_by_side_are_judged_as_py3langid_judges_each(reference, texts):
    texts = [unicodedata.normalize("NFC", text) for text in [*texts, *SAID.values(), "SHOUTED!"]]
    for text, (code, confidence) in zip(texts, told(texts), strict=True):
        shares = reference(text)
        assert confidence == pytest.approx(max(shares.values()), abs=2e-4), text
        assert shares[code] == pytest.approx(max(shares.values()), abs=2e-4), text


def test_a_text_is_judged_alike_in_any_company():
    texts = list(SAID.values())
    assert told(texts) == [told([text])[0] for text in texts]
    assert told(texts[::-1]) == told(texts)[::-1]


def test_scripts_are_those_that_unicode_names():
    prefixes = {
        "LATIN": "Latn",
        "GREEK": "Grek",
        "CYRILLIC": "Cyrl",
        "HEBREW": "Hebr",
        "ARABIC": "Arab",
        "DEVANAGARI": "Deva",
        "BENGALI": "Beng",
        "TAMIL": "Taml",
        "THAI": "Thai",
        "TIBETAN": "Tibt",
        "GEORGIAN": "Geor",
        "HANGUL": "Hang",
        "ETHIOPIC": "Ethi",
        "KHMER": "Khmr",
        "HIRAGANA": "Jpan",
        "KATAKANA": "Jpan",
        "CJK": "Hani",
    }
    letters = {
        character: prefixes[name]
        for character in map(chr, range(0x10000))
        if unicodedata.category(character) in ("Lu", "Ll", "Lo")
        and (name := unicodedata.name(character, "").split(" ")[0]) in prefixes
    }
    found = scripts_of(pa.array(list(letters), pa.large_string())).to_pylist()
    wrong = {
        f"{ord(character):X}": (script, right)
        for (character, right), script in zip(letters.items(), found, strict=True)
        if script != right
    }
    assert len(wrong) < 0.002 * len(letters), wrong


def test_a_script_is_that_of_most_words():
    mixed = ["TiDB 数据库的部署和配置方法", "see 図 in the paper about it", "1234 + 5 = ?", ""]
    assert scripts_of(pa.array(mixed, pa.large_string())).to_pylist() == [
        "Hani",
        "Latn",
        None,
        None,
    ]


def test_code_is_passed_by():
    found = identify(table(SAID["en"], domain="code"), Language(keep=("zh",)))
    assert found.to_pylist() == [dict.fromkeys(found.column_names)]


def test_languages_that_are_not_kept_go_with_their_name_and_confidence():
    found = identify(table(SAID["en"], SAID["de"], "ok"), Language(keep=("en",), least=0.9))
    assert found["rule"].to_pylist() == [None, "language: de", "language: unsure"]
    assert found["value"].to_pylist() == [None, *found["confidence"].to_pylist()[1:]]
    assert found["bound"].to_pylist() == [None, None, 0.9]
    assert found["language"].to_pylist() == ["en", "de", None]


def test_only_the_beginning_is_read():
    found = identify(table(SAID["en"] + SAID["zh"] * 9), Language(characters=len(SAID["en"])))
    assert found["language"].to_pylist() == ["en"]
    assert found["script"].to_pylist() == ["Latn"]


def test_no_documents_have_no_languages():
    assert identify(table(), Language(keep=("en",))).num_rows == 0


def test_paragraphs_of_six_languages_are_told_apart(shared):
    path = shared / "structured" / "xquad_parallel_dev.jsonl.gz"
    rows = [row["context"] for row in files.read_jsonl(path)]
    texts = [(code, row[code]) for row in rows for code in ("en", "zh", "es", "de", "ru", "ar")]
    found = [code for code, _ in told([text for _, text in texts])]
    right = sum(code == wanted for code, (wanted, _) in zip(found, texts, strict=True))
    assert right >= 0.995 * len(texts)
