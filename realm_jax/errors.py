"""Errors that say which rule was broken, what was received, and what to do."""

from functools import partial
from typing import Any


class RealmError(Exception):
    """Report a broken rule.

    Args:
      rule: what must hold, as a sentence without its full stop.
      got: the value received (its repr is shown), or a text that describes it.
      remedy: what the reader can do now.
    """

    def __init__(self, rule: str, *, got: Any, remedy: str):
        self.rule, self.got, self.remedy = rule, got, remedy
        shown = got if isinstance(got, str) else repr(got)
        super().__init__(f"{rule}, but got {shown}. {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Come back from another process as it was raised there."""
        return partial(type(self), self.rule, got=self.got, remedy=self.remedy), ()


class ConfigError(RealmError):
    """A configuration value is unknown, of the wrong type, or contradicts another."""


class CorpusError(RealmError):
    """A corpus, question set or vocabulary on disk is missing, broken or of another make."""


class IndexFault(RealmError):
    """An index is missing, broken, or belongs to another corpus."""


class RecallError(IndexFault):
    """An index finds fewer of the true nearest blocks than its recall floor asks."""


class RefreshError(RealmError):
    """The refresher failed more often than its retries allow."""


class CheckpointError(RealmError):
    """A checkpoint is missing or does not fit what it is restored into."""


class TrainingError(RealmError):
    """Training produced a value that must not be trained on, such as a NaN loss."""


class HostsError(RealmError):
    """The processes of a run were not started together, or one of them was lost."""


class CompilerError(RealmError):
    """The compiler for a device that is not there crashed."""


class MissingExtra(RealmError):
    """An optional package is needed and not installed."""
