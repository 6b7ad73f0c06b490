"""How the exercises ask, in English and Chinese: several phrasings of each, so that a model learns
the task and not the phrase.

A phrasing is a question and what opens its answer. The first pass key's sentence and question are
those of Mohtashami and Jaggi (2023), the first needle's those of RULER (Hsieh et al., 2024).
"""

from random import Random

Phrase = tuple[str, str]  # question, opening of the answer
Phrases = dict[str, tuple[Phrase, ...]]  # by language

FIM: Phrases = {
    "en": (
        ("What is missing at {mark}?", "\n"),
        ("Fill in what was taken out at {mark}.", "\n"),
        ("Write the text that belongs in the place of {mark}.", "\n"),
        ("A part of the text above is gone, at {mark}. Which one?", "\n"),
        ("Complete the text: what stood at {mark}?", " The missing text is:\n"),
    ),
    "zh": (
        ("{mark}处缺少什么内容？", "\n"),
        ("请补全上文中{mark}处的文字。", "\n"),
        ("上文有一部分被替换成了{mark}，原文是什么？", "原文是：\n"),
        ("写出{mark}处原来的文字。", "\n"),
    ),
}
KEYWORD: Phrases = {
    "en": (
        ("Which passage above contains {words}? Write it out.", "\n"),
        ("Find the passage with the words {words} in it and repeat it.", "\n"),
        ("Quote the passage in which {words} occur together.", "\n"),
        ("Where in the text do {words} occur together?", " In this passage:\n"),
    ),
    "zh": (
        ("上文哪一段同时出现了{words}？请写出这一段。", "\n"),
        ("找出包含{words}的段落并原样写出。", "\n"),
        ("{words}一起出现在哪一段？", "在这一段：\n"),
    ),
}
AFTER: Phrases = {
    "en": (
        ("Which passage comes right after the words “{quote}”?", "\n"),
        ("What follows “{quote}” in the text above?", "\n"),
        ("Continue from “{quote}” as the text above does.", "\n"),
    ),
    "zh": (
        ("上文中“{quote}”之后紧接着的是哪一段？", "\n"),
        ("“{quote}”后面的内容是什么？", "\n"),
        ("请写出上文里紧跟在“{quote}”之后的段落。", "\n"),
    ),
}
BEFORE: Phrases = {
    "en": (
        ("Which passage comes right before the one that begins “{quote}”?", "\n"),
        ("What stands just before “{quote}” in the text above?", "\n"),
        ("Write the passage that leads up to “{quote}”.", "\n"),
    ),
    "zh": (
        ("以“{quote}”开头的那一段，前面一段是什么？", "\n"),
        ("上文中“{quote}”之前的内容是什么？", "\n"),
        ("请写出上文里紧挨在“{quote}”之前的段落。", "\n"),
    ),
}
NUMBERED: Phrases = {
    "en": (
        ("Write out passage {label}.", "\n"),
        ("What does passage {label} say?", "\n"),
        ("Repeat the passage with the number {label}.", "\n"),
    ),
    "zh": (
        ("请写出第{label}段。", "\n"),
        ("编号为{label}的段落说了什么？", "\n"),
        ("重复编号{label}的那一段。", "\n"),
    ),
}
NUMBER_OF: Phrases = {
    "en": (
        ("Which passage begins with “{quote}”?", " "),
        ("What is the number of the passage that begins “{quote}”?", " It is "),
    ),
    "zh": (
        ("哪一段以“{quote}”开头？", ""),
        ("以“{quote}”开头的段落编号是多少？", "编号是"),
    ),
}
REORDER: Phrases = {
    "en": (
        ("The numbered passages are out of order. What is the right order?", "\n"),
        ("Put the numbered passages into their right order.", "\n"),
        ("In which order should the numbered passages be read?", "\n"),
        ("Restore the order of the numbered passages.", " The right order is:\n"),
    ),
    "zh": (
        ("带编号的段落被打乱了，正确的顺序是什么？", "\n"),
        ("请恢复带编号段落的正确顺序。", "\n"),
        ("带编号的段落应该按什么顺序读？", "正确的顺序是：\n"),
    ),
}

