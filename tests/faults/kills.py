"""One run through many moments: stopped, looked at, started again, compared in the end."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults import world
from tests.faults.moments import Moment
from tests.faults.running import Running, contents, damaged, leftovers, made, what_lasts

STOPPED = {"SIGINT": 130, "SIGTERM": 130, "kill worker": 2}


class Trial:
    """Runs of one profile beside an undisturbed one of it, in the folder `undisturbed`."""

    def __init__(self, profile: Path, undisturbed: Path, folder: Path, record: Callable):
        self.profile, self.undisturbed = profile, undisturbed
        self.folder, self.record = folder, record
        self.hit: Counter[tuple[str, str]] = Counter()
        """How often files of a kind of stage were hit in a kind of call."""

    def go(self, moments: list[Moment]) -> None:
        """Every moment happens. A run that ends before its moment came is compared, and the
        moment belongs to the next one."""
        left, number = list(moments), 0
        while left:
            runs = self.folder / f"{number}" / "runs"
            runs.parent.mkdir(parents=True)
            while left and self._happens(left[0], runs):
                left.pop(0)
            self._ends(runs)
            number += 1
            assert number <= len(moments), f"{left[0]} does not happen"

    def _happens(self, moment: Moment, runs: Path) -> bool:
        """Run until the moment or, without one, to the end; whether it came."""
        mark, before = runs.with_name("mark"), made(runs)
        mark.unlink(missing_ok=True)
        command = world.options(self.profile, runs, moment.jobs)
        env, started = moment.environment(runs, mark), time.monotonic()
        with Running(command, runs.with_name("said"), env) as run:
            if not run.happens(mark):
                assert run.process.returncode == 0, run.said.read_text()
                return False
            with self.record(self._area(moment), self._name(moment), since=started):
                self._stops(run, moment)
                self._is_sound(runs, before, run.said.read_text())
        call = mark.read_text().split()[0] if moment.delay is None else "from outside"
        self.hit[moment.kind, call] += 1
        return True

    def _stops(self, run: Running, moment: Moment) -> None:
        if moment.delay is not None:
            time.sleep(moment.delay)
            run.process.kill()  # it alone: its workers have to notice
        started = time.monotonic()
        code = run.process.wait(timeout=300)
        if moment.do in ("SIGINT", "SIGTERM"):
            assert time.monotonic() - started < 5
        assert run.all_dead(seconds=10)
        said = run.said.read_text()
        if moment.do == "kill run":
            assert code == -signal.SIGKILL
        elif expected := STOPPED.get(moment.do):
            assert code == expected, said
            assert "run the same command again" in said
        else:  # a log that cannot be written costs nothing
            assert code in (0, 2), said
            assert (code == 0) != ("cannot be written" in said), said

    def _is_sound(self, runs: Path, before: dict, said: str) -> None:
        """Nothing that was finished is gone, made again or half there."""
        assert "Traceback" not in said
        assert before.items() <= made(runs).items()
        assert not damaged(runs)

    def _ends(self, runs: Path) -> None:
        """The run goes on to its end, and that is the end of the undisturbed one."""
        before = made(runs)
        with Running(world.options(self.profile, runs), runs.with_name("said")) as run:
            assert run.process.wait(timeout=1200) == 0, run.said.read_text()
        assert before.items() <= made(runs).items()
        assert not leftovers(runs)
        assert contents(runs) == contents(self.undisturbed)
        assert what_lasts(runs) == what_lasts(self.undisturbed)

    @staticmethod
    def _area(moment: Moment) -> str:
        return "stop" if moment.do.startswith("SIG") else "kill" if "kill" in moment.do else "disk"

    @staticmethod
    def _name(moment: Moment) -> str:
        where = f"files of {moment.kind}"
        if moment.do.startswith("SIG"):
            return f"{moment.do} while {where} are written"
        if "kill" not in moment.do:
            return f"a call that fails with {moment.do} on {where}"
        if moment.delay is not None:
            return f"SIGKILL from outside, {where} being written"
        who = "the run" if moment.do == "kill run" else "a worker"
        return f"SIGKILL of {who}, inside a call on {where}"
