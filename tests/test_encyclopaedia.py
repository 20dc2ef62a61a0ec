"""The quickstart corpus: sound tables, many wordings, and held-out facts told by the encyclopaedia alone."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from experiments.encyclopaedia import build as encyclopaedia
from experiments.encyclopaedia.build import Entity, Fact, build, read_category

TABLES = sorted(encyclopaedia.HERE.glob("*.tsv"))
USES = ("encyclopaedia", "pretraining", "questions")
FILES = ("encyclopaedia", "pretraining", "questions_train", "questions_heldout", "heldout_sentences")
Records = dict[str, list[dict]]


@pytest.fixture(scope="module")
def entities() -> list[Entity]:
    return [entity for table in TABLES for entity in read_category(table)]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    out = tmp_path_factory.mktemp("encyclopaedia")
    counts = build(out)
    read = {name: [json.loads(line) for line in lines(out / f"{name}.jsonl")] for name in FILES}
    assert counts == {name: len(found) for name, found in read.items()}
    return read


@pytest.fixture(scope="module")
def held_out(entities: list[Entity], records: Records) -> list[Fact]:
    by_name = {(fact.title, fact.relation): fact for entity in entities for fact in entity.facts}
    return [by_name[q["gold_passage_ids"][0], q["source"]] for q in records["questions_heldout"]]


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def words(text: str) -> str:
    """Return the words of a text, lower-cased, a space around each."""
    return " ".join(["", *re.findall(r"\w+", text.casefold()), ""])


def test_there_are_enough_articles_of_several_facts(entities, records):
    assert len(records["encyclopaedia"]) == len(entities) >= 600
    assert len(TABLES) >= 10
    titles = Counter(entity.title for entity in entities)
    assert [title for title, count in titles.items() if count > 1] == []
    assert min(len(entity.facts) for entity in entities) >= 2
    assert sum(len(entity.facts) for entity in entities) / len(entities) >= 3


def test_the_quickstart_takes_at_least_600_articles(tmp_path):
    script = (encyclopaedia.HERE.parent / "quickstart_data.sh").read_text(encoding="utf-8")
    call = script.replace("\\\n", " ").split("encyclopaedia/build.py", 1)[1].splitlines()[0]
    names, without = (
        re.search(rf"--{option} ([\w ]+?)(?= --|$)", call)[1].split() for option in ("categories", "without")
    )
    assert build(tmp_path, names=names, without=without)["encyclopaedia"] >= 600


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_a_table_is_clean(table):
    header, *rows = (line.split("\t") for line in lines(table))
    assert header[0] == "title"
    for row in rows:
        assert len(row) == len(header), row
        assert row[0]
        for cell in row:
            answers = cell.split("|")
            assert all(answer == answer.strip() for answer in answers), row
            assert len(set(answers)) == len(answers), row
            assert cell == "" or all(answers), row


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_every_use_has_wordings_of_its_own(table):
    for entity in read_category(table)[:1]:
        for fact in entity.facts:
            sets = [set(fact.wordings[use]) for use in USES]
            for use, wordings in zip(USES, sets, strict=True):
                assert len(fact.wordings[use]) == len(wordings) >= 5, f"{fact.relation}: {use}"
            assert not sets[0] & sets[1], f"{fact.relation}: pre-training repeats the encyclopaedia"
            # A first sentence names its entity.
            assert any("{name}" in wording for wording in sets[0])


def test_an_article_tells_each_of_its_facts_and_nothing_is_left_to_fill_in(entities, records):
    texts = {record["title"]: record["text"] for record in records["encyclopaedia"]}
    for entity in entities:
        # The first letter of a sentence is capital.
        text = texts[entity.title].casefold()
        assert all(fact.value.casefold() in text for fact in entity.facts), entity.title
        assert any(fact.name.casefold() in text for fact in entity.facts), entity.title
    for name in FILES:
        for record in records[name]:
            assert not re.search(r"[{}|]", record.get("text", "") + record.get("question", "")), record


def test_held_out_facts_are_about_a_fifth_and_none_of_them_is_taught(entities, records, held_out):
    asked = {(q["gold_passage_ids"][0], q["source"]) for q in records["questions_train"]}
    kept = {(fact.title, fact.relation) for fact in held_out}
    every = {(fact.title, fact.relation) for entity in entities for fact in entity.facts}
    assert asked | kept <= every and not asked & kept
    # What is neither are held-out facts at which a text about another entity hints.
    assert len(asked | kept) > 0.99 * len(every)
    assert 0.15 < len(kept) / len(every) < 0.25
    assert len(records["heldout_sentences"]) == len(kept) == len(held_out)
    # Two facts of an entity at least are taught, so its name is known from the pre-training text.
    assert min(Counter(title for title, _ in asked).values()) >= 2


def test_no_text_to_learn_from_is_a_sentence_about_a_held_out_fact(records, held_out):
    told = {text for record in records["pretraining"] for text in sentences(record["text"])}
    asked = {record["question"] for record in records["questions_train"]}
    for fact in held_out:
        rendered = {encyclopaedia.render(w, fact) for w in fact.wordings["pretraining"]}
        assert not rendered & told
        assert not {encyclopaedia.render(w, fact) for w in fact.wordings["questions"]} & asked


def test_name_and_value_of_a_held_out_fact_hardly_ever_meet_in_what_is_learned_from(records, held_out):
    learned = [words(s) for record in records["pretraining"] for s in sentences(record["text"])]
    learned += [words(f"{q['question']} ; {' ; '.join(q['answers'])}") for q in records["questions_train"]]
    hinted = []
    for fact in held_out:
        name, value = words(fact.name), words(fact.value)
        if name in value or value in name:  # Mexico City tells its country wherever it is named
            continue
        if any(name in text and value in text for text in learned):
            hinted.append(f"{fact.title}: {fact.relation} {fact.value}")
    assert hinted == []


def test_a_question_has_its_answers_and_its_article(records):
    titles = {record["title"] for record in records["encyclopaedia"]}
    for name in ("questions_train", "questions_heldout"):
        ids = [q["id"] for q in records[name]]
        assert len(set(ids)) == len(ids)
        for q in records[name]:
            assert q["question"].endswith("?") and q["answers"] and set(q["gold_passage_ids"]) <= titles


def test_the_seed_decides_everything(tmp_path):
    folders = [tmp_path / name for name in ("one", "again", "other")]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        build(folder, seed=seed)
    one, again, other = ({name: (f / f"{name}.jsonl").read_bytes() for name in FILES} for f in folders)
    assert one == again
    assert all(one[name] != other[name] for name in FILES)


WORDINGS = {
    "encyclopaedia": ["{name} has {value}."] * 5,
    "pretraining": ["{value} belongs to {name}."] * 5,
    "questions": ["What has {name}?"] * 5,
}


def write_category(folder: Path, wordings: dict[str, list[str]], *, columns: str = "title\tthing") -> Path:
    """Write a category of one relation and return its table."""
    body = "\n".join(f"{use} = {json.dumps(texts)}" for use, texts in wordings.items())
    (folder / "x.toml").write_text(f'[relations.thing]\nkind = "thing"\n{body}\n', encoding="utf-8")
    (folder / "x.tsv").write_text(f"{columns}\nAda\tan engine|engine\n", encoding="utf-8")
    return folder / "x.tsv"


def test_a_sound_category_is_read(tmp_path):
    (entity,) = read_category(write_category(tmp_path, WORDINGS))
    (fact,) = entity.facts
    assert (entity.category, entity.title, fact.name, fact.relation) == ("x", "Ada", "Ada", "thing")
    assert (fact.value, fact.answers) == ("an engine", ("an engine", "engine"))
    assert encyclopaedia.render(fact.wordings["pretraining"][0], fact) == "An engine belongs to Ada."


@pytest.mark.parametrize(
    ("wordings", "columns", "rule"),
    [
        (WORDINGS | {"questions": ["What has {name}?"] * 4}, "title\tthing", "at least 5 wordings"),
        (WORDINGS | {"pretraining": ["{name} is known."] * 5}, "title\tthing", "once each"),
        (WORDINGS | {"encyclopaedia": ["{value} and {value}."] * 5}, "title\tthing", "once each"),
        (WORDINGS, "title\tother", "columns"),
    ],
)
def test_a_faulty_category_is_refused(tmp_path, wordings, columns, rule):
    with pytest.raises(ValueError, match=rule):
        read_category(write_category(tmp_path, wordings, columns=columns))


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?]) ", text)
