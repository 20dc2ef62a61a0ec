"""Workers: one job at a time, failures carried whole, an end within bounds. No test sleeps: events decide."""

import threading
import traceback

import pytest

from realm_jax.errors import RefreshError
from realm_jax.refresh.workers import WORKERS, DeferredWorker, InlineWorker, ThreadWorker

WAIT = 10.0  # seconds; only a broken worker ever waits this long


@pytest.fixture(params=[*WORKERS.values(), DeferredWorker])
def worker(request):
    worker = request.param()
    yield worker
    worker.close()


def test_the_result_comes_back(worker):
    assert worker.submit(lambda should_stop: 3).result(WAIT) == 3
    assert worker.submit(lambda should_stop: "again").result(WAIT) == "again"


def test_a_failure_keeps_its_traceback(worker):
    def embed_the_seventh_block(should_stop):
        raise ValueError("seventh")

    error = worker.submit(embed_the_seventh_block).exception(WAIT)
    assert isinstance(error, ValueError)
    assert "embed_the_seventh_block" in "".join(traceback.format_exception(error))


def test_a_worker_works_on_after_a_failure(worker):
    worker.submit(lambda should_stop: 1 / 0).exception(WAIT)
    assert worker.submit(lambda should_stop: 3).result(WAIT) == 3


def test_nobody_asks_a_job_to_stop_before_the_end(worker):
    assert worker.submit(lambda should_stop: should_stop()).result(WAIT) is False


def test_a_closed_worker_takes_no_job(worker):
    worker.close()
    worker.close()
    with pytest.raises(RefreshError, match="closed worker"):
        worker.submit(lambda should_stop: 3)


def test_inline_runs_in_the_caller_and_thread_does_not():
    def where(should_stop):
        return threading.current_thread().name

    assert InlineWorker().submit(where).result() == threading.current_thread().name
    assert ThreadWorker().submit(where).result(WAIT) == "refresher"


def test_a_deferred_job_is_run_once_when_its_result_is_asked_for():
    seen = []
    worker = DeferredWorker()
    future = worker.submit(lambda should_stop: seen.append(threading.current_thread().name) or len(seen))
    assert seen == [] and not future.done()
    with pytest.raises(RefreshError, match="a second job"):
        worker.submit(lambda should_stop: 3)
    assert future.result() == future.result() == 1
    assert seen == [threading.current_thread().name]


def test_an_interrupt_goes_through_an_inline_worker():
    def interrupted(should_stop):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InlineWorker().submit(interrupted)


def test_an_exit_on_the_thread_is_carried_over():
    """Otherwise the future would never be done, and a trainer under at_lag would wait for ever."""

    def leaves(should_stop):
        raise SystemExit(3)

    assert isinstance(ThreadWorker().submit(leaves).exception(WAIT), SystemExit)


def test_submit_returns_while_the_job_runs_and_a_second_job_is_refused():
    worker, gate = ThreadWorker(), threading.Event()
    first = worker.submit(lambda should_stop: gate.wait(WAIT))
    assert not first.done()
    with pytest.raises(RefreshError, match="a second job"):
        worker.submit(lambda should_stop: None)
    gate.set()
    assert first.result(WAIT) is True
    assert worker.submit(lambda should_stop: 3).result(WAIT) == 3


def test_close_asks_the_job_to_stop_and_waits_for_it():
    worker, started = ThreadWorker(join_seconds=WAIT), threading.Event()

    def until_asked(should_stop):
        started.set()
        turns = threading.Event()
        while not should_stop():
            turns.wait(0.001)  # lets the other thread run
        return "ended"

    future = worker.submit(until_asked)
    assert started.wait(WAIT)
    worker.close()
    assert future.done() and future.result() == "ended"
    assert not any(thread.name == "refresher" for thread in threading.enumerate())


def test_close_does_not_wait_for_ever_for_a_job_that_hangs():
    worker, gate = ThreadWorker(join_seconds=0.0), threading.Event()
    future = worker.submit(lambda should_stop: gate.wait(WAIT))
    worker.close()
    assert not future.done()
    gate.set()
    assert future.result(WAIT) is True


def test_a_hanging_job_does_not_keep_the_process_alive():
    worker, gate = ThreadWorker(join_seconds=0.0), threading.Event()
    future = worker.submit(lambda should_stop: (threading.current_thread().daemon, gate.wait(WAIT))[0])
    gate.set()
    assert future.result(WAIT) is True
