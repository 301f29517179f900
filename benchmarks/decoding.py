"""Joint CTC/attention beam search: s2s against ESPnet, SpeechBrain and, attention alone, transformers.

All decode the same encoder states with the same decoder and CTC weights (peers/README.md), one process after the other,
medians of repeats. Without --bundle the model is a large one with random weights and every utterance has a given number
of tokens; with --bundle and --data it is a trained one. peers/setup.sh makes the peers' environment.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from work import add_model_options, make_bundle_work, make_random_work, provenance, write_record

from s2s.errors import UserError

HERE = Path(__file__).parent
PEERS = ("espnet", "speechbrain", "transformers")
Answer = dict[str, Any]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_options(parser)
    parser.add_argument("--bundle", type=Path, help="trained bundle to search with in place of random weights")
    parser.add_argument("--data", type=Path, help="Kaldi directory to decode with the bundle")
    parser.add_argument("--utterances", type=int, help="default: 20; of a data set, 64")
    parser.add_argument("--shortest", type=float, default=2.0, help="seconds, of the random work")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds, of the random work")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=16,
        help="utterances that s2s searches at once (attention alone: 8, as transformers)",
    )
    parser.add_argument("--peers", type=Path, default=HERE / ".peers", help="environment that peers/setup.sh made")
    parser.add_argument("--without", default="", help=f"peers to leave out, of {','.join(PEERS)}")
    parser.add_argument("--peer-repeats", type=int, default=3, help="SpeechBrain has 1")
    parser.add_argument("--limit", type=int, default=8, help="utterances for SpeechBrain, which is slow")
    parser.add_argument("--keep", type=Path, help="folder to leave the work and the answers in")
    parser.add_argument("--out", type=Path, help="default: results/decoding.json, or decoding_bundle.json")
    options = parser.parse_args()
    if (options.bundle is None) != (options.data is None):
        parser.error("--bundle and --data belong together")
    unknown = set(filter(None, options.without.split(","))) - set(PEERS)
    if unknown:
        parser.error(f"--without: no peer {', '.join(sorted(unknown))}")
    options.utterances = options.utterances or (64 if options.bundle else 20)
    options.out = options.out or HERE / "results" / f"decoding{'_bundle' if options.bundle else ''}.json"
    return options


def run(python: Path, script: str, work: Path, name: str, options: argparse.Namespace, *more: str) -> Answer:
    """What a script answers, or why there is no answer under `left_out`."""
    if not python.exists():
        return {"left_out": f"no {python}; benchmarks/peers/setup.sh makes it"}
    out = work / f"{name}.json"
    command = [str(python), str(HERE / script), str(work), str(out), "--threads", str(options.threads), *more]
    last = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            sys.stderr.write(line)
            last = line.strip() or last
    if process.returncode:
        return {"left_out": f"exit status {process.returncode}: {last}"}
    return dict(json.loads(out.read_text(encoding="utf-8")))


def run_all(work: Path, options: argparse.Namespace) -> dict[str, Answer]:
    """Every toolkit's answer, one after the other; ours for all that a peer's is laid beside."""
    repeats, peer_repeats = ["--repeats", str(options.repeats)], ["--repeats", str(options.peer_repeats)]
    limit = ["--limit", str(options.limit)]
    kinds: dict[str, tuple[str, list[str]]] = {
        "s2s": ("s2s_decode.py", repeats),
        "s2s, attention alone": ("s2s_decode.py", [*repeats, "--scorers", "attention"]),
        "s2s, limited": ("s2s_decode.py", [*repeats, *limit]),
        "espnet": ("peers/espnet_decode.py", peer_repeats),
        "transformers": ("peers/transformers_decode.py", peer_repeats),
        "speechbrain": ("peers/speechbrain_decode.py", ["--repeats", "1", *limit]),
    }
    left_out = set(options.without.split(","))
    if "speechbrain" in left_out:
        del kinds["s2s, limited"]
    answers = {}
    for name, (script, more) in kinds.items():
        if name in left_out:
            continue
        ours = name.startswith("s2s")
        python = Path(sys.executable) if ours else options.peers / "bin" / "python"
        if ours:
            more = [*more, "--batch-size", str(8 if "attention" in more else options.batch_size)]
        print(f"{name} ...", file=sys.stderr)
        answers[name] = run(python, script, work, name, options, *more)
        if ours and "left_out" in answers[name]:
            sys.exit(f"error: {script}: {answers[name]['left_out']}")
    return answers


def figures(answer: Answer, seconds: dict[str, float]) -> dict[str, Any]:
    """Medians; `real_time_factor` and `utterances_per_second` are those of search and encoder together."""
    audio = sum(seconds[hypothesis["id"]] for hypothesis in answer["hypotheses"])
    count = len(answer["hypotheses"])
    search = statistics.median(answer["search_seconds"])
    encoder = statistics.median(answer["encoder_seconds"]) if answer["encoder_seconds"] else None
    found = {
        "utterances": count,
        "audio_seconds": audio,
        "repeats": len(answer["search_seconds"]),
        "search_seconds": search,
        "search_seconds_range": [min(answer["search_seconds"]), max(answer["search_seconds"])],
        "encoder_seconds": encoder,
        "search_utterances_per_second": count / search,
        "search_real_time_factor": search / audio,
        "utterances_per_second": None if encoder is None else count / (search + encoder),
        "real_time_factor": None if encoder is None else (search + encoder) / audio,
        "peak_rss_mb": answer["peak_rss_mb"],
    }
    alone = {key: statistics.median(values) for key, values in answer.get("alone", {}).items()}
    return found | {"alone": alone, **{key: answer[key] for key in ("threads", "versions", "settings", "notes")}}


def comparison(peer: Answer, ours: Answer) -> dict[str, Any]:
    """How many times as long as ours the peer's search takes, and whether both find the same."""
    mine = {hypothesis["id"]: hypothesis for hypothesis in ours["hypotheses"]}
    pairs = [(theirs, mine[theirs["id"]]) for theirs in peer["hypotheses"]]
    lead = [theirs["score"] - own["score"] for theirs, own in pairs]
    same = [n for n, (theirs, own) in zip(lead, pairs, strict=True) if theirs["tokens"] == own["tokens"]]
    found = {
        "search_over_ours": statistics.median(peer["search_seconds"]) / statistics.median(ours["search_seconds"]),
        "same_tokens": len(same),
        "utterances": len(pairs),
        "largest_score_difference": max(map(abs, lead)),
        "largest_score_difference_at_same_tokens": max(map(abs, same), default=None),
        "best_score_lead": max(lead),  # of the peer's score; negative where ours are always higher
        "worst_score_lead": min(lead),
    }
    one_by_one = peer["search_seconds"] if peer["settings"]["batch_size"] == 1 else None
    one_by_one = peer.get("alone", {}).get("search_seconds", one_by_one)
    if one_by_one:
        ours_alone = statistics.median(ours["alone"]["search_seconds"])
        found["alone_over_ours_alone"] = statistics.median(one_by_one) / ours_alone
    return found


