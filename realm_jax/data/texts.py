"""The texts of sources, for training a vocabulary. No jax: the commands for texts import this."""

from collections.abc import Iterator, Sequence

from realm_jax.data.records import BadRecord, Document, Fields, parse_document
from realm_jax.data.sources import Source


class Texts:
    """Titles and texts of some sources, as often as they are gone through; `documents` counts the last time.

    Args:
      sources: where they come from.
      fields: names of the fields of a record.
      strict: raise at the first bad record; otherwise bad ones are passed over.
    """

    def __init__(self, sources: Sequence[Source], fields: Fields, *, strict: bool = False):
        self._sources, self._fields, self._strict = sources, fields, strict
        self.documents = 0

    def __iter__(self) -> Iterator[str]:
        self.documents = 0
        for source in self._sources:
            for raw in source.records():
                document = parse_document(raw, self._fields)
                if isinstance(document, Document):
                    self.documents += 1
                    yield document.title
                    yield document.text
                elif self._strict and isinstance(document, BadRecord):
                    raise document.error()
