"""Units: words that may follow a number, what they measure and how much of it.

    unit(["cm"])                        -> Unit("length", 1/100)
    unit(["square", "inches"])          -> Unit("length^2", 0.0254^2)
    unit(["miles", "per", "hour"])      -> Unit("length/time", 1609.344 / 3600)
    unit(["apples"])                    -> None: counts something, measures nothing

Factors are exact by definition (the international yard and pound, 1959; SI).
"""

from fractions import Fraction

from baiwen.verify.math.terms import Unit

_INCH = Fraction("0.0254")
_POUND = Fraction("0.45359237")
_GALLON = 231 * _INCH**3
# dimension: {factor: words}; a word of more than three letters may take an s, and dots fall away.
_TABLE: dict[str, dict[Fraction, str]] = {
    "length": {
        Fraction(1): "m meter metre 米",
        Fraction(1000): "km kilometer kilometre 千米 公里",
        Fraction(1, 10): "dm decimeter decimetre 分米",
        Fraction(1, 100): "cm centimeter centimetre 厘米",
        Fraction(1, 1000): "mm millimeter millimetre 毫米",
        _INCH: "inch inches in",
        12 * _INCH: "ft foot feet",
        36 * _INCH: "yd yard",
        63360 * _INCH: "mi mile",
    },
    "mass": {
        Fraction(1): "kg kilogram kilo 千克 公斤",
        Fraction(1, 1000): "g gram 克",
        Fraction(1, 10**6): "mg milligram 毫克",
        Fraction(1000): "tonne 吨",
        _POUND: "lb lbs pound",
        _POUND / 16: "oz ounce",
    },
    "time": {
        Fraction(1): "s sec second 秒",
        Fraction(60): "min mins minute 分钟",
        Fraction(3600): "h hr hrs hour 小时",
        Fraction(86400): "day 天",
        Fraction(7 * 86400): "week 周",
    },
    "years": {Fraction(12): "year yr yrs 年", Fraction(1): "month 个月"},
    "length^3": {
        Fraction(1, 1000): "l L liter litre 升",
        Fraction(1, 10**6): "ml mL milliliter millilitre 毫升",
        _GALLON: "gal gallon",
        _GALLON / 4: "quart",
    },
    "usd": {Fraction(1): "usd dollar $ 美元", Fraction(1, 100): "cent ¢"},
    "cny": {Fraction(1): "cny rmb yuan ¥ 元 人民币", Fraction(1, 10): "角"},
    "eur": {Fraction(1): "eur euro €"},
    "gbp": {Fraction(1): "gbp £"},
    "inr": {Fraction(1): "rs rupee ₹"},
    "force": {Fraction(1): "N newton 牛"},
    "energy": {Fraction(1): "J joule 焦耳", Fraction(1000): "kJ"},
    "power": {Fraction(1): "W watt 瓦", Fraction(1000): "kW"},
    "volt": {Fraction(1): "V volt 伏"},
    "ampere": {Fraction(1): "A amp ampere 安"},
    "hertz": {Fraction(1): "Hz hertz 赫兹"},
}
_UNITS = {
    word: Unit(dimension, factor)
    for dimension, rows in _TABLE.items()
    for factor, words in rows.items()
    for word in words.split()
}
# Of nothing: where a unit begins.
NONE = Unit("", Fraction(1))
_SPEEDS = {"mph": ["mile", "/", "hour"], "kph": ["km", "/", "hour"], "kmh": ["km", "/", "hour"]}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "平方": 2, "立方": 3}
# Words that multiply: the number before them is of that many.
MULTIPLES = {
    "hundred": Fraction(10**2),
    "thousand": Fraction(10**3),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
    "万": Fraction(10**4),
    "亿": Fraction(10**8),
}


def known(word: str) -> Unit | None:
    """The unit that a word names, in the plural too; None where it names none."""
    word = word.strip(".")
    for form in (word, word.lower(), word.lower().removesuffix("s")):
        if form in _UNITS and (form == word or len(word) > 1):
            return _UNITS[form]
    return None


def is_unit(word: str) -> bool:
    """Does the word measure something?"""
    return word.lower() in _SPEEDS or known(word) is not None


def unit(words: list[str]) -> Unit | None:
    """The unit of a phrase: words, "/" or "per", and powers as "^2" or "square"."""
    words = [part for word in words for part in _SPEEDS.get(word.lower(), [word])]
    found = NONE
    power, sign = 1, 1
    for at, word in enumerate(words):
        if word in ("/", "per", "每"):
            sign = -1
        elif word.lower() in _POWERS:
            power = _POWERS[word.lower()]
        elif base := _base(word):
            following = words[at + 1] if at + 1 < len(words) else ""
            power *= int(following[1:]) if following[:1] == "^" else 1
            found = times(found, base, sign * power)
            power = 1
    return found if found.dimension else None


def _base(word: str) -> Unit | None:
    if word[:2] in _POWERS and len(word) > 2:  # 平方米
        base = known(word[2:])
        return base and times(NONE, base, _POWERS[word[:2]])
    return known(word)


def times(left: Unit, right: Unit, power: int) -> Unit:
    """`left` times `right` to the power."""
    powers = _powers(left.dimension)
    for name, count in _powers(right.dimension).items():
        powers[name] = powers.get(name, 0) + count * power
    names = sorted((name, count) for name, count in powers.items() if count)
    dimension = " ".join(name if count == 1 else f"{name}^{count}" for name, count in names)
    return Unit(dimension, left.factor * right.factor**power)


def _powers(dimension: str) -> dict[str, int]:
    """Of "length^2 time^-1": {"length": 2, "time": -1}."""
    parts = [part.partition("^") for part in dimension.split()]
    return {name: int(power or 1) for name, _, power in parts}
