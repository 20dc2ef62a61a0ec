"""What happens to a text before it is cut into wordpieces, as the public files beside a vocabulary say it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import normalizers

SETTINGS, TOKENIZER = "tokenizer_config.json", "tokenizer.json"  # as the public layout names them


class Normalisation(NamedTuple):
    """BERT's normalisation; by default that of the uncased models."""

    lowercase: bool = True
    strip_accents: bool | None = None  # None: where texts are lower-cased
    split_ideographs: bool = True  # each of Chinese, Japanese and Korean is a word

    def normalizer(self) -> normalizers.BertNormalizer:
        """Build the tokenizer library's normaliser."""
        accents = self.lowercase if self.strip_accents is None else self.strip_accents
        return normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=self.split_ideographs,
            strip_accents=accents,
            lowercase=self.lowercase,
        )

    def settings(self) -> dict[str, bool | None]:
        """Return the content of a `tokenizer_config.json`."""
        return {public: getattr(self, own) for public, own in _IN_SETTINGS.items()}


UNCASED = Normalisation()
_IN_SETTINGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "split_ideographs",
}
_IN_TOKENIZER = {
    "lowercase": "lowercase",
    "strip_accents": "strip_accents",
    "handle_chinese_chars": "split_ideographs",
}


def read_normalisation(folder: str | Path) -> Normalisation:
    """Read how texts are normalised for the vocabulary of a folder.

    `tokenizer_config.json` has the last word, `tokenizer.json` the one before it; what neither says is as for
    uncased models.

    Args:
      folder: of a model, a corpus or a run.

    Raises:
      ValueError: a file is no JSON object, or a setting is neither true nor false.
    """
    found = UNCASED
    normalizer = _read(Path(folder) / TOKENIZER).get("normalizer")
    if isinstance(normalizer, dict) and normalizer.get("type") == "BertNormalizer":
        found = _replace(found, normalizer, _IN_TOKENIZER)
    found = _replace(found, _read(Path(folder) / SETTINGS), _IN_SETTINGS)
    # One way to say one thing, as the hash of a vocabulary depends on it.
    return found._replace(strip_accents=None) if found.strip_accents == found.lowercase else found


def write_normalisation(folder: str | Path, normalisation: Normalisation) -> None:
    """Write `tokenizer_config.json` into a folder."""
    text = json.dumps(normalisation.settings(), indent=1) + "\n"
    (Path(folder) / SETTINGS).write_text(text, encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_bytes().decode("utf-8-sig"))
    if not isinstance(content, dict):
        raise ValueError(f"no JSON object in {path.name}")
    return content


def _replace(old: Normalisation, said: dict[str, Any], names: dict[str, str]) -> Normalisation:
    given = {own: said[public] for public, own in names.items() if said.get(public) is not None}
    wrong = [name for name, value in given.items() if not isinstance(value, bool)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} neither true nor false")
    return old._replace(**given)
