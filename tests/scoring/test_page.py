from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from s2s.scoring.page import script_json, write_page
from s2s.scoring.page_content import error_system, page_content
from s2s.scoring.word_errors import score_words

NASTY = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "\"quotes\" 'and' \\backslashes\\",
    "&amp; &lt;b&gt; <b>bold</b>",
    "a\u2028b\u2029c",
    "مرحبا بالعالم",
    "שלום עולם",
    "日本語 👩\u200d🚀",
    "--> ]]> <!--content--> <!--audio-->",
    "{{x}} ${y} `z`",
]


class Page(HTMLParser):
    """The elements of a page with the text within scripts, styles and the title, as a browser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data

    def text(self, tag: str, **attributes: str) -> str:
        found = [
            text
            for (name, has), text in zip(self.elements, self.texts, strict=True)
            if name == tag and attributes.items() <= has.items()
        ]
        assert len(found) == 1, (tag, attributes, len(found))
        return found[0]

    @property
    def content(self) -> dict:
        return json.loads(self.text("script", id="content"))


def nasty_content(title: str = "Test") -> dict:
    texts = {f"u{i}": text for i, text in enumerate(NASTY)}
    outputs = {key: text + " " + text[::-1] for key, text in texts.items()}
    return page_content(
        title, [error_system("</title><b>", score_words(texts, outputs))], dict.fromkeys(texts, "<i>me</i>")
    )


def test_whatever_texts_hold_comes_back_and_nothing_else_is_in_the_page(tmp_path: Path) -> None:
    title = "<b>T</b> & </title><script>x</script> <!--script-->"
    content = nasty_content(title)
    size = write_page(tmp_path / "page.html", content)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.content == json.loads(json.dumps(content))
    assert page.text("title").strip() == page.text("h1").strip() == title
    clean = tmp_path / "clean.html"
    write_page(clean, page_content("T", [error_system("a", score_words({"u": "a"}, {"u": "b"}))]))
    assert page.elements == Page(clean.read_text(encoding="utf-8")).elements  # no element more
    assert (size.total, size.audio, size.clips) == (len(text.encode()), 0, 0)


@pytest.mark.parametrize("text", NASTY)
def test_json_in_a_page_cannot_end_its_script(text: str) -> None:
    found = script_json({"a": [text, {text: None}]})
    assert json.loads(found) == {"a": [text, {text: None}]}
    assert not re.search("[<>&\u2028\u2029]", found)


def test_a_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", nasty_content())
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    names = ("src", "href", "action", "srcset", "data", "poster")
    addresses = {has[name] for _, has in page.elements for name in names if name in has}
    assert addresses == {"data:,", "#utterances"}
    policy = next(has["content"] for _, has in page.elements if has.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    code = page.text("style") + page.texts[-1]
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttp|innerHTML|eval\(|document\.write", code)


def test_audio_is_in_the_page_one_element_an_utterance(tmp_path: Path) -> None:
    clips = [(0, b"fLaC\x00\xff"), (7, b"more")]
    size = write_page(tmp_path / "page.html", nasty_content(), iter(clips))
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    for place, clip in clips:
        assert base64.b64decode(page.text("script", id=f"audio-{place}")) == clip
    assert (size.audio, size.clips) == (16, 2)
    assert page.content["utterances"][0]["id"] == "u0"


def test_a_page_is_whole_or_absent(tmp_path: Path) -> None:
    def clips() -> Iterator[tuple[int, bytes]]:
        yield 0, b"x"
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_page(tmp_path / "page.html", nasty_content(), clips())
    assert list(tmp_path.iterdir()) == []


def test_the_same_scores_make_the_same_page(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_page(tmp_path / name, nasty_content())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
