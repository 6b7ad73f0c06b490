"""The command line: `baiwen run|plan|show|chat|serve|eval|export|upcycle|scaling|data|doctor`.

    baiwen run recipes/tiny                          a folder of recipes, in order
    baiwen run recipes/tiny/7-sft.toml optim.lr=1e-5 one recipe, one knob changed
    torchrun --nproc-per-node 8 -m baiwen run ...    the same on many ranks

Exit codes: 0 done; 1 a fault of ours, with its traceback; 2 a mistake that the message tells how to
mend; 130 and 143 interrupted (Ctrl-C, SIGTERM), with the line that resumes. Only argparse is
imported here, so that `--help` and `show` answer at once (docs/dependencies.md has the figures).
"""

import argparse
import errno
import importlib
import io
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from baiwen import last_words
from baiwen.errors import UserError

COMMANDS = {
    "run": "run a recipe, or a folder of recipes in order",
    "plan": "show what a run would take, without running: knobs, size, FLOPs, memory, time, disk",
    "show": "list the stages, or every knob of one with its default",
    "chat": "talk to a model",
    "serve": "serve a model by OpenAI's protocol, with a chat page",
    "eval": "score a model on held-out tasks and text",
    "export": "write a model in a format of other programs (GGUF)",
    "upcycle": "make a mixture of experts of a dense model",
    "scaling": "learning rate, batch, loss and size by published laws, or by your own runs",
    "data": "tell what a data run did with a document (explain) or all of them (funnel)",
    "doctor": "check this machine and installation",
}
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM  # the shell's convention


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are ours."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise UserError(f"{message}\n    {self.format_usage().strip()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an encoding without Chinese is no reason to end
            stream.reconfigure(errors="backslashreplace")
    try:
        options = _parse(arguments)
        # A command's module imports what it needs (torch, most of all), so it is imported here.
        code = importlib.import_module(f"baiwen.commands.{options.command}").main(options)
        sys.stdout.flush()  # here, where a reader that has left is caught
        return code or 0
    except UserError as error:
        return _complain(str(error))
    except (KeyboardInterrupt, SystemExit) as stop:
        code = stop.code if isinstance(stop, SystemExit) else INTERRUPTED
        if code not in (INTERRUPTED, TERMINATED):
            raise
        if arguments[0] == "run" and os.environ.get("RANK", "0") == "0":  # one line for all ranks
            print(f"baiwen: interrupted; resume with: {_typed()}", file=sys.stderr)
        return code
    except BrokenPipeError:  # the reader of our output, `head` for one, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        told = _exhausted(error)
        if told is None:
            last_words.leave(traceback.format_exc())
            raise
        return _complain(f"{told}, then go on with: {_typed()}")


def _parse(arguments: list[str]) -> argparse.Namespace:
    named = next((word for word in arguments if not word.startswith("-")), None)
    if named is not None and named not in COMMANDS:
        from baiwen.mistakes import nearest

        hint = nearest(named, list(COMMANDS))
        raise UserError(f"there is no command {named}.{hint}\n    commands: {', '.join(COMMANDS)}")
    return _parser().parse_args(arguments or ["--help"])


def _parser() -> Parser:
    parser = Parser(prog="baiwen", description="The Qwen2.5 recipe, end to end.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, told in COMMANDS.items():
        command = commands.add_parser(name, help=told, description=f"{told[0].upper()}{told[1:]}.")
        ARGUMENTS[name](command)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"baiwen {version('baiwen')}")
        parser.exit()


def _recipes(command: argparse.ArgumentParser, needed: bool = True) -> None:
    number = None if needed else "?"
    command.add_argument("recipe", nargs=number, help="a recipe (TOML) or a folder of them")
    command.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help="a knob to change, in every recipe that has it; RECIPE.key=value changes it in one",
    )


