"""The words of the chat protocol, and the Jinja template that goes into `tokenizer_config.json`.

The protocol's fixed strings are Qwen2.5's (spec 2.2). The template lets transformers, vLLM and
llama.cpp write what `Tokenizer.render(...).text` writes; `{% generation %}` marks the assistant's
words and end marker, where the loss mask is 1. A template yields one string, in which the words of
a user can name a control token: in Baiwen only `render` makes ids.
"""

import json

DEFAULT_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
TOOLS_INTRODUCTION = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
TOOLS_INSTRUCTION = (  # {open} and {close} stand for the control tokens around a call
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within {open}{close} XML tags:\n{open}\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n{close}'
)

_FORM = r"""
{%- macro words(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- elif content -%}
        {%- for part in content -%}{{- part.text -}}{%- endfor -%}
    {%- endif -%}
{%- endmacro -%}

{%- set with_system = messages[0].role == 'system' -%}
{{- '<|im_start|>system\n' -}}
{{- words(messages[0].content) if with_system else %DEFAULT_SYSTEM% -}}
{%- if tools -%}
    {{- %TOOLS_INTRODUCTION% -}}
    {%- for tool in tools -%}{{- '\n' + (tool | tojson) -}}{%- endfor -%}
    {{- %TOOLS_INSTRUCTION% -}}
{%- endif -%}
{{- '<|im_end|>\n' -}}

{%- set turns = messages[1:] if with_system else messages -%}
{%- for turn in turns -%}
    {%- if turn.role == 'tool' -%}
        {%- if loop.first or turns[loop.index0 - 1].role != 'tool' -%}
            {{- '<|im_start|>user' -}}
        {%- endif -%}
        {{- '\n<tool_response>\n' + words(turn.content) + '\n</tool_response>' -}}
        {%- if loop.last or turns[loop.index0 + 1].role != 'tool' -%}
            {{- '<|im_end|>\n' -}}
        {%- endif -%}
    {%- elif turn.role == 'assistant' -%}
        {{- '<|im_start|>assistant\n' -}}
        {%- generation -%}
            {{- words(turn.content) -}}
            {%- for made in turn.tool_calls or [] -%}
                {%- set call = made.function or made -%}
                {{- '\n' if turn.content or not loop.first -}}
                {{- '<tool_call>\n{"name": "' + call.name + '", "arguments": ' -}}
                {%- if call.arguments is string and call.arguments -%}
                    {{- call.arguments -}}
                {%- else -%}
                    {{- (call.arguments or {}) | tojson -}}
                {%- endif -%}
                {{- '}\n</tool_call>' -}}
            {%- endfor -%}
            {{- '<|im_end|>' -}}
        {%- endgeneration -%}
        {{- '\n' -}}
    {%- else -%}
        {{- '<|im_start|>' + turn.role + '\n' + words(turn.content) + '<|im_end|>\n' -}}
    {%- endif -%}
{%- endfor -%}

{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
"""


def _filled() -> str:
    instruction = TOOLS_INSTRUCTION.replace("{open}", "<tool_call>")
    strings = {
        "DEFAULT_SYSTEM": DEFAULT_SYSTEM,
        "TOOLS_INTRODUCTION": TOOLS_INTRODUCTION,
        "TOOLS_INSTRUCTION": instruction.replace("{close}", "</tool_call>"),
    }
    text = _FORM.strip()
    for name, value in strings.items():
        text = text.replace(f"%{name}%", json.dumps(value))
    return text


TEXT = _filled()
