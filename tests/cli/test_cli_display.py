"""What a search shows: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from nasneck.cli.display import Display
from nasneck.cli.words import count, duration, percent, rate
from nasneck.runner.tally import Tally
from nasneck.trial import Measurement, State, Trial


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen:
    """A display on a terminal, or on a pipe, of a search whose trials a test starts and ends."""

    def __init__(self, *, terminal: bool = True, width: int = 100, budget: int = 20, kind: str = "xterm") -> None:
        self.clock = Clock()
        self.file = io.StringIO()
        self.console = Console(
            file=self.file,
            force_terminal=terminal,
            width=width,
            height=40,
            color_system=None,
            highlight=False,
            soft_wrap=True,
            _environ={"TERM": kind},
        )
        self.display = Display(self.console, clock=self.clock)
        self.tally = Tally([], budget=budget, clock=self.clock)

    def start(self, number: int) -> None:
        self.display.trial(self.tally.progress(Trial(number, (0,), "g")))

    def end(self, number: int, state: State = State.OK, reward: float | None = None, *, text: str = "") -> None:
        measured = Measurement(
            state, reward, parameters=460_000, macs=107_000_000, latency_ms=7.12, seconds=31.4, text=text
        )
        trial = Trial(number, (0,), "g", state, measurement=measured, values=() if reward is None else (reward,))
        self.tally.add(trial, seconds=30.0)
        self.display.trial(self.tally.progress(trial))

    def picture(self) -> list[str]:
        """What stands on the terminal at this moment, without blanks at the end of lines."""
        with self.console.capture() as capture:
            self.console.print(self.display._live.get_renderable())
        return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capture.get()).splitlines()]

    def fact(self, label: str) -> str:
        found = re.search(rf"{re.escape(label)} +(.*?)(?:   |$)", "\n".join(self.picture()), re.MULTILINE)
        assert found is not None, self.picture()
        return found[1]


def test_table_on_a_terminal() -> None:
    screen = Screen()
    with screen.display:
        for number in range(4):
            screen.start(number)
        screen.clock.now = 30.0
        screen.end(0, reward=0.25)
        screen.end(1, State.OOM, text="CUDA out of memory")
        screen.start(4)
        screen.end(4, State.CACHED, 0.25, text="equal to trial 0")
        screen.start(5)
        screen.end(5, State.REJECTED, text="9 ms are more than 5")
        screen.end(2, State.PRUNED)
        screen.clock.now = 60.0
        labels = ("best reward", "finished", "running", "failed", "rejected", "pruned", "cached", "candidates/hour")
        assert [screen.fact(label) for label in labels] == ["0.2500, trial 0", "3 of 20", *"11111", "360"]
        # 30 s a trial, 17 to come, and half a minute has gone by since the last event
        assert (screen.fact("time left"), screen.fact("elapsed")) == ("8 min", "60 s")
        assert screen.picture()[-7:] == [
            "trial  state     reward  params   MACs  latency  time",
            "    3  running        -       -      -        -  60 s",
            "    2  pruned         -   460 k  107 M   7.1 ms  31 s",
            "    5  rejected       -   460 k  107 M   7.1 ms  31 s  9 ms are more than 5",
            "    4  cached    0.2500   460 k  107 M   7.1 ms  31 s  equal to trial 0",
            "    1  oom            -   460 k  107 M   7.1 ms  31 s  CUDA out of memory",
            "    0  ok        0.2500   460 k  107 M   7.1 ms  31 s",
        ]
        screen.end(3, reward=0.125)
        lines = screen.picture()[-6:]
    assert [line.split()[0] for line in lines] == ["trial", "3", "2", "5", "4", "1"], "the oldest has gone"


def test_clocks_go_on_between_events() -> None:
    screen = Screen(budget=3)
    with screen.display:
        screen.start(0)
        screen.clock.now = 30.0
        screen.end(0, reward=0.1)
        screen.start(1)
        seen = []
        for now in (30.0, 50.0, 500.0):
            screen.clock.now = now
            seen.append((screen.fact("time left"), screen.fact("elapsed"), screen.picture()[-2].split()[-2]))
    assert seen == [("60 s", "30 s", "0"), ("40 s", "50 s", "20"), ("0 s", "8 min", "8")]


def test_many_workers_leave_room_for_results() -> None:
    screen = Screen()
    with screen.display:
        for number in range(40):
            screen.start(number)
        screen.clock.now = 9.0
        for number in range(10):
            screen.end(number, reward=0.1)
        lines = screen.picture()
        assert screen.fact("running") == "30"
    assert len(lines) <= 22
    assert [line.split()[0] for line in lines if " running  " in line and "failed" not in line][:8] == [
        *map(str, range(10, 18))
    ]
    assert any(re.fullmatch(r" +running .* and 22 more", line) for line in lines)
    assert [line.split()[0] for line in lines[-5:]] == ["9", "8", "7", "6", "5"]


@pytest.mark.parametrize("width", [60, 100, 200])
def test_a_long_reason_is_cut_and_nothing_else_is(width: int) -> None:
    screen = Screen(width=width)
    with screen.display:
        screen.start(0)
        screen.end(0, State.ERROR, text="[red]RuntimeError[/red]: " + "a very long text " * 30)
        lines = screen.picture()
    assert all(len(line) <= width for line in lines)
    assert re.match(r" +0  error +-   460 k  107 M   7.1 ms  31 s  \[", lines[-1]), "and it is no markup"


def test_the_last_state_stays_once() -> None:
    screen = Screen()
    with screen.display:
        screen.start(0)
        screen.end(0, reward=0.5)
        screen.start(1)
        screen.display.finish()
    after = screen.file.getvalue().rpartition("\x1b[?25h")[2]  # the cursor is back: nothing is live any more
    assert after.count("best reward   0.5000, trial 0") == 1
    assert re.search(r"running +0 ", after) and " 1  running" not in after, "interrupted or not, nothing runs any more"


def test_notes_stay_above_the_table() -> None:
    screen = Screen()
    with screen.display:
        screen.display.prepare("views of train", 1, 2)
        assert screen.picture() == ["views of train: 50 %"]
        screen.start(0)
        screen.display.warn("something [to] know")
    assert "note: something [to] know\n" in screen.file.getvalue()


@pytest.mark.parametrize("place", ["pipe", "dumb terminal"])
def test_lines_elsewhere(place: str) -> None:
    screen = Screen(terminal=place == "dumb terminal", kind="dumb")
    with screen.display:
        screen.start(0)
        screen.clock.now = 30.0
        screen.end(0, reward=0.25)
        screen.start(1)
        screen.end(1, State.CACHED, 0.25, text="equal to trial 0")
        screen.start(2)
        screen.clock.now = 60.0
        screen.end(2, State.OOM, text="CUDA out of [memory]")
        screen.start(3)
        screen.end(3, State.REJECTED, text="9 ms are more than 5")
    assert screen.file.getvalue().splitlines() == [
        "trial   0  reward 0.2500  best 0.2500  1/20 done  10 min left  120 per hour",
        "trial   1  reward 0.2500 (measured before)  best 0.2500  1/20 done  10 min left  120 per hour  1 cached",
        "trial   2  oom: CUDA out of [memory]  best 0.2500  2/20 done  9 min left  120 per hour  1 cached, 1 failed",
        "trial   3  rejected: 9 ms are more than 5  best 0.2500  2/20 done  9 min left  120 per hour"
        "  1 cached, 1 failed, 1 rejected",
    ]


def test_line_before_anything_is_known() -> None:
    screen = Screen(terminal=False)
    with screen.display:
        screen.start(0)
        screen.end(0, State.REJECTED, text="too large")
    assert screen.file.getvalue() == (
        "trial   0  rejected: too large  best -  0/20 done  time left unknown  1 rejected\n"
    )


def test_words() -> None:
    assert [duration(s) for s in (0.4, 89, 90, 5399, 5400, 172799, 172800)] == [
        "0 s",
        "89 s",
        "2 min",
        "90 min",
        "1.5 h",
        "48.0 h",
        "2.0 days",
    ]
    assert [count(n) for n in (None, 7, 999, 1000, 460_000, 29_900_000, 999_600_000, 1.23e9)] == [
        "-",
        "7",
        "999",
        "1 k",
        "460 k",
        "29.9 M",
        "1 G",
        "1.23 G",
    ]
    assert [rate(r) for r in (None, 0.25, 9.96, 12.4, 10000.0)] == ["-", "0.2", "10.0", "12", "10000"]
    assert [percent(ap) for ap in (None, -1.0, 0.0, 0.4321)] == ["-", "-", "0.0", "43.2"]
