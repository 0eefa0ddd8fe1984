"""Names of images that lead elsewhere, nowhere, or to what is no image.

The folder holds a.png, deep/a.png, folder.png/ (a folder), pipe.png (a named pipe) and link, which
its owner made and which leads to a folder elsewhere; beside the folder lies secret.png, and beside
where the link leads as well.
"""

import random
from collections.abc import Iterator

from tests.faults.corpus.generate import Case

OUTSIDE, MISSING, UNREADABLE = ("image_outside", "image_missing", "image_unreadable")

NAMES = {
    "a.png": "accepted",
    "deep/a.png": "accepted",
    "./a.png": "accepted",
    "deep/../a.png": "accepted",
    "deep//a.png": "accepted",
    "link/a.png": "accepted",
    "../secret.png": OUTSIDE,
    "../../secret.png": OUTSIDE,
    "./../secret.png": OUTSIDE,
    "deep/../../secret.png": OUTSIDE,
    "deep/../../../../../../etc/passwd": OUTSIDE,
    "..": OUTSIDE,
    "../": OUTSIDE,
    "/etc/passwd": OUTSIDE,
    "//etc/passwd": OUTSIDE,
    "/": OUTSIDE,
    "link/../secret.png": MISSING,
    "link/../../secret.png": OUTSIDE,
    "..\\secret.png": MISSING,
    "..\\..\\secret.png": MISSING,
    "C:\\secret.png": MISSING,
    "\\\\server\\share\\a.png": MISSING,
    "file:///etc/passwd": MISSING,
    "http://127.0.0.1/a.png": MISSING,
    "%2e%2e/secret.png": MISSING,
    "~/a.png": MISSING,
    "$HOME/a.png": MISSING,
    "\uff0e\uff0e/secret.png": MISSING,
    "a.png ": MISSING,
    "A.PNG\n": MISSING,
    "\x1b[2J.png": MISSING,
    "": UNREADABLE,
    ".": UNREADABLE,
    "deep": UNREADABLE,
    "folder.png": UNREADABLE,
    "pipe.png": UNREADABLE,
    "a.png/": "accepted",
    "a.png/b.png": UNREADABLE,
    "nul\0.png": UNREADABLE,
    "a.png\0.txt": UNREADABLE,
    "x" * 300 + ".png": UNREADABLE,
    "x/" * 3000 + "a.png": UNREADABLE,
}


def cases(rng: random.Random) -> Iterator[Case]:
    for number, (name, fate) in enumerate(NAMES.items()):
        said = name if len(name) < 60 else f"{name[:20]}… of {len(name)} letters"
        fate = fate if fate == "accepted" else f"set aside: {fate}"
        yield Case("image path", f"{number}: {said!r}", name.encode(), fate)
