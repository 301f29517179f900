"""The error page in a real browser, as a person uses it.

It needs the package playwright and a Chromium: Debian's package of that name, Chrome, or `playwright install chromium`.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browser import COMMANDS, CONTRAST, playwright
from parallel_toy import sentences, spoilt

from s2s.scoring.comparison import compare_errors
from s2s.scoring.page import write_page
from s2s.scoring.page_content import error_system, page_content, text_system
from s2s.scoring.text_metrics import TextMetric
from s2s.scoring.word_errors import score_words

NASTY = {
    "n1": ("</script><script>window.stolen = 1</script>", "<img src=x onerror='window.stolen = 1'>"),
    "n2": ("\"quotes\" 'and' &amp; <b>bold</b>", "\"quotes\" 'or' &lt; <i>bold</i>"),
    "n3": ("مرحبا بكم في البرنامج", "مرحبا بك في البرنامج اليوم"),
    "n4": ("שלום לכולם", "שלום כולם"),
    "n5": ("日本語 です", "日本語 でした"),
    "n6": ("Donaudampfschifffahrtsgesellschaftskapitänswitwenrentenversicherungsgesellschaft", "Donau"),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, COMMANDS)), None)
    with playwright.sync_playwright() as driver:
        if found is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip(f"no browser to look at the page with: none of {', '.join(COMMANDS)} is installed")
        browser = driver.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture
def look(browser: Any) -> Iterator[Callable[..., Any]]:
    """`look(path, ...)` opens a page without a network; what it asks for or complains of fails the test."""
    contexts, requests, complaints = [], [], []

    def open_page(path: Path, width: int = 1300, height: int = 900, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda each: requests.append(each.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda each: complaints.append(each.text))
        page.on("dialog", lambda each: complaints.append("dialog"))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """two.html: 400 utterances of two systems, nasty texts, speakers, recordings; one.html, bleu.html, many.html."""
    folder = tmp_path_factory.mktemp("pages")
    texts = sentences(400)
    outputs = spoilt(texts, 0.2, 1), spoilt(texts, 0.15, 2)
    references = {f"u{i}": text for i, text in enumerate(texts)} | {key: pair[0] for key, pair in NASTY.items()}
    systems = [
        {f"u{i}": text for i, text in enumerate(output)} | {key: pair[1] for key, pair in NASTY.items()}
        for output in outputs
    ]
    reports = [score_words(references, system) for system in systems]
    speakers = {key: "anna" if i % 3 else "bo" for i, key in enumerate(references)}
    tone = io.BytesIO()
    soundfile.write(tone, 0.1 * np.sin(np.arange(24000) / 10), 16000, format="FLAC")
    (folder / "a b.flac").write_bytes(tone.getvalue())
    both = [error_system(name, report) for name, report in zip(("exp/a/text", "exp/b/text"), reports, strict=True)]
    content = page_content("Two <systems>", both, speakers, compare_errors(*reports), {"u1": "a%20b.flac#t=0.5,1"})
    write_page(folder / "two.html", content, [(0, tone.getvalue())])
    write_page(folder / "one.html", page_content("One", both[:1]))
    ids = [str(i) for i in range(400)]
    translated = [
        text_system(name, TextMetric("bleu"), ids, texts, output) for name, output in zip("ab", outputs, strict=True)
    ]
    write_page(folder / "bleu.html", page_content("BLEU", translated))
    many = {f"u{i}": f"{text} {i}" for i, text in enumerate(texts * 12)}
    write_page(folder / "many.html", page_content("Many", [error_system("a", score_words(many, many))]))
    return folder


def found(page: Any) -> str:
    return page.locator("#found").text_content()


def ids(page: Any) -> list[str]:
    return page.locator(".utterance h3").all_text_contents()


def test_it_opens_from_a_file_without_a_network(folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "two.html")
    assert page.title().strip() == page.locator("h1").text_content().strip() == "Two <systems>"
    assert found(page) == "406 of 406 utterances"
    totals = page.locator("#totals").inner_text()
    for text in ("WER", "A exp/a/text", "B exp/b/text", "jiwer:", "better", "matched pairs of segments p ="):
        assert text in totals
    for title in ("By length of the reference", "By speaker", "Words most often wrong", "Confusions"):
        assert page.get_by_role("heading", name=title).is_visible()


def test_texts_are_texts_whatever_they_hold(folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "two.html")
    page.get_by_label("Search").fill("stolen")
    playwright.expect(page.locator("#found")).to_have_text("1 of 406 utterances")
    shown = page.locator(".columns").inner_text()
    assert "</script><script>window.stolen" in shown
    assert "<img" in shown
    assert page.evaluate("window.stolen === undefined")
    assert page.locator("main img, main b, main script").count() == 0


def test_search_finds_words_ids_and_speakers(folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "two.html")
    search = page.get_by_label("Search")
    for query, first in (("u17", "u17"), ("بكم في", "n3"), ("שלום", "n4"), ("日本語 でした", "n5"), ("QUOTES", "n2")):
        search.fill(query)
        playwright.expect(page.locator(".utterance h3").first).to_have_text(first)
    search.fill("anna")
    playwright.expect(page.locator("#found")).to_have_text("270 of 406 utterances")
    search.fill("no such words")
    playwright.expect(page.locator("#found")).to_have_text("0 of 406 utterances")
    search.fill("")
    playwright.expect(page.locator("#found")).to_have_text("406 of 406 utterances")


def test_utterances_are_put_in_order_and_left_out(folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "two.html")
    order, show = page.locator("#order"), page.locator("#filter")
    assert ids(page)[:2] == ["u0", "u1"]
    order.select_option("Most errors first")
    counts = page.evaluate("""[...document.querySelectorAll('.utterance')].map((each) => Math.max(...[2, 3].map(
        (row) => each.querySelectorAll(`.column > :nth-child(${row}):is(ins, del)`).length)))""")
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 3
    order.select_option("Shortest first")
    lengths = page.evaluate("""[...document.querySelectorAll('.utterance')].map((each) =>
        each.querySelectorAll('.column > :first-child:not(.nothing)').length)""")
    assert lengths == sorted(lengths)
    assert lengths[0] == 1
    show.select_option("Without errors")
    assert page.locator(".utterance :is(ins, del)").count() == 0
    show.select_option("B better")
    assert page.locator(".utterance .second.better").count() == page.locator(".utterance").count() > 10
    versus = page.locator(".versus button", has_text="B better")
    assert found(page).split()[0] == versus.text_content().split(": ")[1]


def test_a_confusion_a_word_a_speaker_and_a_length_show_their_utterances(
    folder: Path, look: Callable[..., Any]
) -> None:
    page = look(folder / "two.html")
    row = page.locator("#confusions tbody tr").first
    count = int(row.locator("td").nth(2).text_content())
    row.get_by_role("button").click()
    playwright.expect(page.locator("#focus")).to_be_focused()
    assert page.locator("#focus").text_content().startswith("only ")
    assert 0 < int(found(page).split()[0]) <= count
    page.keyboard.press("Enter")
    assert found(page) == "406 of 406 utterances"
    assert page.locator("#focus").is_hidden()
    for section, column in (("#speakers", 1), ("#lengths", 1)):
        row = page.locator(f"{section} tbody tr").first
        row.get_by_role("button").click()
        assert found(page).split()[0] == row.locator("td").nth(column).text_content()
    page.locator("#words tbody button").first.click()
    assert 0 < int(found(page).split()[0]) < 406
    page.locator(".matrix button").first.click()
    assert page.locator("#focus").text_content().count("→") == 1


def test_confusions_of_the_other_system_are_a_key_away(folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "two.html")
    before = page.locator("#confusions tbody").first.inner_text()
    page.locator(".switch button").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator(".switch button").nth(1).get_attribute("aria-pressed") == "true"
    playwright.expect(page.locator(".switch button").nth(1)).to_be_focused()
    assert page.locator("#confusions tbody").first.inner_text() != before


def test_everything_is_done_with_the_keyboard(folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "two.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    playwright.expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("jk/p u17")  # letters are letters while one types
    assert page.get_by_label("Search").input_value() == "jk/p u17"
    playwright.expect(page.locator("#found")).to_have_text("0 of 406 utterances")
    page.get_by_label("Search").fill("")
    playwright.expect(page.locator("#found")).to_have_text("406 of 406 utterances")
    page.keyboard.press("Tab")
    playwright.expect(page.locator("#filter")).to_be_focused()
    page.evaluate("document.activeElement.blur()")
    for key, name in (("j", "u0"), ("j", "u1"), ("j", "u2"), ("k", "u1")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.querySelector('h3').textContent") == name
    for _ in range(120):
        page.keyboard.press("j")
    assert page.evaluate("document.activeElement.querySelector('h3').textContent") == "u121"


def test_audio_is_played_from_the_page_and_from_beside_it(folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "two.html")
    assert page.locator("audio").count() == 2
    for place in (0, 1):
        page.locator(".utterance").nth(place).focus()
        page.keyboard.press("p")
        audio = page.locator(".utterance").nth(place).locator("audio")
        page.wait_for_function(
            "(each) => each.currentTime > (each.src.includes('#t=') ? 0.5 : 0)", arg=audio.element_handle()
        )
        assert audio.evaluate("each => each.duration") == pytest.approx(1.5, abs=0.05)
        assert audio.evaluate("each => each.error") is None
        page.keyboard.press("p")
        assert audio.evaluate("each => each.paused")


def test_texts_from_right_to_left_run_from_right_to_left(folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "two.html")
    for name, query, direction in (("n3", "مرحبا", -1), ("n4", "שלום", -1), ("n5", "日本語", 1)):
        page.get_by_label("Search").fill(query)
        playwright.expect(page.locator(".utterance h3").first).to_have_text(name)
        boxes = [each.bounding_box() for each in page.locator(".columns .column").all()]
        steps = [later["x"] - earlier["x"] for earlier, later in pairwise(boxes)]
        assert all(step * direction > 0 for step in steps if step)
        assert len(boxes) >= 2


def test_thousands_of_utterances_are_made_when_they_are_seen(folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "many.html")
    assert found(page) == "4,800 of 4,800 utterances"
    assert page.locator(".utterance").count() <= 100
    assert page.evaluate("performance.timing.domComplete - performance.timing.responseEnd") < 10_000
    for count in (100, 150, 200):
        page.locator(".utterance").last.scroll_into_view_if_needed()
        page.wait_for_function("(count) => document.querySelectorAll('.utterance').length >= count", arg=count)
    page.get_by_label("Search").fill("4799")
    playwright.expect(page.locator("#found")).to_have_text("1 of 4,800 utterances")


def test_one_system_has_no_sides(folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "one.html")
    assert page.locator(".versus, .switch, .second").count() == 0
    assert page.locator("#order option").all_text_contents() == [
        "As in the file",
        "Most errors first",
        "Highest rate first",
        "Longest first",
        "Shortest first",
    ]
    assert page.locator(".labels").first.inner_text().split() == ["Ref", "Hyp"]


def test_translations_show_their_sentence_scores(folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "bleu.html")
    assert "BLEU" in page.locator("#totals").inner_text()
    assert page.locator(".utterance .facts").first.inner_text().count("BLEU") == 2
    page.locator("#order").select_option("Lowest score first")
    scores = [
        min(float(word) for word in text.replace("(better)", "").split() if word[0].isdigit() and "." in word)
        for text in page.locator(".facts").all_inner_texts()
    ]
    assert scores == sorted(scores)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 800, 1600])
def test_it_fits_the_screen(width: int, scheme: str, folder: Path, look: Callable[..., Any]) -> None:
    page = look(folder / "two.html", width, 800, scheme)
    page.get_by_label("Search").fill("donau")
    playwright.expect(page.locator("#found")).to_have_text("1 of 406 utterances")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    brightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
    assert (max(brightness) < 60) == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: str, folder: Path, look: Callable[..., Any]) -> None:
    """At least the 4.5 : 1 of WCAG 2.2, criterion 1.4.3, for all text that is visible at first."""
    page = look(folder / "two.html", scheme=scheme)
    worst = page.evaluate(CONTRAST)
    assert worst[0] >= 4.5, worst
