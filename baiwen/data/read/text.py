"""Text, Markdown and source code: a file is a document, in UTF-8.

Code is known by its ending, its programming language goes into `meta.language`. Endings that two
languages share (`.m`, `.v`) are left out: what is said of a document should be so.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baiwen.data.document import CODE, PROSE, Document, document, flawed
from baiwen.data.read.places import Place, content, opened
from baiwen.data.read.span import SNIPPET, Cut, Reading, Span, too_long, whole

PROSES = (".txt", ".text", ".md", ".markdown", ".rst")
LANGUAGES = {
    "ada": ".adb .ads",
    "assembly": ".asm .s",
    "awk": ".awk",
    "c": ".c .h",
    "c#": ".cs",
    "c++": ".cc .cpp .cxx .hh .hpp .hxx",
    "clojure": ".clj .cljs .cljc",
    "cmake": ".cmake",
    "crystal": ".cr",
    "css": ".css .scss .less",
    "cuda": ".cu .cuh",
    "d": ".d",
    "dart": ".dart",
    "elixir": ".ex .exs",
    "elm": ".elm",
    "erlang": ".erl .hrl",
    "f#": ".fs .fsx",
    "fortran": ".f .f77 .f90 .f95 .f03 .f08",
    "glsl": ".glsl .vert .frag",
    "go": ".go",
    "graphql": ".graphql",
    "groovy": ".groovy .gradle",
    "haskell": ".hs",
    "java": ".java",
    "javascript": ".js .jsx .mjs .cjs",
    "julia": ".jl",
    "kotlin": ".kt .kts",
    "lean": ".lean",
    "lisp": ".lisp .cl .el",
    "lua": ".lua",
    "nim": ".nim",
    "nix": ".nix",
    "objective-c": ".mm",
    "ocaml": ".ml .mli",
    "pascal": ".pas",
    "perl": ".pl .pm",
    "php": ".php",
    "powershell": ".ps1 .psm1",
    "protobuf": ".proto",
    "python": ".py .pyi .pyx",
    "r": ".r",
    "racket": ".rkt",
    "ruby": ".rb",
    "rust": ".rs",
    "scala": ".scala .sc",
    "scheme": ".scm .ss",
    "shell": ".sh .bash .zsh",
    "solidity": ".sol",
    "sql": ".sql",
    "svelte": ".svelte",
    "swift": ".swift",
    "systemverilog": ".sv .svh",
    "tcl": ".tcl",
    "typescript": ".ts .tsx .mts .cts",
    "vhdl": ".vhd .vhdl",
    "vue": ".vue",
    "zig": ".zig",
}
CODES = {ending: language for language, endings in LANGUAGES.items() for ending in endings.split()}
ENDINGS = (*PROSES, *CODES)


def cut(place: Place, reading: Reading) -> Iterator[Cut]:
    """The file as one span."""
    return whole(place, reading)


def read(span: Span, meta: dict[str, Any], reading: Reading) -> Iterator[Document]:
    """Its document."""
    language = CODES.get(Path(span.place).suffix.lower())
    own = {"language": language} if language else {}
    domain = CODE if language else PROSE
    place = str(span.place)
    about = {"place": place, "source": place, "domain": domain, **own, **meta}
    yield text_file(span.place, about, reading.document_bytes)


def text_file(place: Place, meta: dict[str, Any], most: int = Reading().document_bytes) -> Document:
    """The document of a text file, flawed where its bytes are not UTF-8 or more than `most`."""
    data = content(place, most)
    if data is None:
        return long_file(place, meta, most)
    try:
        return document(data.decode("utf-8-sig"), meta)
    except UnicodeDecodeError as error:
        flaw = f"not UTF-8 at byte {error.start:,}"
        return flawed(str(place), data.decode(errors="replace"), flaw, meta)


def long_file(place: Place, meta: dict[str, Any], most: int) -> Document:
    """What stands for a file that is longer than a document may be."""
    with opened(place) as file:
        beginning = file.read(SNIPPET)
    return flawed(str(place), beginning.decode(errors="replace"), too_long(None, most), meta)
