"""The 22 control tokens of Qwen2.5: names, order and flags (spec 2.1).

They follow the regular tokens: in the published vocabulary of 151,643 regular tokens
`<|endoftext|>` is 151643 and `<|file_sep|>` is 151664; after 1,000 they are 1000 to 1021.

    END_OF_TEXT  ends a document and pads a batch
    IM_START     opens a turn:  <|im_start|>user
    IM_END       ends a turn, and with it what a chat model says

The published files flag the first 14 as special, which lets `skip_special_tokens=True` of
transformers drop them, and leave the tool, infilling and repository markers visible.
"""

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TOOL_CALL, TOOL_CALL_END = "<tool_call>", "</tool_call>"
FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX = "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"
FIM_PAD, REPO_NAME, FILE_SEP = "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"

_VISION = (
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_SPECIAL = (END_OF_TEXT, IM_START, IM_END, *_VISION)
_VISIBLE = (
    TOOL_CALL,
    TOOL_CALL_END,
    FIM_PREFIX,
    FIM_MIDDLE,
    FIM_SUFFIX,
    FIM_PAD,
    REPO_NAME,
    FILE_SEP,
)

# (name, special) in the order of the ids
PUBLISHED: tuple[tuple[str, bool], ...] = (
    *((name, True) for name in _SPECIAL),
    *((name, False) for name in _VISIBLE),
)
NAMES: tuple[str, ...] = tuple(name for name, _ in PUBLISHED)