def summarise(work: dict[str, Any], answers: dict[str, Answer], options: argparse.Namespace) -> dict[str, Any]:
    """The record: claims first, then what they are made of."""
    seconds = {utterance["id"]: utterance["seconds"] for utterance in work["utterances"]}
    beside = {"espnet": "s2s", "speechbrain": "s2s, limited", "transformers": "s2s, attention alone"}
    runs, comparisons = {}, {}
    for name, answer in answers.items():
        runs[name] = answer if "left_out" in answer else figures(answer, seconds)
        if name in beside and "left_out" not in answer:
            comparisons[name] = comparison(answer, answers[beside[name]])
    ours, alone = runs["s2s"], runs["s2s"]["alone"]
    claims = {
        "s2s: search / encoder": ours["search_seconds"] / ours["encoder_seconds"],
        "s2s: search / encoder, one utterance at a time": alone["search_seconds"] / alone["encoder_seconds"],
    }
    for name, found in comparisons.items():
        claims[f"search: {name} / {beside[name]}"] = found["search_over_ours"]
        if "alone_over_ours_alone" in found:
            claims[f"search: {name} / {beside[name]}, one utterance at a time"] = found["alone_over_ours_alone"]
    return {
        "claims": claims,
        "comparisons": comparisons,
        "runs": runs,
        "work": {key: value for key, value in work.items() if key not in ("utterances", "model")}
        | {
            "utterances": len(seconds),
            "audio_seconds": sum(seconds.values()),
            "bundle": options.bundle and str(options.bundle),
        },
        **provenance(options.threads),
    }


def table(record: dict[str, Any]) -> str:
    def line(name: str, cells: list[Any]) -> str:
        texts = ["-" if cell is None else cell if isinstance(cell, str) else f"{cell:.4g}" for cell in cells]
        return f"{name:22}" + "".join(f"{text:>12}" for text in texts)

    header = ["/ ours", "same", "scores +-"]
    lines = [line("", ["utterances", "search s", "alone s", "encoder s", "utts/s", "RTF", "peak MiB", *header])]
    for name, run in record["runs"].items():
        if "left_out" in run:
            lines.append(f"{name:22}left out: {run['left_out']}")
            continue
        cells = [run["utterances"], run["search_seconds"], run["alone"].get("search_seconds"), run["encoder_seconds"]]
        cells += [run["utterances_per_second"], run["real_time_factor"], run["peak_rss_mb"]]
        found = record["comparisons"].get(name, {})
        keys = ("search_over_ours", "same_tokens", "largest_score_difference")
        lines.append(line(name, [*cells, *(found.get(key) for key in keys)]))
    return "\n".join([*lines, "", *(f"{name}: {value:.4g}" for name, value in record["claims"].items())])


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        with torch.inference_mode():
            (make_bundle_work if options.bundle else make_random_work)(folder, options)
        answers = run_all(folder, options)
        work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    record = summarise(work, answers, options)
    write_record(record, options.out)
    print(table(record))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
