"""Values of a program as plain JSON, both ways: what crosses the wall of the sandbox.

    encode((1, {2.5}))      -> {"tuple": [1, {"set": [{"float": "0x1.4000000000000p+1"}]}]}
    decode({"int": "0x20000000000000"})      -> 9007199254740992

None, booleans, strings, small integers and lists are themselves; anything else is an object with
one key, its type. An instance of a subclass is encoded by the data that its built-in type holds,
never by a method of its own, so no `__eq__` comes along: what arrives outside is data.

The text of this file is taken into the sandbox, where it runs for every program, so it imports
nothing: `typing` alone would cost a third of a run.
"""

EXACT = 2**53  # integers up to here are exact in every reader of JSON
DEEPEST = 200  # levels of nesting


def encode(value: object, depth: int = 0) -> object:
    """The code of a value; {"other": the name of its type} for what is no plain data."""
    kind = type(value)
    if depth > DEEPEST:
        return {"other": "nesting"}
    if value is None or kind is bool or kind is str:
        return value
    for base, encoded in _ENCODERS:
        if issubclass(kind, base):
            return encoded(value, depth + 1)
    return {"other": type.__getattribute__(kind, "__name__")}


def _integer(value: int, depth: int) -> object:
    value = int.__int__(value)
    return value if -EXACT < value < EXACT else {"int": hex(value)}


def _dict(value: dict, depth: int) -> object:
    return {"dict": [[encode(key, depth), encode(item, depth)] for key, item in dict.items(value)]}


def _complex(value: complex, depth: int) -> object:
    parts = complex.real, complex.imag  # as descriptors of the built-in type
    return {"complex": [float.hex(part.__get__(value)) for part in parts]}


def _codes(items: list, depth: int) -> list[object]:
    return [encode(item, depth) for item in items]


# The built-in type, and how a value of it is encoded by that type's own methods.
_ENCODERS: tuple = (
    (int, _integer),
    (str, lambda value, depth: str.__str__(value)),
    (float, lambda value, depth: {"float": float.hex(value)}),
    (list, lambda value, depth: _codes([*list.__iter__(value)], depth)),
    (tuple, lambda value, depth: {"tuple": _codes([*tuple.__iter__(value)], depth)}),
    (dict, _dict),
    (set, lambda value, depth: {"set": _codes([*set.__iter__(value)], depth)}),
    (frozenset, lambda value, depth: {"set": _codes([*frozenset.__iter__(value)], depth)}),
    (bytes, lambda value, depth: {"bytes": bytes.hex(value)}),
    (bytearray, lambda value, depth: {"bytes": bytearray.hex(value)}),
    (complex, _complex),
)


def decode(code: object) -> object:
    """The value of a code; `ValueError` where it is none, or no plain data."""
    if isinstance(code, list):
        return [decode(item) for item in code]
    if not isinstance(code, dict):
        return code
    try:
        ((tag, content),) = code.items()
        return _DECODERS[tag](content)
    except (KeyError, TypeError, AttributeError, OverflowError):
        raise ValueError("no code of a plain value") from None


_DECODERS: dict = {
    "int": lambda content: int(content, 16),
    "float": float.fromhex,
    "tuple": lambda content: tuple(decode(item) for item in content),
    "dict": lambda content: {decode(key): decode(item) for key, item in content},
    "set": lambda content: {decode(item) for item in content},
    "bytes": bytes.fromhex,
    "complex": lambda content: complex(*map(float.fromhex, content)),
}