def _plan(command: argparse.ArgumentParser) -> None:
    """Of this machine, or of a cluster: `baiwen/commands/layouts.py`."""
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = """examples:
  baiwen plan recipes/tiny                                   knobs, and what runs take here
  baiwen plan recipes/qwen2.5/open --gpus 64 --gpu h200      layouts that fit, the fastest first
  baiwen plan --size 72b --gpus 64,512 --gpu h100,h200       the fastest of each, as a table
  baiwen plan --size 7b --gpus 16 --gpu memory=96,flops=148e12,hbm=4000,link=450,network=50,node=8

Without a recipe: pre-training as reported, 18 T tokens in rows of 4,096, 4 Mi tokens a step.
docs/cluster.md tells what the prediction rests on, and how far off it was where it was measured."""
    _recipes(command, needed=False)
    cluster = command.add_argument_group("a cluster instead of this machine")
    cluster.add_argument("--gpus", metavar="N", help="how many; several as in 8,64")
    cluster.add_argument("--gpu", metavar="KIND", help="4090, l40s, a100, h20, h100, h200, b200")
    cluster.add_argument("--size", help="a published size instead of the recipe's; all: each")
    cluster.add_argument(
        "--mfu", type=float, help="share of the peak while computing (0.5; mixtures: 0.35)"
    )


def _show(command: argparse.ArgumentParser) -> None:
    command.add_argument("stage", nargs="?", help="the stage whose knobs to list")


def _model(command: argparse.ArgumentParser, or_else: str = "") -> None:
    command.add_argument("model", help=f"a model folder, as in runs/tiny/sft{or_else}")
    command.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, auto (default)")


def _reach(command: argparse.ArgumentParser) -> None:
    """How far a model reads, and how: `commands/loading.py`."""
    command.add_argument(
        "--context", type=int, help="tokens of prompt and answer, at most (default: the model's)"
    )
    command.add_argument(
        "--rope",
        choices=("temperature", "yarn", "none"),
        help="what YaRN does beyond the trained length (temperature; yarn with --no-dca)",
    )
    command.add_argument(
        "--no-dca", action="store_true", help="no dual chunk attention beyond the trained length"
    )
    command.add_argument("--factors", help="that a request may get, as in 1,2,4 (1,2,3,...)")
    kinds = ("fp32", "bf16", "int8")
    command.add_argument("--kv", choices=kinds, help="keys and values (as the weights)")


def _sparse(command: argparse.ArgumentParser) -> None:
    """How long prompts are read: `baiwen/model/sparse.py`; each of the others asks for --sparse."""
    command.add_argument("--sparse", action="store_true", help="read long prompts sparsely")
    command.add_argument("--sparse-from", type=int, help="tokens of a long prompt (32768)")
    command.add_argument("--sparse-mass", type=float, help="of the attention, to be held (0.98)")
    command.add_argument("--sparse-budget", type=float, help="the most keys, as a share (none)")
    command.add_argument("--sparse-chunk", type=int, help="tokens read together (4096)")
    command.add_argument("--patterns", help="per-head patterns (JSON, .gz) instead of a vote")


def _chat(command: argparse.ArgumentParser) -> None:
    _model(command, ", or the URL of a server")
    _reach(command)
    _sparse(command)
    command.add_argument("--dtype", default="auto", help="float32, bfloat16, auto (default)")
    command.add_argument("--system", help="the system message (default: the template's)")
    command.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (0.7)")
    command.add_argument("--top-p", type=float, default=0.8, help="nucleus (0.8)")
    command.add_argument("--top-k", type=int, default=20, help="0 is off (20)")
    command.add_argument("--repetition-penalty", type=float, default=1.05, help="1 is off (1.05)")
    command.add_argument("--max-tokens", type=int, default=1024, help="of one answer (1024)")
    command.add_argument("--seed", type=int, help="draws the same answers again")
    command.add_argument("--api-key", help="of a server (default: BAIWEN_API_KEY)")


def _serve(command: argparse.ArgumentParser) -> None:
    _model(command)
    command.add_argument("--dtype", default="auto", help="float32, bfloat16, auto (default)")
    command.add_argument("--weights", choices=("fp32", "bf16", "int8", "int4"), help="packed so")
    command.add_argument("--host", default="127.0.0.1", help="others need an API key (127.0.0.1)")
    command.add_argument("--port", type=int, default=8000, help="0 takes a free one (8000)")
    command.add_argument("--api-key", help="that requests must send (default: BAIWEN_API_KEY)")
    command.add_argument("--name", help="the model's name in requests (default: its folder's)")
    _reach(command)
    _sparse(command)
    command.add_argument("--cache-tokens", type=int, help="in the cache (default: by memory)")
    command.add_argument("--sequences", type=int, default=64, help="that run at once (64)")
    command.add_argument("--lookup", type=int, default=0, help="tokens guessed ahead (0)")
    command.add_argument("--draft", help="a smaller model's folder, which guesses them (4 ahead)")
    command.add_argument("--no-graphs", action="store_true", help="no CUDA graphs on a GPU")
    command.add_argument("--max-waiting", type=int, default=256, help="then 429 (256)")
    command.add_argument("--max-body", type=int, default=8 * 2**20, help="bytes, then 413 (8 MiB)")
    command.add_argument("--max-seconds", type=float, default=600, help="of a request (600)")
    command.add_argument("--drain", type=float, default=30, help="seconds after SIGTERM (30)")
    command.add_argument("--open", action="store_true", help="open the chat page in the browser")


