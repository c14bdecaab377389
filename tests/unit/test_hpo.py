"""The reader of the Human Phenotype Ontology."""

from pathlib import Path

import numpy as np
import pytest

from knowledged.commands import hpo
from knowledged.commands.hpo import Synonym, Term
from served import Model

OBO = r"""format-version: 1.2

[Term]
id: HP:0000001
name: All

[Term]
id: HP:0000002
name: Tall \"giant\" stature
def: "More than \"two\" deviations\nabove." [https://example.com] {a="b"}
comment: Not a fault\, in itself.
synonym: "Tallness" EXACT layperson []
synonym: "Big {body}" RELATED [ref:1, ref:2]

[Term]
id: HP:0000003
name: obsolete Old term
def: "Not used." []
is_obsolete: true

[Typedef]
id: part_of
name: part of
def: "No term." []
"""


@pytest.fixture(scope="module")
def terms() -> list[Term]:
    return hpo.read_terms(hpo.locate())


def test_terms_in_use_with_a_definition_are_read(tmp_path: Path):
    file = tmp_path / "some.obo"
    file.write_text(OBO)
    synonyms = (Synonym("Tallness", "EXACT", "layperson"), Synonym("Big {body}", "RELATED", ""))
    assert hpo.read_terms(file) == [
        Term(
            "HP:0000002",
            'Tall "giant" stature',
            'More than "two" deviations\nabove.',
            "Not a fault, in itself.",
            synonyms,
        )
    ]


def test_an_article_has_a_comment_only_where_the_term_has():
    assert Term("HP:1", "Name", "Definition.", "", ()).article == "Name\n\nDefinition."
    assert Term("HP:1", "Name", "Definition.", "Comment.", ()).article == (
        "Name\n\nDefinition.\n\nComment."
    )


def test_the_ontology_has_16449_terms_each_once(terms: list[Term]):
    assert len(terms) == len({term.term_id for term in terms}) == 16_449


def test_hypertension_is_found_by_its_lay_name_only_in_the_synonyms(terms: list[Term]):
    (term,) = (term for term in terms if term.term_id == "HP:0000822")
    assert Synonym("High blood pressure", "RELATED", "layperson") in term.synonyms
    assert term.text == (
        "Hypertension. The presence of chronic increased pressure in the systemic arterial system."
    )


async def test_high_blood_pressure_finds_hypertension_first_among_its_neighbours(
    terms: list[Term], model: Model
):
    about_pressure = [term for term in terms if "pressure" in term.article.lower()]
    articles = [term.article for term in about_pressure]
    vectors = await model.embedder.embed(["high blood pressure", *articles])
    nearest = about_pressure[int(np.argmax(vectors[1:] @ vectors[0]))]
    assert len(about_pressure) > 100
    assert nearest.name == "Hypertension"
