"""Progress: what is said, when, and that rates are those of the work."""

import pytest

from realm_jax.progress import BarReporter, PlainReporter, format_rate, format_seconds


class Told:
    """A reporter on a clock that is set by hand, and its lines."""

    def __init__(self, total, **settings):
        self.now, self.lines = 100.0, []
        self._reporter = PlainReporter(
            "job", total, clock=lambda: self.now, write=self.lines.append, **settings
        )

    def at(self, seconds, done, note=""):
        self.now = 100.0 + seconds
        self._reporter.update(done, note)


def test_a_job_done_at_once_has_the_rate_of_the_whole():
    """As `prepare` reports a small file: all but the last kilobyte after a second, the end right behind."""
    told = Told(250, unit="kB")
    told.at(1.0, 249)
    told.at(1.25, 250, "9 blocks")
    assert told.lines == ["job: 250/250 kB, 200 kB/s, 9 blocks"]  # 250 kB in 1.25 s
    told = Told(4)
    told.at(2.0, 4)
    assert told.lines == ["job: 4/4 steps, 2.00 steps/s"]


def test_the_time_left_does_not_count_the_time_before_the_first_report():
    """40 seconds of compilation, then a step a second: 88 steps take 88 seconds."""
    told = Told(100, seconds=10)
    told.at(40, 1)
    told.at(45, 6)  # 5 seconds after the last line
    told.at(51, 12)
    assert told.lines == ["job: 1/100 steps", "job: 12/100 steps, 1.00 steps/s, 1m28s left"]


def test_what_a_resumed_run_had_done_is_not_its_pace():
    told = Told(1000, start=900)
    told.at(20, 901)
    told.at(50, 1000)
    assert told.lines[-1] == "job: 1000/1000 steps, 2.00 steps/s"  # 100 steps in 50 s


def test_work_of_unknown_length():
    told = Told(None, unit="blocks")
    told.at(12, 0)
    told.at(22, 5)
    assert told.lines == ["job: 0 blocks", "job: 5 blocks, 0.500 blocks/s"]


def test_a_bar_shows_the_same_rate(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("realm_jax.progress.time.monotonic", lambda: now[0])
    bar = BarReporter("job", 250, unit="kB", start=50)
    now[0] = 1.0
    bar.update(249)
    now[0] = 2.0
    bar.update(250)
    task = bar._progress.tasks[0]
    assert (task.completed, task.fields["rate"]) == (250, "100 kB/s")


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (254.4, "254"),
        (7.4521, "7.45"),
        (0.01234, "0.0123"),
        (12345.0, "12300"),
        (999.7, "1000"),
        (9.999, "10.0"),
    ],
)
def test_rates_have_three_digits_and_no_exponent(rate, text):
    assert format_rate(rate) == text


def test_durations():
    assert [format_seconds(s) for s in (0.4, 59.9, 200, 7500)] == ["0s", "59s", "3m20s", "2h05m"]
