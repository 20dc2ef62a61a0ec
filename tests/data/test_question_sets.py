"""Question sets by their TFDS name: datasets of TFDS itself, written with a few questions of our own."""

import json
import subprocess
import sys

import pytest

from realm_jax.data.questions import Question, Questions, parse_question
from realm_jax.data.records import BadRecord, RawRecord
from realm_jax.errors import ConfigError, CorpusError

# TFDS's own builders, so that names and features are theirs; only the download is left out.
WRITE_TFDS = """
import sys
import tensorflow_datasets as tfds
import tensorflow_datasets.question_answering.web_questions  # registers it

EXAMPLES = {
    "natural_questions_open": [
        {"question": "who found radium", "answer": ["Marie Curie", "Curie"]},
        {"question": "where is the caf\u00e9", "answer": ["Paris"]},
    ],
    "web_questions": [
        {"url": "u", "question": "what is the capital of peru?", "answers": ["Lima"]},
        {"url": "u", "question": "who knows?", "answers": []},
    ],
}
for name, rows in EXAMPLES.items():
    kind = tfds.builder_cls(name)
    kind._split_generators = lambda self, download: {"validation": self._generate_examples()}
    kind._generate_examples = lambda self, rows=rows: enumerate(rows)
    kind(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    pytest.importorskip("tensorflow_datasets", reason="the package tensorflow-datasets is not installed")
    folder = tmp_path_factory.mktemp("tfds")
    done = subprocess.run([sys.executable, "-c", WRITE_TFDS, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def look_in(folder, monkeypatch):
    """Have TFDS look there, as TFDS_DATA_DIR does, which it reads when it is first imported."""
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(folder))


@pytest.fixture
def tfds_folder(written, monkeypatch):
    look_in(written, monkeypatch)


@pytest.mark.usefixtures("tfds_folder")
def test_the_answers_of_natural_questions_open_are_in_a_field_of_another_name():
    name = "tfds:natural_questions_open:validation"
    asked = Questions.load(name)
    assert asked.bad_counts == {}
    # TFDS shuffles what it writes; a question without an id is named by its place.
    assert {question._replace(id="") for question in asked} == {
        Question("", "who found radium", ("Marie Curie", "Curie")),
        Question("", "where is the caf\u00e9", ("Paris",)),
    }
    assert [question.id for question in asked] == [f"{name}:1", f"{name}:2"]


@pytest.mark.usefixtures("tfds_folder")
def test_a_question_of_web_questions_without_answers_is_left_out():
    asked = Questions.load("tfds:web_questions:validation")
    assert [(question.question, question.answers) for question in asked] == [
        ("what is the capital of peru?", ("Lima",))
    ]
    assert asked.bad_counts == {"empty_text": 1}


@pytest.mark.usefixtures("tfds_folder")
def test_names_that_are_not_there():
    with pytest.raises(ConfigError, match="split"):
        Questions.load("tfds:web_questions")
    with pytest.raises(CorpusError, match="tfds:web_questions:test"):
        Questions.load("tfds:web_questions:test")


def test_a_set_that_is_not_on_the_disk_is_not_downloaded(written, tmp_path, monkeypatch):
    del written  # the name is one that TFDS knows, elsewhere
    look_in(tmp_path, monkeypatch)
    with pytest.raises(CorpusError, match="validation.*array_record"):
        Questions.load("tfds:natural_questions_open:validation")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"answer": {"aliases": [b"Lima", b"Ciudad"], "value": b"Lima"}, "question_id": b"tc_1"}, "tc_1"),
        ({"answers": {"text": ["Lima", "Ciudad"], "answer_start": [3, 9]}, "id": b"squad"}, "squad"),
    ],
)
def test_answers_in_a_table_of_their_own(record, expected):
    found = parse_question(RawRecord("f", 1, {"question": b"capital?", **record}, 0.0))
    assert found == Question(expected, "capital?", ("Lima", "Ciudad"))


def test_answers_that_are_no_text():
    found = parse_question(RawRecord("f", 1, {"question": "?", "answers": [b"\xff"]}, 0.0))
    assert isinstance(found, BadRecord) and found.reason == "invalid_utf8"


def test_a_set_is_the_same_wherever_it_lies(tmp_path):
    """A question without an id is given one that names its file."""
    for place, answer in (("here", "a"), ("there", "a"), ("other", "b")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "q.jsonl").write_text(json.dumps({"question": "who?", "answers": [answer]}))
    here, there, other = (Questions.load(tmp_path / p / "q.jsonl") for p in ("here", "there", "other"))
    assert here.content_hash == there.content_hash != other.content_hash and here[0].id != there[0].id
