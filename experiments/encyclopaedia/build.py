"""Write the quickstart corpus: an encyclopaedia, pre-training text about it in other words, and questions.

Each category is a table of checked facts (`<category>.tsv`, one entity a row, one relation a column) and a
set of wordings (`<category>.toml`). Every entity becomes one article. A fifth of the facts is held out: they
stand in the encyclopaedia only, in no pre-training sentence and in no training question, so a question
about one of them can be answered by retrieval alone.

    python experiments/encyclopaedia/build.py --out build/encyclopaedia

writes encyclopaedia.jsonl, pretraining.jsonl, questions_train.jsonl, questions_heldout.jsonl, and
heldout_sentences.jsonl: the held-out facts in the words of the pre-training text, to test on.
"""

import argparse
import csv
import json
import random
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).parent
HELD_OUT = 0.2  # share of facts that stand in the encyclopaedia only
SENTENCES_PER_FACT = 3  # pre-training wordings of each fact that is not held out
QUESTIONS_PER_FACT = 4  # training questions on each fact that is not held out


@dataclass(frozen=True)
class Fact:
    """One cell of a table."""

    title: str
    name: str  # the title as it reads inside a sentence
    relation: str
    value: str
    answers: tuple[str, ...]  # value first, then other accepted answers
    wordings: dict[str, list[str]]  # encyclopaedia, pretraining, questions


@dataclass(frozen=True)
class Entity:
    """One row of a table."""

    category: str
    title: str
    facts: tuple[Fact, ...]


def read_category(table: Path) -> list[Entity]:
    """Read one category.

    Args:
      table: path of the .tsv file; the .toml file stands beside it.

    Returns:
      Its entities in file order.

    Raises:
      ValueError: columns and wordings do not name the same relations, or a wording lacks a placeholder.
    """
    relations = tomllib.loads(table.with_suffix(".toml").read_text(encoding="utf-8"))["relations"]
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    columns = set(rows[0]) - {"title", "name"}
    if columns != set(relations):
        raise ValueError(f"{table.name}: columns {sorted(columns)}, wordings {sorted(relations)}")
    for relation, wordings in relations.items():
        _check_wordings(f"{table.stem}.{relation}", wordings)
    return [_entity(table.stem, row, relations) for row in rows]


def _check_wordings(where: str, wordings: dict) -> None:
    placeholders = {
        "encyclopaedia": ["{value}"],
        "pretraining": ["{name}", "{value}"],
        "questions": ["{name}"],
    }
    for use, needed in placeholders.items():
        if len(wordings[use]) < 5:
            raise ValueError(f"{where}: {use} needs at least 5 wordings, has {len(wordings[use])}")
        for wording in wordings[use]:
            if any(wording.count(placeholder) != 1 for placeholder in needed):
                raise ValueError(f"{where}: {use} wording needs {needed} once each: {wording!r}")


def _entity(category: str, row: dict[str, str], relations: dict) -> Entity:
    title = row["title"]
    facts = []
    for relation, wordings in relations.items():
        if row[relation]:
            answers = tuple(row[relation].split("|"))
            name = row.get("name") or title
            facts.append(Fact(title, name, relation, answers[0], answers, wordings))
    return Entity(category, title, tuple(facts))


def render(wording: str, fact: Fact) -> str:
    """Fill a wording in and capitalise its first letter."""
    text = wording.replace("{name}", fact.name).replace("{value}", fact.value)
    return text[0].upper() + text[1:]


def leave_out(entity: Entity, relations: Sequence[str]) -> Entity:
    """Return an entity without its facts of some relations."""
    return replace(entity, facts=tuple(fact for fact in entity.facts if fact.relation not in relations))


def split_facts(entity: Entity, rng: random.Random) -> tuple[list[Fact], list[Fact]]:
    """Split an entity's facts into those taught and those held out; at least two are taught."""
    held_out = [fact for fact in entity.facts if rng.random() < HELD_OUT]
    while len(entity.facts) - len(held_out) < 2 and held_out:
        held_out.pop()
    return [fact for fact in entity.facts if fact not in held_out], held_out


def article(entity: Entity, rng: random.Random) -> dict[str, str]:
    """Write the encyclopaedia article of an entity: every fact once, the first sentence with its name."""
    facts = rng.sample(entity.facts, len(entity.facts))
    sentences = []
    for place, fact in enumerate(facts):
        choices = fact.wordings["encyclopaedia"]
        if place == 0:
            choices = [wording for wording in choices if "{name}" in wording]
        sentences.append(render(rng.choice(choices), fact))
    return {"id": entity.title, "title": entity.title, "text": " ".join(sentences)}


