"""refresh: the worker process of a training run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import arg

from realm_jax.commands.hosts import Hosts, joined
from realm_jax.commands.parsing import OptionalInt, OptionalPath, parse


@dataclass(frozen=True)
class Refresh:
    """Embed a training run's corpus with every snapshot of its parameters, in a process of its own.

    For a run with --refresh.worker process and --refresh.exchange, on this machine, another host or another
    slice. Takes the model from the run; needs the corpus, and a folder or bucket that both can reach.
    Waits for snapshots until it is stopped (Ctrl-C); it may be replaced at any time. On a slice of several
    hosts start it on each of them: each embeds its share, the first builds the index. Without
    --refresh.exchange the run starts this command itself.
    """

    # what the run has as --refresh.exchange: a folder, or gs://... with the package gcsfs installed
    exchange: str
    # the same prepared corpus on this machine (default: where the run's config says)
    corpus: OptionalPath = None
    devices: int = 0  # devices to use, the first ones; 0: all
    # process id of the trainer that started this process; ends with it (default: nobody's)
    parent: OptionalInt = None
    hosts: Annotated[Hosts, arg(name="")] = field(default_factory=Hosts)


def refresh(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `refresh`."""
    options = parse(
        Refresh,
        arguments,
        prog=prog,
        examples="""
        realm_jax refresh --exchange /mnt/shared/realm_exchange
        realm_jax refresh --exchange gs://bucket/realm/exchange --corpus corpora/wiki
        """,
    )
    # An accelerator's own coordinator is that of the trainer, which has started this process.
    hosts = options.hosts if options.parent is None else Hosts(coordinator="none")
    with joined(hosts):
        from realm_jax.hosts.meeting import is_first
        from realm_jax.loop import StopOnSignal
        from realm_jax.runs.refresh_worker import serve_refreshes

        with StopOnSignal() as should_stop:
            built = serve_refreshes(
                options.exchange,
                should_stop=should_stop,
                corpus=options.corpus,
                devices=options.devices,
                parent=options.parent,
            )
        if is_first():
            print(f"{options.exchange}: {built} versions built")
