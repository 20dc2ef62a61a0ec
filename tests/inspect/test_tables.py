"""Tables for people."""

from rich.console import Console, RenderableType

from realm_jax.data.corpus import BlockText
from realm_jax.evaluate.tally import Tally
from realm_jax.inspect.answer import Answer, Evidence
from realm_jax.inspect.evaluate import Evaluation
from realm_jax.inspect.fill import Filled, Filling
from realm_jax.inspect.tables import answer_view, evaluation_table, filled_view, search_view
from realm_jax.types import NO_BLOCK


def printed(view: RenderableType) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_an_answer_is_shown_with_its_evidence_cut_round_the_answer():
    text = "x " * 400 + "the capital is Lima now " + "y " * 400
    evidence = Evidence(7, "d", "Peru", text, 3.25, 0.75, "Lima", 0.5, (3, 3))
    shown = printed(answer_view(Answer("Which [capital]?", "Lima", 0.5, 7, (3, 3), (evidence,))))
    assert "Which [capital]?" in shown and "p = 0.500" in shown
    assert "0.750" in shown and "3.25" in shown and "capital is Lima now" in shown
    assert len(shown) < 4000


def test_no_answer_says_so():
    assert "no answer" in printed(answer_view(Answer("Who?", "", 0.0, NO_BLOCK, None, ())))


def test_fillings_show_small_probabilities_and_the_marginal():
    null = Filling(NO_BLOCK, "", "", 0.4, ((("a", 0.5), ("b", 2.2e-5)),), 1.1e-14)
    block = Filling(3, "Fermat", "Fermat primes [3]", 0.6, ((("fermat", 1.0),),), 1.0)
    shown = printed(filled_view(Filled("3 is a [MASK] prime", "Fermat", (null, block), (), 0.6, 0.6)))
    assert "3 is a [MASK] prime" in shown and "1.1e-14" in shown and "marginalised" in shown
    assert "a 0.500 b 2.2e-05" in shown
    assert "Fermat primes [3]" in shown


def test_brackets_of_a_text_are_no_markup():
    shown = printed(search_view([(1.5, 2, BlockText("[b]Title", "see [red]this[/red]", "d"))]))
    assert "see [red]this[/red]" in shown and "1.50" in shown and "[b]Title" in shown


def test_metrics_are_percentages_and_utility_is_in_nats():
    cells = {"exact_match": Tally(1.0, 4, 0.0, 0.5)}
    facts = {"run": "r", "phase": "qa", "step": 3, "retriever": "model", "questions": 4}
    utility = {"retrieval_utility": Tally(2.0, 4, 0.25, 0.75)}
    shown = printed(evaluation_table(Evaluation({"all": cells, "nq": {}}, utility, facts, ())))
    assert "25.0 [0.0, 50.0]" in shown and "0.500 [0.250, 0.750]" in shown and "nats" in shown
    # Masked sentences are searched by the model, whatever found the blocks of the questions.
    shown = printed(evaluation_table(Evaluation({"all": cells}, utility, facts | {"retriever": "bm25"}, ())))
    assert "retriever bm25, 4 questions" in " ".join(shown.split())
    assert "masked sentences, retriever model" in " ".join(shown.split())


def test_many_sources_are_rows_that_fit_a_terminal():
    names = [
        "exact_match",
        *(f"recall@{k}" for k in (1, 5, 10, 20, 50, 100)),
        "gold_recall@1",
        "gold_recall@5",
    ]
    sources = {f"relation_{i}": {name: Tally(float(i), 20, 0.0, 1.0) for name in names} for i in range(20)}
    rows = {"all": {name: Tally(95.0, 200, 0.3, 0.7) for name in names}, **sources}
    facts = {"run": "r", "phase": "qa", "step": 3, "retriever": "model", "questions": 200}
    console = Console(width=100)
    with console.capture() as capture:
        console.print(evaluation_table(Evaluation(rows, {}, facts, ())))
    lines = capture.get().splitlines()
    assert any("exact_match" in line and "47.5 [30.0, 70.0]" in line for line in lines)
    cells = [line.split() for line in lines if "relation_7 " in line]
    # 8 metrics beside each other, then the ninth: 7 of 20 everywhere.
    assert [[c for c in row if c != "│"] for row in cells] == [
        ["relation_7", "20", *["35.0"] * 8],
        ["relation_7", "20", "35.0"],
    ]
