"""Prompts in tokens, and what has none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2s.errors import UserError
from s2s.tokenizers.prompts import Prompt, PromptTokens, plain

TOKENS = PromptTokens(["en", "de", "pt-BR"], ["transcribe", "translate"], 10)


def test_a_prompt_is_source_target_task_and_punctuation() -> None:
    def pieces(prompt: Prompt) -> list[str]:
        return [TOKENS.pieces[index - 10] for index in TOKENS.encode(prompt)]

    assert pieces(Prompt("de", "en")) == ["<de>", "<en>", "<translate>", "<pnc>"]
    assert pieces(Prompt("de", "de", punctuation=False)) == ["<de>", "<de>", "<transcribe>", "<nopnc>"]
    assert pieces(Prompt("en", "en", task="translate")) == ["<en>", "<en>", "<translate>", "<pnc>"]
    assert sorted(TOKENS.ids.values()) == list(range(10, 17))
    assert TOKENS.numbers(Prompt("pt-BR", "en")) == (2, 0)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt("fr", "en"), r"language 'fr': the model has no token for it\. .*It knows en, de, pt-BR"),
        (Prompt("en", "d"), r"language 'd': the model has no token for it\. Did you mean 'de'\? It knows"),
        (
            Prompt("en", "de", "translat"),
            r"task 'translat': .* Did you mean 'translate'\? It knows transcribe, translate",
        ),
    ],
)
def test_a_word_without_a_token_is_refused_with_those_that_have_one(prompt: Prompt, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TOKENS.encode(prompt)


@pytest.mark.parametrize("languages", [["d e"], ["de", "de"], ["translate"], [""]])
def test_words_that_are_no_codes_or_there_twice_are_refused(languages: list[str]) -> None:
    with pytest.raises(ValueError, match=r"expected a code|there twice"):
        PromptTokens(languages, ["translate"], 0)


def test_plain_text_has_words_alone() -> None:
    assert plain("«L'homme», dit-il: 'Ça va?' – 3.5 €…") == "l'homme dit-il ça va 3 5 €"
    assert plain("¿Qué?") == "qué"


@given(st.text(max_size=20))
def test_plain_text_is_plain(text: str) -> None:
    assert plain(plain(text)) == plain(text) == plain(text).lower().strip() or "İ" in text
