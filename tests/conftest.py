"""Fixtures for every room."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from hypothesis import settings

Cli = Callable[..., tuple[int, str, str]]

settings.register_profile("seeded", deadline=None, derandomize=True)  # the same examples in every run
settings.load_profile("seeded")

# Toy models are too small to share out; the same for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real corpora."""
    root = os.environ.get("S2S_DATA")
    if not root:
        pytest.skip("set S2S_DATA to a folder with the real corpora (multi30k, kerstin-german-cc0, ...)")
    if not Path(root).is_dir():
        pytest.fail(f"S2S_DATA names '{root}', which is not a folder")
    return Path(root)


@pytest.fixture(scope="session", autouse=True)
def _noise_is_heard() -> Iterator[None]:
    """Toy recordings are noise, which is speech to the detector by energy and not to Silero's, installed or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s2s.audio.voice_activity.find_spec", lambda name: None)
        yield


@pytest.fixture
def s2s_cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`s2s_cli("score", "wer", ...)` runs the command in this process and gives (exit code, stdout, stderr)."""

    def run(*arguments: object, stdin: str | bytes = b"") -> tuple[int, str, str]:
        from s2s.cli.main import main

        given = stdin.encode() if isinstance(stdin, str) else stdin
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True) for _ in range(2))
        code = 0
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["s2s", *map(str, arguments)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), "utf-8"))
            patch.setenv("COLUMNS", "200")  # no line breaks within typer's own messages
            try:
                main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()

    return run


@pytest.fixture(scope="session")
def digits(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/ (48 strings of two real digits), dev/ (12) and a tokenizer, made by the digits recipe."""
    from s2s.tokenizers.load import train_tokenizer

    root = tmp_path_factory.mktemp("digits")
    script = Path(__file__).parents[1] / "egs" / "fsdd" / "asr" / "local" / "data.py"
    options = ["--data-root", str(data_root), "--out", str(root / "all"), "--passes", "2"]
    subprocess.run([sys.executable, str(script), *options], check=True, capture_output=True)
    for part, count in (("train", 48), ("dev", 12)):
        (root / part).mkdir()
        texts = (root / "all" / part / "text").read_text(encoding="utf-8").splitlines()
        chosen = {line.split()[0] for line in [line for line in texts if len(line.split()) == 3][:count]}
        assert len(chosen) == count
        for name in ("wav.scp", "text", "utt2spk"):
            lines = (root / "all" / part / name).read_text(encoding="utf-8").splitlines()
            (root / part / name).write_text(
                "".join(f"{x}\n" for x in lines if x.split()[0] in chosen), encoding="utf-8"
            )
    words = [line.split(" ", 1)[1] for line in (root / "train" / "text").read_text(encoding="utf-8").splitlines()]
    train_tokenizer("unigram", words, 30).save(root / "tokenizer")
    return root


@pytest.fixture(scope="session")
def tiny(digits: Path) -> list[str]:
    """Overrides that train a tiny model on `digits`: 4 batches an epoch, 3 epochs."""
    return [
        f"tokenizer={digits / 'tokenizer'}",
        f"data.train=[{digits / 'train'}]",
        f"data.valid=[{digits / 'dev'}]",
        "data.num_workers=0",
        "data.max_batch_size=12",
        "data.num_buckets=1",
        "data.num_target_buckets=1",
        "features.sampling_rate=8000",
        "features.num_mel_bins=23",
        "spec_augment.freq_mask_width=5",
        "model.encoder.model_dim=16",
        "model.encoder.num_layers=1",
        "model.encoder.num_heads=2",
        "model.encoder.feed_forward_dim=16",
        "model.encoder.kernel_size=5",
        "model.encoder.front.channels=4",
        "model.decoder.model_dim=16",
        "model.decoder.num_layers=1",
        "model.decoder.num_heads=2",
        "model.decoder.feed_forward_dim=16",
        "optim.warmup_steps=5",
        "training.max_epochs=3",
        "training.accelerator=cpu",
    ]
