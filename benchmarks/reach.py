"""What an encoder costs against the length of a recording, for each reach of its attention: time and memory.

The encoder is that of a config of s2s/conf/model with random weights; every point is a process of its own. Writes a
record and a plot.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from work import provenance, speech_features, write_record

from s2s.conf import compose, to_dataclass
from s2s.errors import UserError
from s2s.files import replacing
from s2s.models.build import build
from s2s.training.config import TrainConfig

HERE = Path(__file__).parent
REACHES = {
    "full": "{reach: full}",
    "limited": "{reach: limited, left: 128, right: 128}",
    "limited, global frame": "{reach: limited, left: 128, right: 128, global_frames: 1}",
    "chunked": "{reach: chunked, chunk_size: 16, left_chunks: 16}",
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", default=None, help="folder with kerstin-german-cc0 (default: $S2S_DATA)")
    parser.add_argument("--model", default="fast_conformer", help="a config of s2s/conf/model")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seconds", type=float, nargs="+", default=[10, 60, 300, 1200, 3600])
    parser.add_argument("--reaches", nargs="+", choices=REACHES, default=list(REACHES))
    parser.add_argument("--positions", nargs="+", default=["relative", "rotary"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "reach.json")
    parser.add_argument("--plot", type=Path, default=HERE.parent / "docs" / "reach.png")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the encoder and features of one point, from the parent
    return parser.parse_args()


def encoder_config(model: str, layers: int, positions: str, reach: str) -> dict[str, Any]:
    """The encoder part of a config of s2s/conf/model."""
    overrides = [f"model={model}", "vocab_size=100", f"model.encoder.num_layers={layers}"]
    config = to_dataclass(compose("train", TrainConfig, overrides)).model["encoder"]
    return {**config, "positions": positions, "attention": yaml.safe_load(REACHES[reach])}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@torch.inference_mode()
def measure(work: dict[str, Any]) -> dict[str, float]:
    """Seconds and memory of one pass, after a short one."""
    torch.set_num_threads(work["threads"])
    torch.manual_seed(0)
    encoder = build(work["encoder"]).eval()
    with safe_open(work["features"], framework="pt") as file:
        features = file.get_slice("features")[: round(100 * work["seconds"])]
    encoder(features[None, :500], torch.tensor([500]))
    before = peak_mb()
    start = time.perf_counter()
    memory = encoder(features[None], torch.tensor([len(features)]))
    seconds = time.perf_counter() - start
    return {
        "encoder_seconds": seconds,
        "peak_mb": peak_mb(),
        "more_mb": peak_mb() - before,
        "frames": memory.states.size(1),
        "parameters": sum(p.numel() for p in encoder.parameters()),
    }


def write_features(data_root: str | None, seconds: float, path: Path) -> None:
    save_file({"features": speech_features(data_root, [seconds])[0]}, path)


def plot(points: list[dict[str, Any]], path: Path) -> None:
    """Seconds of computing a second of audio, and memory, against length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    names = list(dict.fromkeys((point["reach"], point["positions"]) for point in points))
    for reach, positions in names:
        own = [point for point in points if (point["reach"], point["positions"]) == (reach, positions)]
        seconds = [point["seconds"] for point in own]
        style = {"marker": "o", "linestyle": "-" if positions == "relative" else "--", "label": f"{reach}, {positions}"}
        panels[0].plot(seconds, [point["encoder_seconds"] / point["seconds"] for point in own], **style)
        panels[1].plot(seconds, [point["peak_mb"] for point in own], **style)
    for panel, label in zip(panels, ("seconds of computing a second of audio", "peak memory, MiB"), strict=True):
        panel.set(xscale="log", yscale="log", xlabel="length of the recording, s", ylabel=label)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=110)


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measure(json.loads(options.one))))
        return
    points = []
    with tempfile.TemporaryDirectory() as folder:
        features = Path(folder) / "features.safetensors"
        data_root = options.data_root or os.environ.get("S2S_DATA")
        # In a process of its own: a process that is started begins with the peak memory of the one that starts it.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(write_features, (data_root, max(options.seconds), features))
        for reach in options.reaches:
            for positions in options.positions:
                encoder = encoder_config(options.model, options.layers, positions, reach)
                for seconds in options.seconds:
                    work = {"encoder": encoder, "features": str(features), "seconds": seconds}
                    command = [sys.executable, __file__, "--one", json.dumps({**work, "threads": options.threads})]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    if done.returncode:
                        raise UserError(f"{reach}, {positions}, {seconds:g} s: {done.stderr.strip()[-400:]}")
                    points.append(
                        {"reach": reach, "positions": positions, "seconds": seconds, **json.loads(done.stdout)}
                    )
                    print({k: v for k, v in points[-1].items() if k != "parameters"}, flush=True)
    record = {
        "model": options.model,
        "layers": options.layers,
        "reaches": {name: REACHES[name] for name in options.reaches},
        "points": points,
        "versions": {"torch": torch.__version__},
        **provenance(options.threads),
    }
    write_record(record, options.out)
    plot(points, options.plot)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
