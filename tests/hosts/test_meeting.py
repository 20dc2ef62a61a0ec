"""Processes that meet: what one brings all get, what fails on one fails on all. Each process is a thread."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax
import pytest

from realm_jax.errors import HostsError, IndexFault
from realm_jax.hosts import meeting as module
from realm_jax.hosts.meeting import Meeting, agree, is_first

PROCESSES = 3


class Service:
    """The coordination service, in memory."""

    def __init__(self):
        self.kept, self._told = {}, threading.Condition()

    def key_value_set(self, key, value):
        with self._told:
            assert key not in self.kept, "a key is used once"
            self.kept[key] = value
            self._told.notify_all()

    def blocking_key_value_get(self, key, milliseconds):
        with self._told:
            assert self._told.wait_for(lambda: key in self.kept, timeout=min(60, milliseconds / 1000))
            return self.kept[key]

    def key_value_delete(self, key):
        with self._told:
            del self.kept[key]


@pytest.fixture
def service(monkeypatch):
    made, here = Service(), threading.local()
    monkeypatch.setattr(module, "global_state", SimpleNamespace(client=made))
    monkeypatch.setattr(jax, "process_count", lambda: PROCESSES)
    monkeypatch.setattr(jax, "process_index", lambda: here.number)
    made.here = here
    return made


def together(service, work):
    """Run `work(process)` on every process; return the futures."""

    def run(process):
        service.here.number = process
        return work(process)

    with ThreadPoolExecutor(PROCESSES) as threads:
        return [threads.submit(run, process) for process in range(PROCESSES)]


def test_all_get_what_each_has_brought_and_little_is_kept(service):
    def work(process):
        meeting = Meeting("index")
        return [meeting.exchange({"from": process, "round": number}) for number in range(4)]

    for done in together(service, work):
        assert done.result() == [
            [{"from": process, "round": number} for process in range(PROCESSES)] for number in range(4)
        ]
    assert len(service.kept) == PROCESSES  # of the last round


@pytest.mark.parametrize(
    ("raised", "others"),
    [(OSError("disk full"), HostsError), (IndexFault("a", got="b", remedy="c"), IndexFault)],
)
def test_what_fails_on_one_process_fails_on_all_and_can_be_tried_again(service, raised, others):
    def work(process):
        meeting = Meeting("index")

        def part():
            if process == 1:
                raise raised
            return process

        with pytest.raises(type(raised) if process == 1 else others) as seen:
            meeting.each(part)
        return str(seen.value), meeting.each(lambda: process)

    for process, done in enumerate(together(service, work)):
        text, again = done.result()
        assert again == list(range(PROCESSES))
        if process != 1:
            assert "on process 1" in text and str(raised) in text


def test_one_process_does_its_part_and_agrees_with_itself():
    def fail():
        raise OSError("disk full")

    alone = Meeting("index")
    assert alone.exchange(3) == [3] and alone.each(lambda: 4) == [4]
    with pytest.raises(OSError, match="disk full"):
        alone.each(fail)
    assert is_first() and agree(True) and not agree(False)
