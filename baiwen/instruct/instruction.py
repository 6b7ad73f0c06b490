"""Instructions that a program can check: repeat, capitals, bullets, length and last word.

    Write "sun" 3 times.                                              sun sun sun
    Shout: red moon                                                   RED MOON
    Use "lake" as the last word of a sentence of 5 words.             I want to see lake.

Instruction following as the report's SFT has it: the verifier is a program (spec 7.3).
"""

from random import Random
from typing import Any

from baiwen.instruct.task import Task, chinese
from baiwen.instruct.words import NOUNS, ZH_NOUNS

# Difficulty: how often to repeat, how many words to shout or to list.
MOST_REPEATS = 6
MOST_WORDS = 4
CAPITALS_SHARE = 0.3  # of the sentences

REPEAT = ('Write "{}" {} times.', 'Say "{}" {} times.', 'Repeat the word "{}" {} times.')
ZH_REPEAT = ("把“{}”写{}遍。", "重复“{}”{}次。")
UPPER = ("Write in upper case: {}", "Write {} in capital letters.", "Shout: {}")
BULLETS = ("Write as a bulleted list: {}", "Make a list with bullets of {}.")
LAST = (
    'Use "{}" as the last word of a sentence of {} words.',
    'With "{}" as its last word, write a sentence of exactly {} words.',
)
CAPITALS = "All in capital letters."
# Beginnings of a sentence by their number of words; the noun comes last.
BEGINNINGS = {
    2: ("I see", "We like", "They have", "Here is"),
    3: ("Look at the", "I like this", "We found a", "This is my"),
    4: ("I want to see", "She went to the", "He gave me a", "There is only one"),
    5: ("We all want to have", "My friend is at the", "You can see it from"),
}


def produce(rng: Random) -> Task:
    """One of the four."""
    return rng.choice((_repeat, _upper, _bullets, _last_word))(rng)


def _repeat(rng: Random) -> Task:
    in_chinese = chinese(rng)
    word = rng.choice(ZH_NOUNS if in_chinese else NOUNS)
    count = rng.randint(2, MOST_REPEATS)
    prompt = rng.choice(ZH_REPEAT if in_chinese else REPEAT).format(word, count)
    truth = {"is": "repeats", "word": word, "count": count}
    return _task(prompt, " ".join([word] * count), truth, key=f"repeat {word} {count}")


def _upper(rng: Random) -> Task:
    text = " ".join(rng.sample(NOUNS, rng.randint(2, MOST_WORDS)))
    truth = {"is": "repeats", "word": text.upper(), "count": 1}
    return _task(rng.choice(UPPER).format(text), text.upper(), truth, key=f"upper {text}")


def _bullets(rng: Random) -> Task:
    words = rng.sample(NOUNS, rng.randint(2, MOST_WORDS))
    truths: list[dict[str, Any]] = [{"is": "bullets", "count": len(words)}]
    truths += [{"is": "contains", "word": word} for word in words]
    prompt = rng.choice(BULLETS).format(", ".join(words))
    reply = "\n".join(f"- {word}" for word in words)
    return _task(prompt, reply, *truths, key=f"bullets {' '.join(sorted(words))}")


def _last_word(rng: Random) -> Task:
    word, before = rng.choice(NOUNS), rng.choice(list(BEGINNINGS))
    reply = f"{rng.choice(BEGINNINGS[before])} {word}."
    truths: list[dict[str, Any]] = [
        {"is": "word_count", "count": before + 1},
        {"is": "ends_with", "word": word},
    ]
    prompt = rng.choice(LAST).format(word, before + 1)
    if rng.random() < CAPITALS_SHARE:
        prompt, reply = f"{prompt} {CAPITALS}", reply.upper()
        truths.append({"is": "upper_case"})
    return _task(prompt, reply, *truths, key=f"last {word} {before + 1}")


def _task(prompt: str, reply: str, *truths: dict[str, Any], key: str) -> Task:
    return Task("instruction", prompt, reply, list(truths), "instruction", key)
