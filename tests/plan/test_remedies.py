"""The order in which a step is made smaller; the compiler is a function that is handed in."""

import pytest

import realm_jax.plan.remedies
from realm_jax.plan.compiled import CompiledStep
from realm_jax.plan.remedies import HOPELESS, attempts, remedies, remedy
from realm_jax.plan.tables import verdict_view
from tests.plan.small import small_job

ORDER = [
    "--realm.microbatches 2",
    "--realm.microbatches 2 --realm.rematerialisation matmuls",
    "--realm.microbatches 2 --realm.rematerialisation full",
    *(f"--realm.microbatches 2 --realm.rematerialisation full --mesh.fsdp {size}" for size in (2, 4, 8)),
]


class Counted:
    """Stands for what is counted of a job."""

    def __init__(self, total):
        self.total = total


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    monkeypatch.setattr(realm_jax.plan.remedies, "chip_memory", lambda job: Counted(1))


def tried(job, fits):
    made = attempts(job, lambda job: CompiledStep(fits=fits(job), needed=1))
    return list(made)


def test_microbatches_then_rematerialisation_then_fsdp():
    job = small_job()  # 16 rows on 8 chips: two microbatches at most
    assert [remedy(job, changed) for changed in remedies(job)] == ORDER


def test_it_stops_at_the_first_that_fits():
    job = small_job()
    assert len(tried(job, lambda job: True)) == 1
    found = tried(job, lambda job: job.settings.rematerialisation == "matmuls")
    assert [remedy(job, one.job) for one in found] == ["", *ORDER[:2]]
    assert verdict_view(found).plain == f"fits with {ORDER[1]}"


def test_what_nothing_makes_fit_is_said():
    found = tried(small_job(), lambda job: False)
    assert [remedy(found[0].job, one.job) for one in found] == ["", *ORDER]
    assert "does not fit" in verdict_view(found).plain


def test_what_is_counted_as_hopeless_is_not_compiled(monkeypatch):
    job, asked = small_job(), []
    limit = HOPELESS * job.topology.chip.memory
    monkeypatch.setattr(
        realm_jax.plan.remedies,
        "chip_memory",
        lambda job: Counted(limit + (job.settings.rematerialisation != "full")),
    )

    def compile_step(job):
        asked.append(job.settings.rematerialisation)
        return CompiledStep(fits=len(asked) == 2, needed=1)

    found = list(attempts(job, compile_step))
    assert asked == ["none", "full"]  # the first is what was asked for
    assert [one.compiled is None for one in found] == [False, True, True, False]