def pretraining_texts(entity: Entity, taught: list[Fact], rng: random.Random) -> Iterator[dict[str, str]]:
    """Write texts that state each taught fact in other words, `SENTENCES_PER_FACT` times over."""
    wordings = [rng.sample(fact.wordings["pretraining"], SENTENCES_PER_FACT) for fact in taught]
    for turn in range(SENTENCES_PER_FACT):
        order = rng.sample(range(len(taught)), len(taught))
        text = " ".join(render(wordings[i][turn], taught[i]) for i in order)
        yield {"title": entity.title, "text": text}


def questions(facts: list[Fact], count: int, split: str, rng: random.Random) -> Iterator[dict]:
    """Ask about each fact in `count` wordings."""
    for fact in facts:
        for number, wording in enumerate(rng.sample(fact.wordings["questions"], count)):
            yield {
                "id": f"{split}-{fact.title}-{fact.relation}-{number}".replace(" ", "_"),
                "question": render(wording, fact),
                "answers": list(fact.answers),
                "gold_passage_ids": [fact.title],
                "source": fact.relation,
            }


def spread(category: list[Entity], most: int) -> list[Entity]:
    """Take at most `most` entities, spread evenly."""
    count = min(most, len(category))
    return [category[place * len(category) // count] for place in range(count)]


def words(text: str) -> str:
    """Return the words of a text, lower-cased, a space around each."""
    return " ".join(["", *re.findall(r"\w+", text.casefold()), ""])


def hinted(held_out: list[Fact], taught: list[str]) -> set[tuple[str, str]]:
    """Find the held-out facts whose name and value meet in a taught text, be it about another entity.

    Args:
      held_out: facts.
      taught: pre-training texts, and training questions with their answers.

    Returns:
      Title and relation of each.
    """
    learned = [words(text) for text in taught]
    found = set()
    for fact in held_out:
        name, value = words(fact.name), words(fact.value)
        if any(name in text and value in text for text in learned):
            found.add((fact.title, fact.relation))
    return found


def build(
    out: Path,
    *,
    seed: int = 0,
    most: int | None = None,
    names: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> dict[str, int]:
    """Write the five files.

    Args:
      out: folder to write to; made if missing.
      seed: chooses wordings, order and the held-out facts.
      most: entities taken of each category, spread evenly over its table; None takes all.
      names: categories to take; None takes all.
      without: relations to leave out, whatever their category.

    Returns:
      Number of lines of each file.
    """
    rng = random.Random(seed)
    tables = {table.stem: table for table in sorted(HERE.glob("*.tsv"))}
    unknown = set(names or ()) - set(tables)
    if unknown:
        raise ValueError(f"categories are {', '.join(tables)}; got {', '.join(sorted(unknown))}")
    categories = [read_category(table) for name, table in tables.items() if names is None or name in names]
    known = {fact.relation for category in categories for entity in category for fact in entity.facts}
    if not set(without) <= known:
        raise ValueError(f"relations are {', '.join(sorted(known))}; got {', '.join(without)}")
    categories = [[leave_out(entity, without) for entity in category] for category in categories]
    entities = [entity for category in categories for entity in spread(category, most or len(category))]
    entities = [entity for entity in entities if len(entity.facts) > 1]
    files: dict[str, list[dict]] = {
        "encyclopaedia": [],
        "pretraining": [],
        "questions_train": [],
        "questions_heldout": [],
        "heldout_sentences": [],
    }
    every_held_out: list[Fact] = []
    for entity in entities:
        taught, held_out = split_facts(entity, rng)
        every_held_out += held_out
        files["encyclopaedia"].append(article(entity, rng))
        files["pretraining"] += pretraining_texts(entity, taught, rng)
        files["questions_train"] += questions(taught, QUESTIONS_PER_FACT, "train", rng)
    asked = [f"{q['question']} {' '.join(q['answers'])}" for q in files["questions_train"]]
    told = hinted(every_held_out, [text["text"] for text in files["pretraining"]] + asked)
    tested = [fact for fact in every_held_out if (fact.title, fact.relation) not in told]
    files["questions_heldout"] += questions(tested, 1, "heldout", rng)
    files["heldout_sentences"] += [
        {"title": fact.title, "text": render(rng.choice(fact.wordings["pretraining"]), fact)}
        for fact in tested
    ]
    out.mkdir(parents=True, exist_ok=True)
    for name, records in files.items():
        rng.shuffle(records)
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return {name: len(records) for name, records in files.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/encyclopaedia"), help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="chooses wordings and the held-out facts")
    parser.add_argument("--most", type=int, help="entities taken of each category (default: all)")
    parser.add_argument("--categories", nargs="+", help="tables to take (default: all)")
    parser.add_argument("--without", nargs="+", default=[], metavar="RELATION", help="relations to leave out")
    arguments = parser.parse_args()
    counts = build(
        arguments.out,
        seed=arguments.seed,
        most=arguments.most,
        names=arguments.categories,
        without=arguments.without,
    )
    for file, count in counts.items():
        print(f"{arguments.out / file}.jsonl: {count} lines")
