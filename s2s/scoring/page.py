"""The error page: one HTML file with its style, its script, its data and, if wanted, its audio."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from s2s.files import replacing


@dataclass(frozen=True)
class PageSize:
    """Bytes of a page and of the audio in it, and how many utterances have some."""

    total: int
    audio: int
    clips: int


def write_page(
    path: str | os.PathLike[str], content: dict[str, Any], clips: Iterable[tuple[int, bytes]] = ()
) -> PageSize:
    """Write what `page_content` gives as a page, whole or not at all.

    `clips` are FLAC files by the utterance's place in `content`; each is written as it comes. Raises UserError or
    OSError where the file cannot be written, and whatever `clips` raises.
    """
    audio = count = 0
    before, after = _page(content).split("<!--audio-->")
    with replacing(path) as beside, open(beside, "w", encoding="utf-8", newline="\n") as out:
        out.write(before)
        for place, clip in clips:
            text = base64.b64encode(clip).decode()
            out.write(f'<script type="text/plain" id="audio-{place}">{text}</script>\n')
            audio, count = audio + len(text), count + 1
        out.write(after)
        out.flush()
        total = os.fstat(out.fileno()).st_size
    return PageSize(total, audio, count)


def script_json(content: Any) -> str:
    """JSON that ends no script element and opens no comment in HTML, whatever its strings hold."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _page(content: dict[str, Any]) -> str:
    folder = files("s2s.scoring") / "error_page"
    page = (folder / "page.html").read_text(encoding="utf-8")
    parts = {
        "title": html.escape(content["title"]),
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "script": (folder / "page.js").read_text(encoding="utf-8"),
    }
    for name, part in parts.items():
        page = page.replace(f"<!--{name}-->", part)
    return page.replace("<!--content-->", script_json(content))
