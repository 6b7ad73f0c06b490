"""`baiwen plan ... --gpus N --gpu KIND`: what a training run takes on a cluster, by layouts.

    $ baiwen plan recipes/qwen2.5/open/1-pretrain.toml --gpus 64 --gpu h200
    $ baiwen plan --size all --gpus 8,64,512 --gpu h100,h200

One size on one cluster: the fastest layouts that fit, the memory and the seconds of the first by
what they go to, what changing one of its knobs does, and the lines for the recipe. Several: a row
of a table each. Nothing here needs torch; the arithmetic is `baiwen/train/cluster.py`.
"""

import argparse
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table

from baiwen.errors import UserError
from baiwen.mistakes import nearest
from baiwen.model import count
from baiwen.model.sizes import SIZES
from baiwen.train import clock, cluster, devices
from baiwen.train.cluster import KNOBS, Cluster, Layout, Plan
from baiwen.train.work import Work

GIB = 2**30
SHOWN = 5  # layouts
MOST_GPUS = 2**16  # of a cluster
PUBLISHED = ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b", "a2.7b", "57b-a14b")
# Report, section 3: rows of 4,096 and 18 trillion tokens. A step's are ours, those of
# recipes/qwen2.5/open/1-pretrain.toml.
ROW, TOKENS, STEP = 4096, 18 * 10**12, 2**22


def asked(options: argparse.Namespace) -> bool:
    """Whether the options speak of a cluster; a UserError where they do so by half."""
    given = [name for name in ("gpus", "gpu") if getattr(options, name)]
    if len(given) == 1 or (not given and (options.size or options.mfu)):
        raise UserError("a cluster is --gpus N and --gpu KIND, as in --gpus 64 --gpu h200")
    return bool(given)


def sizes(text: str | None) -> list[str]:
    """The names that `--size` gives."""
    names = list(PUBLISHED) if text == "all" else text.split(",") if text else []
    for name in names:
        if name not in SIZES:
            known = ", ".join(SIZES)
            raise UserError(f"--size {name}: is none of {known}.{nearest(name, list(SIZES))}")
    return names


def reported(size: str) -> Work:
    """Pre-training of a published size as the report has it."""
    return Work(SIZES[size], ROW, STEP, TOKENS)


def clusters(options: argparse.Namespace) -> dict[str, Cluster]:
    """Each of `--gpus` of each of `--gpu`, by name; with the share of `--mfu`."""
    share = options.mfu
    if share is not None and not 0 < share <= 1:
        raise UserError(f"--mfu {share}: is a share of the peak, above 0 and at most 1")
    kinds = [options.gpu] if "=" in options.gpu else options.gpu.split(",")
    found = {}
    for kind in kinds:
        device = devices.device(kind)
        for text in options.gpus.split(","):
            if not text.isdecimal() or not 0 < int(text) <= MOST_GPUS:
                raise UserError(
                    f"--gpus {options.gpus}: {text!r} is not a number of GPUs, 1 to {MOST_GPUS:,}"
                )
            name = "of your own" if "=" in kind else kind
            found[f"{int(text):,} {name}"] = Cluster(int(text), device, share)
    return found


def show(works: Mapping[str, Work], options: argparse.Namespace, console: Console) -> None:
    """Print what each of the works, by name, takes on each of the clusters."""
    found = clusters(options)
    if len(works) * len(found) > 1:
        console.print(table(works, found))
        return
    ((name, work),), ((place, one),) = works.items(), found.items()
    console.print(f"{name} on {place}", style="bold")
    for part in _page(work, one):
        console.print(part, soft_wrap=isinstance(part, str))


def table(works: Mapping[str, Work], found: Mapping[str, Cluster]) -> Table:
    """The fastest layout that fits of each work on each cluster."""
    rows = _table("model", "GPUs", "GiB", "tokens/s", "MFU", "days", "GPU-hours", "layout")
    for name, work in works.items():
        for place, one in found.items():
            try:
                best = _plans(work, one)[0]
            except UserError as error:  # the others are told all the same
                rows.add_row(name, place, *"-----", str(error))
                continue
            told = _figures(best) if best.fits else [_gib(best), *"----"]
            last = _named(best.layout) if best.fits else f"does not fit; {_enough(work, one)}"
            rows.add_row(name, place, *told, last)
    return rows


def _page(work: Work, one: Cluster) -> Iterator[str | Table]:
    """One work on one cluster."""
    plans = _plans(work, one)
    best, fitting = plans[0], [plan for plan in plans if plan.fits]
    yield (
        f"  {count.parameters(work.shape).total:,} parameters, {work.flops_per_token:.3g} FLOPs a "
        f"token; {_cut(work)}, {best.work.tokens_per_step:,} a step"
    )
    if work.elsewhere:
        yield f"  elsewhere, and not counted here: {work.elsewhere}"
    yield (
        f"  {len(fitting)} of {len(plans)} layouts fit in {one.room / GIB:.0f} GiB a GPU; assumed: "
        f"{best.share:.0%} of the peak while computing, {clock.LINKS:.0%} of the links'"
    )
    if fitting:
        rows = _table("  layout", "GiB", "tokens/s", "MFU", "days", "GPU-hours")
        for plan in fitting[:SHOWN]:
            rows.add_row(f"  {_named(plan.layout)}", *_figures(plan))
        yield rows
        seconds = _parts(best.seconds, 1, "{:.3g}")
        yield f"\na step of the first, {sum(best.seconds.values()):.3g} s: {seconds}"
    else:
        yield f"no layout fits; {_enough(work, one)}; nearest: {_named(best.layout)}"
    yield f"memory of a GPU, {_gib(best)} GiB: {_parts(best.memory, GIB, '{:.1f}')}"
    yield f"memory of a host while a checkpoint is written: {best.host / GIB:,.0f} GiB"
    yield "\nwith one knob changed:"
    yield _changed(best, plans)
    if fitting:
        yield "\nfor the recipe:\n" + "\n".join(_toml(best))


