"""One checkpoint on its way to the disk, by a thread of every rank.

    save = Save(path, images, index, record, world, after=prune)       # copies in the background
    save.settle()                     # returns once the copy is made: weights may change
    save.join()                       # once it is on the disk for all ranks, or for none
    save.error                        # what went wrong on any of them

A thread copies this rank's part of the state to host memory and writes its files; rank 0 makes the
folder under a temporary name, hears from each rank what it has written, seals it all with a
manifest and gives it its name. So a kill at any moment, of any rank, leaves no folder that counts.

Ranks talk through the store of the session: their threads may not meet in a collective, which the
loop's could overtake. What went wrong on one of them is raised on all.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed import HashStore, PrefixStore

from baiwen import files
from baiwen.dist import World
from baiwen.errors import PassingError, UserError
from baiwen.files.durable import explained
from baiwen.files.manifest import Entry, describe, write_manifest
from baiwen.train.checkpoint.image import Image
from baiwen.train.checkpoint.saved import INDEX, Index, merged

STATE = "state.json"
# Seconds between two looks at what the other ranks have said: at first, and at most.
PAUSES = 0.02, 1.0
GRACE = 60.0  # seconds in which a folder that rank 0 has made is seen by all
VERDICT, FOLDER = "verdict", "folder"
SHARED = "`out` must be on a file system that all machines share"


class Words:
    """What the ranks tell each other about one save, through the store of their session."""

    def __init__(self, world: World) -> None:
        store: Any = world.store or HashStore()  # torch's stubs leave `clone` out
        turn = store.add(f"saves of rank {world.rank}", 1)  # they all come to each in turn
        # A connection of its own: the main thread's is taken while that waits for something.
        self.store = PrefixStore(f"save {turn}", store.clone() if world.store else store)

    def tell(self, key: str, value: Any) -> None:  # noqa: ANN401 - JSON is any of its types
        """Say it once, for all."""
        self.store.set(key, json.dumps(value))

    def hear(self, key: str) -> Any:  # noqa: ANN401
        """Wait until it is said, or rank 0 has said that it is all over.

        If a rank dies, the watch of the session ends those that wait for it.
        """
        pause, longest = PAUSES
        while not self.store.check([key]):
            if self.store.check([VERDICT]) and (verdict := self.hear(VERDICT)):
                raise _error(verdict)
            time.sleep(pause)
            pause = min(1.2 * pause, longest)
        return json.loads(self.store.get(key))

    def forget(self, key: str) -> None:
        """Free what was said."""
        self.store.delete_key(key)


class Save:
    """A save under way; `index` and `record` are this rank's, `after` is called by rank 0."""

    def __init__(
        self,
        path: Path,
        images: Mapping[str, Image],
        index: Index,
        record: dict[str, Any],
        world: World,
        after: Callable[[], None],
    ) -> None:
        self.path, self.images, self.index, self.record = path, images, index, record
        self.world, self.after, self.words = world, after, Words(world)
        self._copied = threading.Event()
        self.error: BaseException | None = None
        self._ready = None
        if world.device.type == "cuda":  # when the step before has changed all that it changes
            self._ready = torch.cuda.current_stream(world.device).record_event()
        self._thread = threading.Thread(target=self._run, name="checkpoint")
        self._thread.start()

    def settle(self) -> None:
        """Return once the live tensors are copied."""
        self._copied.wait()

    def join(self) -> None:
        """Return once the checkpoint is there for all ranks, or there is an `error`."""
        self._thread.join()

    def _run(self) -> None:
        try:
            if self.world.main:
                self._lead()
            else:
                self._follow()
        except BaseException as error:  # handed to the loop, which raises it
            self.error = error
        finally:
            self._copied.set()
            self.images = {}

    def _lead(self) -> None:
        """Rank 0: make the folder, write what is here, wait for the others, seal."""
        entries: dict[str, Entry] = {}
        try:
            self._copy()
            with files.writing_folder(
                self.path, lambda folder: write_manifest(folder, entries)
            ) as folder:
                self.words.tell(FOLDER, folder.name)
                try:
                    mine = self._part(folder)
                finally:  # nothing is removed while they write
                    others = [self._part_of(rank) for rank in range(1, self.world.size)]
                entries |= self._described(folder, [mine, *others])
            self.after()
        except BaseException as error:
            self.words.tell(VERDICT, _told(error))
            raise
        self.words.tell(VERDICT, None)

    def _follow(self) -> None:
        """Any other rank: write what is here, and hear what became of the whole."""
        rank = f"rank {self.world.rank}"
        try:
            self._copy()
            folder = self.path.parent / self.words.hear(FOLDER)
            _await_folder(folder, rank)
            with explained(self.path, folder):
                self.words.tell(rank, self._part(folder))
        except BaseException as error:
            self.words.tell(rank, {"error": _told(error, f"{rank}: ")})
            self.words.hear(VERDICT)  # rank 0 has removed the folder: the job may end
            raise
        if verdict := self.words.hear(VERDICT):
            raise _error(verdict)

    def _copy(self) -> None:
        with _beside(self.world.device, self._ready):
            for image in self.images.values():
                image.copy()
        self._copied.set()

    def _part(self, folder: Path) -> dict[str, Any]:
        """Write this rank's files; what is to be known of them."""
        for image in self.images.values():
            image.refuse_non_finite(f"checkpoint of step {self.record['step']}")
        written = {name: image.write(folder / name) for name, image in self.images.items()}
        return {"files": written, "index": self.index, "random": self.record["random"]}

    def _part_of(self, rank: int) -> dict[str, Any]:
        part = self.words.hear(f"rank {rank}")
        self.words.forget(f"rank {rank}")
        return part

    def _described(self, folder: Path, parts: list[dict[str, Any]]) -> dict[str, Entry]:
        """Write what concerns all ranks; the manifest's entries of all files."""
        for part in parts:
            if "error" in part:
                raise _error(part["error"])
        randoms = [part["random"] for part in parts]
        files.write_json(folder / STATE, self.record | {"random": randoms})
        _write_index(folder / INDEX, merged(part["index"] for part in parts))
        entries = {name: entry for part in parts for name, entry in part["files"].items()}
        for name, entry in entries.items():
            _check_shared(folder / name, entry)
        return entries | {name: describe(folder / name) for name in (INDEX, STATE)}


