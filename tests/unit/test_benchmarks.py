"""The arithmetic of the benchmarks; what they measure is measured by `make bench`."""

import json
import math

import numpy as np
import pytest
from benchmarks import corpus, icd, question_sets
from benchmarks.corpus import Corpus
from benchmarks.load import Load, measured, run
from benchmarks.loading import shares
from benchmarks.numpy_legs import Bm25, by_ranks, nearest
from benchmarks.quality import ndcg, recall
from benchmarks.report import row
from benchmarks.rows import overlap
from benchmarks.writing import Unaudited

from knowledged.store.document_changes import CREATE


def test_ndcg_is_one_when_the_only_answer_comes_first():
    assert ndcg(["a", "b", "c"], {"a": 1.0}) == 1.0


def test_ndcg_discounts_an_answer_by_the_logarithm_of_its_place():
    assert ndcg(["x", "a"], {"a": 1.0}) == pytest.approx(1 / math.log2(3))


def test_ndcg_is_measured_against_the_best_order_of_all_answers():
    found = ndcg(["b", "a"], {"a": 2.0, "b": 1.0})
    assert found == pytest.approx((1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)))


def test_ndcg_does_not_see_beyond_ten():
    assert ndcg([*"0123456789", "a"], {"a": 1.0}) == 0.0


def test_recall_of_more_than_ten_answers_can_still_be_one():
    answers = [str(n) for n in range(12)]
    assert recall(answers[:10], answers) == 1.0
    assert recall(["0", "x"], ["0", "1"]) == 0.5


def test_nearest_gives_the_largest_inner_products_first():
    vectors = np.eye(3, dtype=np.float32)
    texts = Corpus(["a", "b", "c"], ["", "", ""], vectors)
    question = np.array([[0.1, 0.9, 0.5]], dtype=np.float32)
    assert nearest(texts, question) == [["b", "c", "a"]]


def test_overlap_leaves_out_questions_without_an_answer():
    assert overlap([["a", "x"], []], [["a", "b"], []]) == 0.5


def test_a_row_holds_the_median_and_the_range():
    made = row("r", [3.0, 1.0, 2.0], "≥ 1")
    assert (made.median, made.lowest, made.highest) == (2.0, 1.0, 3.0)


def test_latencies_become_answers_a_second_and_quantiles():
    found = measured([0.001 * n for n in range(1, 101)], 2.0)
    assert (found.qps, found.count) == (50.0, 100)
    assert found.p50 == pytest.approx(0.0505)
    assert found.p99 == pytest.approx(0.1)


async def test_each_turn_is_asked_once_whoever_asks():
    turns: list[int] = []

    async def ask(turn: int) -> None:
        turns.append(turn)

    found = await run(Load([ask, ask, ask], 0.01))
    assert turns == list(range(found.count))


def test_shares_are_the_same_in_every_run_and_near_even():
    assert shares(5) == shares(6)[:5]
    low = sum(share < 100 for share in shares(10_000))
    assert 900 < low < 1_100


def test_questions_are_lay_words_that_are_no_terms_name():
    asked = question_sets.hpo_questions(50)
    names = {term.name.lower(): term.term_id for term in corpus.hpo_terms()}
    assert len(asked.texts) == 50
    assert all(names.get(text) not in gains for text, gains in _pairs(asked))


def test_halves_of_the_questions_share_none():
    asked = question_sets.hpo_questions(50)
    assert len(asked.unseen.texts) == 25
    assert asked.unseen.texts[0] == asked.texts[1]


def test_inclusion_terms_lead_to_their_codes():
    asked = dict(icd.questions())
    assert asked["Fibrocystic disease of breast"] == "N60.1"
    assert icd.text("E11.9") == "E11.9 Type 2 diabetes mellitus without complications"
    assert len(icd.codes()) == len(set(icd.codes())) == icd.MOST_CODES


def test_bm25_puts_the_rare_word_first():
    texts = ["the heart", "the liver", "the heart and the liver", "the spleen"]
    found = Bm25(texts).scores("the spleen")
    assert found.argmax() == 3
    assert all(found > 0)


def test_fusion_by_ranks_prefers_what_both_legs_found():
    assert by_ranks([["a", "b"]], [["b", "c"]]) == [["b", "a", "c"]]


async def test_a_set_in_the_layout_of_beir_is_read(tmp_path, monkeypatch):
    _write(tmp_path / "corpus.jsonl", [{"_id": "d/1", "title": "T", "text": "body"}])
    questions = [{"_id": "q1", "text": "what"}, {"_id": "q2", "text": "not judged"}]
    _write(tmp_path / "queries.jsonl", questions)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td/1\t2\n")
    monkeypatch.setattr(corpus, "CACHE", tmp_path / "cache")

    found = await question_sets.beir_set(tmp_path)

    assert found.corpus.texts == ["T\n\nbody"]
    assert found.corpus.vectors.shape == (1, 384)
    assert _pairs(found.questions[tmp_path.name]) == [("what", {found.corpus.ids[0]: 2.0})]


async def test_the_unaudited_statement_is_the_audited_one_without_its_three_inserts():
    asked = _Asked()
    await Unaudited(asked).fetchrow(CREATE)
    audited, plain = CREATE.count("insert into"), asked.queries[0].count("insert into")
    assert plain == audited - 3
    assert "audit_event\n" not in asked.queries[0]


class _Asked:
    """Keeps the text of the statements that are sent."""

    def __init__(self):
        self.queries = []

    async def fetchrow(self, query, *args):
        self.queries.append(query)


def _pairs(questions):
    return list(zip(questions.texts, questions.answers, strict=True))


def _write(file, lines):
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