def _eval(command: argparse.ArgumentParser) -> None:
    _model(command)
    command.add_argument(
        "--tasks",
        nargs="+",
        help="held-out questions (heldout.jsonl of `instruct`); with --suite long: passkey, ruler, "
        "or tasks of RULER by name (all)",
    )
    command.add_argument("--documents", help="held-out documents (JSONL, .gz, .zst)")
    command.add_argument("--questions", type=int, help="how many of each kind (default: all)")
    command.add_argument("--suite", choices=("long",), help="long: pass key and RULER")
    _reach(command)
    _sparse(command)
    long = command.add_argument_group("the suite `long`")
    long.add_argument(
        "--forms",
        nargs="+",
        choices=("chat", "document"),
        help="chat (default), document for a base model, or both: the better one is shown",
    )
    long.add_argument("--lengths", type=int, nargs="+", help="tokens of prompt and answer")
    long.add_argument("--depths", type=int, help="of the pass key, from begin to end (11)")
    long.add_argument("--keys", type=int, help="at each depth and length (5)")
    long.add_argument("--samples", type=int, help="of each task of RULER at each length (20)")
    long.add_argument("--haystack", help="documents (file, folder, glob), noise, stdlib (default)")
    long.add_argument("--squad", help="questions for qa_1, in SQuAD's JSON (none: left out)")
    long.add_argument("--hotpotqa", help="questions for qa_2, in HotpotQA's JSON (none: left out)")


def _export(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="a model folder, as in runs/tiny/sft")
    command.add_argument("--gguf", metavar="OUT", required=True, help="the GGUF file to write")
    command.add_argument("--type", default="bf16", help="f32, bf16 (default), f16 or q8_0")
    command.add_argument("--check", action="store_true", help="read it back and compare")


def _upcycle(command: argparse.ArgumentParser) -> None:
    """The knobs of `baiwen/model/upcycle.py`."""
    command.add_argument("model", help="a dense model folder")
    command.add_argument("--out", required=True, help="the folder to write")
    command.add_argument("--experts", type=int, required=True, help="that tokens choose from")
    command.add_argument("--top-k", type=int, required=True, help="that each token chooses")
    command.add_argument("--expert-size", type=int, required=True, help="its intermediate elements")
    command.add_argument("--shared", type=int, required=True, help="experts that see every token")
    command.add_argument(
        "--start",
        choices=("shuffled", "copied", "preserved"),
        default="shuffled",
        help="shuffled (default): as Qwen did; copied: in order, nothing drawn anew; preserved: "
        "the shared expert holds the dense layer, so outputs are the dense model's",
    )
    command.add_argument("--fresh", type=float, default=0.5, help="share drawn anew (0.5)")
    command.add_argument("--fresh-by", choices=("rows", "elements"), default="rows")
    command.add_argument("--std", type=float, default=0.02, help="of what is drawn (0.02)")
    command.add_argument(
        "--unscaled", dest="scaled", action="store_false", help="keep down projections as they are"
    )
    command.add_argument(
        "--normalised", action="store_true", help="the chosen experts' weights sum to 1"
    )
    command.add_argument("--seed", type=int, default=0)


SCALING = """examples:
  baiwen scaling predict --params 1.5B --tokens 30B         rates, batches and losses by each law
  baiwen scaling predict --flops 1e21                       the best size and tokens of a budget
  baiwen scaling fit runs.csv --out laws.json               the laws of your own runs
  baiwen scaling predict --model 3b --tokens 1T --laws laws.json
  baiwen scaling parity --active 2.7B --total 14.3B --tokens 80B

A table has a row for each run: N (parameters without the embeddings), D (tokens trained on), lr
(peak), bs (sequences of 2,048 tokens in a step, or of a column `sequence`) and smooth loss (nats a
token at the end); of mixtures of experts also `active N`. Runs of one N and one D are compared.
docs/scaling.md tells each law's source and range, and how a recipe asks: lr = "law"."""