def _told(error: BaseException, whose: str = "") -> dict[str, Any]:
    """What the other ranks hear of an error, and whether it is one that may pass."""
    mistake = isinstance(error, UserError) and not isinstance(error, PassingError)
    return {"text": f"{whose}{str(error) or repr(error)}", "passing": not mistake}


def _error(told: dict[str, Any]) -> UserError:
    """The error that `_told` told of."""
    return (PassingError if told["passing"] else UserError)(told["text"])


@contextmanager
def _beside(device: torch.device, ready: torch.cuda.Event | None) -> Iterator[None]:
    """On a GPU, a stream of its own that begins when `ready` has come; leaves when it is done."""
    if ready is None:
        yield
        return
    torch.cuda.set_device(device)  # a thread begins with the first
    stream = torch.cuda.Stream(device)
    stream.wait_event(ready)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


def _write_index(path: Path, index: Index) -> None:
    """A tensor a line."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in index.items())
    files.write(path, f"{{\n{lines}\n}}\n")


def _await_folder(folder: Path, rank: str) -> None:
    """Wait a while for a folder that rank 0 has made; UserError where it does not come."""
    limit = time.monotonic() + GRACE
    while not folder.is_dir():
        if time.monotonic() > limit:
            raise UserError(f"{rank} does not see {folder}, which rank 0 has made: {SHARED}")
        time.sleep(PAUSES[0])


def _check_shared(path: Path, entry: Entry) -> None:
    if not path.is_file() or path.stat().st_size != entry["bytes"]:
        raise UserError(f"rank 0 does not see {path} as another rank has written it: {SHARED}")
