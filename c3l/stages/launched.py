"""One of the processes that train a stage: `accelerate launch -m c3l.stages.launched FOLDER`.

The folder is that of `c3l.stages.launcher`: it holds the job, then its facts or an error message.
"""

import json
import os
import sys
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil

from c3l.artifacts.files import write_checked
from c3l.artifacts.stage import Job
from c3l.runtime import distributed
from c3l.runtime.errors import UserError, write_error_reason
from c3l.runtime.progress import progress_file
from c3l.stages import launcher, models, training


def main(folder: Path) -> None:
    """Do what the job in the folder says."""
    record = json.loads((folder / launcher.JOB).read_text())
    threading.Thread(target=_die_with, args=(record["parent"],), daemon=True).start()
    inputs = {name: Path(path) for name, path in record["inputs"].items()}
    job = Job(Path(record["out"]), folder, inputs, record["keys"], record["config"], record["seed"])
    main_process = distributed.is_main_process()
    try:
        with (
            distributed.process_group(record["device"]) as device,
            models.model_options(device, record["dtype"]),
        ):
            with progress_file(folder / launcher.PLACE) if main_process else nullcontext():
                facts = getattr(training, record["stage"])(job)
            if main_process:
                write_checked(folder / launcher.FACTS, facts)
            distributed.all_gather_call(lambda: None)
    except Exception as error:
        words = str(error)
        if not isinstance(error, UserError):
            if not (reason := write_error_reason(error)):
                raise
            words = f"{folder.parent} cannot be written ({reason}); make room, then run it again"
        rank = os.environ["RANK"]
        write_checked(folder / launcher.ERROR.format(rank=rank), {"error": words})
        sys.exit(2)


def _die_with(parent: int) -> None:
    """The process that waits may be killed, and would train the same again."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(parent)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