def _plans(work: Work, one: Cluster) -> list[Plan]:
    """All layouts, best first; UserError where the program takes none."""
    if found := cluster.plans(work, one):
        return found
    if work.alone:
        raise UserError(f"{one.gpus:,} GPUs: {work.alone}")
    mend = "another number of GPUs"
    if work.trees is None:
        mend = f"tokens_per_step a multiple of {one.gpus * work.sequence_length:,}, or {mend}"
    raise UserError(
        f"{one.gpus:,} GPUs: no layout divides the model and steps of {work.tokens_per_step:,} "
        f"tokens in {_cut(work)}. Give {mend}"
    )


def _cut(work: Work) -> str:
    """What micro-batches are made of."""
    if work.trees is None:
        return f"rows of {work.sequence_length:,} tokens"
    return f"whole prompts with answers of up to {work.trees.longest:,} tokens"


def _changed(best: Plan, plans: list[Plan]) -> Table:
    """What the neighbours of each knob's value do; `shard` takes what they leave."""
    rows = _table("  knob", "GiB", "tokens/s", "", last="left")
    for knob in KNOBS:
        alike = [plan for plan in plans if plan.layout.differs(best.layout) == {knob}]
        value = getattr(best.layout, knob)
        below = [plan for plan in alike if getattr(plan.layout, knob) < value]
        above = [plan for plan in alike if getattr(plan.layout, knob) > value]
        near = [max(below, key=lambda plan: getattr(plan.layout, knob))] if below else []
        near += [min(above, key=lambda plan: getattr(plan.layout, knob))] if above else []
        for plan in near:
            change = plan.tokens_per_second / best.tokens_per_second - 1
            told = f"{change:+.1%}" if plan.fits else "does not fit"
            setting = f"  {knob} = {_value(getattr(plan.layout, knob))}"
            rows.add_row(setting, _gib(plan), f"{plan.tokens_per_second:,.0f}", told)
    return rows


def _enough(work: Work, one: Cluster) -> str:
    """How many GPUs of this kind would do, by doubling."""
    gpus = one.gpus
    while gpus < MOST_GPUS:
        gpus *= 2
        found = cluster.plans(work, Cluster(gpus, one.device, one.share))
        if found and found[0].fits:
            return f"{gpus:,} are enough"
    return f"nor on {gpus:,}"


def _figures(plan: Plan) -> list[str]:
    """GiB, tokens a second, MFU, days and GPU-hours."""
    told = [_gib(plan), f"{plan.tokens_per_second:,.0f}", f"{plan.mfu:.1%}"]
    if plan.days is None:
        return [*told, "-", "-"]
    return [*told, _brief(plan.days), _brief(24 * plan.days * plan.cluster.gpus, 10)]


def _brief(number: float, whole: float = 100) -> str:
    """Without decimals from `whole` on, with one from 1 on, else in two figures."""
    if number >= whole:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def _gib(plan: Plan) -> str:
    return f"{sum(plan.memory.values()) / GIB:.1f}"


def _parts(parts: Mapping[str, float], unit: float, form: str) -> str:
    """Those that are there, largest first."""
    told = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{form.format(size / unit)} {name}" for name, size in told if size > 0)


def _named(layout: Layout) -> str:
    """The layout in a line: its parts above 1, tokens at once, and whether it recomputes."""
    parts = {name: getattr(layout, name) for name in ("replicate", "shard", "context", "tensor")}
    named = " x ".join(f"{name} {parts}" for name, parts in parts.items() if parts > 1) or "alone"
    named += f", expert {layout.expert}" if layout.expert > 1 else ""
    recomputing = ", recompute" if layout.activation_checkpointing else ""
    return f"{named}, micro {layout.micro_tokens:,}{recomputing}"


def _toml(plan: Plan) -> Iterator[str]:
    """The lines of a recipe; of a law's step the number, which other layouts would round."""
    layout = plan.layout
    if plan.work.unit is not None:
        yield f"tokens_per_step = {plan.work.tokens_per_step}"
    yield f"micro_tokens = {layout.micro_tokens}"
    yield "[parallel]"
    plain = Layout()
    for knob in KNOBS:
        value = getattr(layout, knob)
        if knob != "micro_tokens" and value != getattr(plain, knob):
            yield f"{knob} = {_value(value)}"


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(*columns: str, last: str | None = None) -> Table:
    """A plain table of words, then numbers."""
    found = Table(box=None, pad_edge=False)
    for place, column in enumerate(columns):
        words = place == 0 or column == "layout" or (last == "left" and place == len(columns) - 1)
        found.add_column(column, justify="left" if words else "right", no_wrap=True)
    return found