# Sentences that are hidden in a text, and the questions for what they tell.
PASSKEY_HIDDEN = {
    "en": (
        "The pass key is {value}. Remember it. {value} is the pass key.",
        "Remember the pass key: {value}.",
        "Keep in mind that the pass key is {value}.",
        "Important: {value} is the pass key.",
    ),
    "zh": (
        "通行密钥是{value}。请记住它。{value}就是通行密钥。",
        "请记住通行密钥：{value}。",
        "注意，通行密钥是{value}。",
    ),
}
PASSKEY: Phrases = {
    "en": (
        ("What is the pass key?", " The pass key is "),
        ("Which pass key was mentioned in the text above?", " The pass key is "),
        ("Give the pass key that is hidden in the text above.", " "),
    ),
    "zh": (
        ("通行密钥是什么？", "通行密钥是"),
        ("上文提到的通行密钥是多少？", "通行密钥是"),
        ("请给出藏在上文中的通行密钥。", ""),
    ),
}
NEEDLE_HIDDEN = {
    "en": (
        "One of the special magic numbers for {key} is: {value}.",
        "The special magic number for {key} is {value}.",
        "Note that {value} is the special magic number for {key}.",
    ),
    "zh": ("{key}的神奇数字是{value}。", "请注意，{value}是{key}的神奇数字。"),
}
NEEDLE: Phrases = {
    "en": (
        (
            "What is the special magic number for {key} mentioned in the provided text?",
            " The special magic number for {key} mentioned in the provided text is ",
        ),
        ("Which special magic number belongs to {key}?", " "),
        ("Give the special magic number for {key}.", " The special magic number for {key} is "),
    ),
    "zh": (
        ("上文提到的{key}的神奇数字是什么？", "{key}的神奇数字是"),
        ("{key}的神奇数字是多少？", ""),
    ),
}

ECHO: Phrases = {
    "en": (("Repeat the words above.", "\n"),),
    "zh": (("请重复上面的字。", "\n"),),
}

_QUALITIES = """amber bitter bright calm clever cold crimson distant early faint gentle golden
hollow humble icy jolly late lively lonely mellow narrow noble pale patient plain quiet rapid rusty
silent silver slow solid steady sunny swift tall tidy vivid warm young"""
_THINGS = """anchor apple basket beacon bridge candle canyon castle cedar circle copper desert
falcon feather forest garden harbor hammer island jacket kettle ladder lantern marble meadow mirror
needle orchard paddle pebble pillow planet pocket rabbit ribbon river saddle temple thunder timber
tunnel valley violin wagon willow window"""
_ZH_QUALITIES = "蓝色的 金色的 安静的 遥远的 古老的 明亮的 寒冷的 温暖的 高大的 孤独的"
_ZH_THINGS = "灯塔 石桥 花园 渔船 山谷 钟楼 森林 古井 麦田 风筝 书店 火车 港口 竹林 雪山"
QUALITIES = {"en": _QUALITIES.split(), "zh": _ZH_QUALITIES.split()}
THINGS = {"en": _THINGS.split(), "zh": _ZH_THINGS.split()}  # a key is a quality and a thing


def phrased(phrases: Phrases, language: str, rng: Random, **words: str) -> Phrase:
    """One of the phrasings, its blanks filled in."""
    question, opening = rng.choice(phrases[language])
    return question.format(**words), opening.format(**words)


def listed(words: list[str], language: str) -> str:
    """Words in quotation marks, as a list is written."""
    quoted = [f"“{word}”" for word in words]
    if language == "zh":
        return "、".join(quoted)
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}" if len(quoted) > 1 else quoted[0]
