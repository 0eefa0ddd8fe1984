"""A fault inside a run. With this folder on PYTHONPATH every Python process imports this module.

The environment variable C3L_FAULT holds a `tests.faults.moments.Moment` as JSON, with the folder it
is about. Calls that change files below the folder are counted in each process, by the kind of stage
whose files they are; the nth is where the fault happens, once in all processes. Libraries that
write in C go past most of this: `Moment.delay` is for them.
"""

import builtins
import errno
import io
import json
import os
import shutil  # noqa: F401  (it has to look at the functions of os before they are wrapped)
import signal
import sys


def install(
    folder: str, mark: str, kind: str, nth: int, do: str, past: bool, at_the_latest: bool = True
) -> None:
    count = 0
    renamed = False

    def kind_of(path: str) -> str | None:
        """Of the stage that a path belongs to; "tables" for what the run writes of itself."""
        if not path.startswith(folder + os.sep):
            return None
        first, *parts = path.removeprefix(folder + os.sep).split(os.sep)
        return (parts or [None])[0] if first == "store" else "tables"

    def fire(call: str, path: str) -> None:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return
        with plain_open(mark, "w") as file:
            file.write(f"{call} {path}")
        parent = os.getppid() if "spawn_main" in " ".join(sys.orig_argv) else os.getpid()
        if do == "kill worker":
            os.kill(os.getpid(), signal.SIGKILL)
        elif do == "kill run":
            os.kill(parent, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        elif do == "SIGINT":
            os.killpg(0, signal.SIGINT)  # as a terminal does: all processes get it
        elif do == "SIGTERM":
            os.kill(parent, signal.SIGTERM)
        elif do != "mark":
            number = getattr(errno, do)
            raise OSError(number, os.strerror(number), path)

    def event(call: str, path: str) -> None:
        nonlocal count, renamed
        if kind_of(path) != kind:
            return
        count += 1
        last = call == "rename" and (kind == "tables" or os.path.basename(path)[:5] == ".tmp-")
        whole = (last and os.path.isdir(path)) or (kind == "tables" and path.endswith(".md"))
        if do == "note":
            if whole:
                with plain_open(mark, "a") as file:
                    file.write(path + "\n")
        elif past:
            # Tables have no partial folder, which is what is removed then.
            if renamed and (call == "remove" or kind == "tables"):
                fire(call, path)
        elif count >= nth or (whole and at_the_latest):
            fire(call, path)
        renamed = renamed or whole

    def name(path, dir_fd=None) -> str:
        if isinstance(path, int):
            return os.readlink(f"/proc/self/fd/{path}")
        path = os.fsdecode(path)
        return os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path) if dir_fd else path

    def before(module, function: str, call: str) -> None:
        """Make a function of a module that takes a path or a descriptor first an event."""
        plain = getattr(module, function)

        def wrapped(path, *args, **kwargs):
            dir_fd = kwargs.get("dir_fd")
            if kwargs.get("src_dir_fd") is None:
                event(call, os.path.abspath(name(path, dir_fd)))
            return plain(path, *args, **kwargs)

        setattr(module, function, wrapped)

    for function, call in (
        ("write", "write"),
        ("fsync", "fsync"),
        ("rename", "rename"),
        ("replace", "rename"),
        ("mkdir", "mkdir"),
        ("unlink", "remove"),
        ("remove", "remove"),
        ("rmdir", "remove"),
    ):
        before(os, function, call)

    plain_open = io.open

    def watched_open(file, mode="r", *args, **kwargs):
        if not set(mode) & set("wax+") or isinstance(file, int):
            return plain_open(file, mode, *args, **kwargs)
        path = os.path.abspath(os.fsdecode(file))
        event("open", path)
        opened = plain_open(file, mode, *args, **kwargs)
        if kind_of(path) == kind and hasattr(opened, "__dict__"):
            plain_write = opened.write

            def write(data):
                """The fault is inside: half of it is written by then."""
                half = len(data) // 2
                plain_write(data[:half])
                opened.flush()
                event("write", path)
                return half + plain_write(data[half:])

            opened.write = write
        return opened

    builtins.open = io.open = watched_open


if fault := os.environ.get("C3L_FAULT"):
    install(**json.loads(fault))