def _scaling(command: argparse.ArgumentParser) -> None:
    kinds = command.add_subparsers(dest="what", metavar="predict|fit|parity", required=True)
    command.formatter_class, command.epilog = argparse.RawDescriptionHelpFormatter, SCALING
    for name, told in (
        ("predict", "what the published laws say of a target, side by side"),
        ("fit", "the laws of a table of runs (columns N, D, lr, bs, smooth loss)"),
        ("parity", "which dense model equals a mixture of experts in loss, and the other way"),
    ):
        kind = kinds.add_parser(name, help=told, description=f"{told[0].upper()}{told[1:]}.")
        kind.formatter_class, kind.epilog = argparse.RawDescriptionHelpFormatter, SCALING
        if name == "fit":
            kind.add_argument("runs", help="the table (CSV, .gz, .zst)")
            near = "how far above its cell's least loss a run counts (0.0025, which is 0.25 %%)"
            kind.add_argument("--share", type=float, default=0.0025, help=near)
            kind.add_argument("--draws", type=int, default=1000, help="resampled fits (1000)")
            kind.add_argument("--out", metavar="FILE", help="a laws.json to write")
        else:
            laws = "a laws.json, told beside the published laws"
            kind.add_argument("--laws", metavar="FILE", help=laws)
        target = kind.add_argument_group("a target: --tokens, and a size in one of three ways")
        target.add_argument("--tokens", metavar="D", help="to train on, as in 30B")
        target.add_argument("--params", metavar="N", help="without the embeddings, as in 1.5B")
        target.add_argument("--model", metavar="NAME", help="a published size, as in 1.5b")
        target.add_argument("--active", metavar="N", help="of a mixture, as in 2B; and")
        target.add_argument("--total", metavar="N", help="all parameters of it, as in 14B")
        if name != "parity":
            budget = "a budget, as in 1e21, whose best size and tokens are told"
            kind.add_argument("--flops", metavar="C", help=budget)


def _data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "what", choices=("explain", "funnel"), help="a document's life, or a table"
    )
    command.add_argument(
        "names", nargs="+", metavar="ID or RUN", help="explain ID [RUN ...]; funnel RUN"
    )
    command.add_argument("--json", action="store_true", help="for programs")


def _doctor(command: argparse.ArgumentParser) -> None:
    del command  # takes no arguments


ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "run": _recipes,
    "plan": _plan,
    "show": _show,
    "chat": _chat,
    "serve": _serve,
    "eval": _eval,
    "export": _export,
    "upcycle": _upcycle,
    "scaling": _scaling,
    "data": _data,
    "doctor": _doctor,
}


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)


def _complain(text: str) -> int:
    """Print for a person, once a machine, and return the exit code."""
    rank = f" (rank {os.environ['RANK']})" if os.environ.get("WORLD_SIZE", "1") != "1" else ""
    if last_words.first_to_say(text):
        print(f"baiwen{rank}: {text}", file=sys.stderr)
    last_words.leave(text)
    return 2


def _typed() -> str:
    """The command as it was typed; torchrun's own options as far as its workers know them."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        nodes, ranks = os.environ["GROUP_WORLD_SIZE"], os.environ["LOCAL_WORLD_SIZE"]
        many = [] if nodes == "1" else ["--nnodes", nodes]
        torchrun = ["torchrun", *many, "--nproc-per-node", ranks]
        return shlex.join([*torchrun, "-m", "baiwen", *sys.argv[1:]])
    module = len(sys.orig_argv) > 2 and "-m" in sys.orig_argv[1:3]
    return shlex.join(sys.orig_argv if module else sys.argv)


def _exhausted(error: Exception) -> str | None:
    """What has run out, if that is the error, and what to do about it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space is left on the disk ({error.filename or 'while writing'}): free some"
    torch = sys.modules.get("torch")
    if torch and isinstance(error, torch.OutOfMemoryError):
        return "the GPU is out of memory: lower micro_tokens (sequence_length, max_tokens)"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "this machine is out of memory: lower micro_tokens (sequence_length, max_tokens)"
    return None
