"""Speech to text in several languages: training, decoding, transcribing and streaming one tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Cli
from safetensors.torch import load_file

import s2s
from s2s.audio.fbank import Fbank, FbankConfig
from s2s.data.corpus import load_corpus
from s2s.data.dataset import SpeechDataset
from s2s.data.directions import in_directions, reading
from s2s.data.parallel import Direction
from s2s.data.samples import load_samples
from s2s.decoding.config import DecodingConfig
from s2s.errors import UserError
from s2s.models.bundle import load_bundle
from s2s.pictures.sight import see
from s2s.streaming.settings import StreamSettings
from s2s.tokenizers import JointTokenizer, load_tokenizer, train_tokenizer
from s2s.training.config import load_train_config
from s2s.training.loop import Trainer
from s2s.training.speech_translation import SpeechTranslation
from s2s.training.tasks import make_task
from s2s.transcription.hybrid import HybridTranscriber

FRENCH = {"zero": "zéro", "one": "un", "two": "deux", "three": "trois", "four": "quatre"}
FRENCH |= {"five": "cinq", "six": "six", "seven": "sept", "eight": "huit", "nine": "neuf"}


@pytest.fixture(scope="module")
def data(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits with their French words, and tokenizers of both."""
    folder = tmp_path_factory.mktemp("speech")
    words = []
    for part in ("train", "dev"):
        shutil.copytree(digits / part, folder / part)
        lines = [line.split() for line in (folder / part / "text").read_text().splitlines()]
        french = [f"{name} {' '.join(FRENCH[word] for word in said).capitalize()}." for name, *said in lines]
        (folder / part / "text.fr").write_text("".join(f"{line}\n" for line in french))
        (folder / part / "utt2lang").write_text("".join(f"{name} en\n" for name, *_ in lines))
        words += [" ".join(said) for _, *said in lines] + [line.split(" ", 1)[1] for line in french]
    pieces = train_tokenizer("char", words)
    pieces.save(folder / "plain")
    JointTokenizer(pieces, ["en", "fr"]).save(folder / "prompted")
    return folder


def options(data: Path, tiny: list[str], tokenizer: str, *more: str) -> list[str]:
    return [
        *tiny,
        f"tokenizer={data / tokenizer}",
        f"data.train=[{data / 'train'}]",
        f"data.valid=[{data / 'dev'}]",
        "data.skip=[too_short,too_long,too_long_text]",
        "training.max_epochs=2",
        *more,
    ]


def train(folder: Path, overrides: list[str], config: str = "train_speech_translation") -> list[str]:
    said: list[str] = []
    Trainer(load_train_config(config, [f"exp_dir={folder}", *overrides]), said.append).run()
    return said


@pytest.fixture(scope="module")
def trained(data: Path, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model that recognises and translates, its CTC output over what is said, with layers of languages."""
    folder = tmp_path_factory.mktemp("trained")
    layers = "language_layers={num_languages: 2, target: [1]}"
    more = ["data.pairs=[en-en,en-fr]", "model.ctc_text=source", f"model.decoder.{layers}", "data.plain_share=0.3"]
    said = train(folder, options(data, tiny, "prompted", *more))
    (begun,) = (line for line in said if line.startswith("training "))
    assert "on 96 utterances" in begun
    assert "validating on 24" in begun
    return folder


def test_the_loss_of_what_is_written_falls(trained: Path) -> None:
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["valid_loss"] < records[0]["valid_loss"]
    assert 0.0 < records[-1]["valid_token_error"] < 1.0
    assert records[-1]["train_ctc"] > 0.0


def test_batches_have_what_is_said_beside_what_is_written(data: Path) -> None:
    tokenizer = load_tokenizer(data / "prompted")
    assert isinstance(tokenizer, JointTokenizer)
    cuts = in_directions(load_corpus(data / "dev").cuts, [Direction("en", "fr")])
    features = Fbank(FbankConfig(sampling_rate=8000))
    batch = SpeechDataset(tokenizer, features.eval(), prompts=tokenizer.prompts)[cuts]
    assert batch.asked is not None
    assert batch.spoken is not None
    spoken, lengths = batch.spoken
    references = dict(line.split(" ", 1) for line in (data / "dev/text").read_text().splitlines())
    for b, name in enumerate(batch.ids):
        assert tokenizer.decode(spoken[b, : lengths[b]].tolist()) == references[name]
        assert tokenizer.pieces(batch.asked.tokens[b].tolist()) == ["<en>", "<fr>", "<translate>", "<pnc>"]
        assert tokenizer.decode(batch.target[b, : batch.target_lengths[b]].tolist()).endswith(".")


def test_an_encoder_begins_with_that_of_a_recogniser_of_another_vocabulary(
    data: Path, digits: Path, tiny: list[str], tmp_path: Path
) -> None:
    train(tmp_path / "asr", [*tiny, "training.max_epochs=1"], "train")
    recogniser = tmp_path / "asr/checkpoints/epoch-0001"
    pairs, init = "data.pairs=[en-fr]", f"training.init={recogniser}"
    with pytest.raises(UserError, match=r"or take what knows no tokens: training\.init_only=\[encoder\]"):
        train(tmp_path / "st", options(data, tiny, "plain", pairs, init))
    frozen = ["training.freeze=[encoder]", "training.max_epochs=1"]
    only = "training.init_only=[encoder,normalise]"
    said = train(tmp_path / "st", options(data, tiny, "plain", pairs, init, only, *frozen))
    assert any("tensors taken" in line for line in said)
    ours = load_file(tmp_path / "st/checkpoints/epoch-0001/model.safetensors")
    theirs = load_file(recogniser / "model.safetensors")
    for name, tensor in theirs.items():
        if name.startswith(("encoder.", "normalise.")):
            assert ours[name].equal(tensor)
    model = s2s.load(tmp_path / "st/checkpoints/epoch-0001", DecodingConfig(beam_size=2, max_length=5))
    (found,) = model.transcribe(str(next((digits / "all/dev/audio").glob("*.flac"))))
    assert found.score < 0.0  # one language to write: nobody need say it
    with pytest.raises(UserError, match=r"language=en: this model knows one task and takes no prompt"):
        next(model.transcribe(str(next((digits / "all/dev/audio").glob("*.flac"))), language="en"))


def test_decode_and_transcribe_do_what_is_asked(trained: Path, data: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    model = max((trained / "checkpoints").iterdir())
    common = ("decode", "--model", model, "--data", data / "dev", "--num-workers", 0)
    short = "decoding.max_length=8"
    texts = {}
    for more in ((), ("--target-language", "fr"), ("--target-language", "fr", "--no-punctuation")):
        code, _, error = s2s_cli(*common, *more, short, "--out", tmp_path / str(len(more)))
        assert code == 0, error
        record = json.loads((tmp_path / str(len(more)) / "decode.json").read_text())
        assert record["utterances"] == 12
        texts[more] = (tmp_path / str(len(more)) / "text").read_text()
    assert len(set(texts.values())) > 1
    for more, message in {
        ("--target-language", "de"): "language 'de': the model has no token for it",
        ("--target-language", "fr", "decoding=ctc_greedy"): "CTC output learned what is said, not its translation",
        ("--target-language", "fr", "decoding=rescoring"): "CTC output learned what is said",
    }.items():
        code, _, error = s2s_cli(*common, *more, "--out", tmp_path / "no")
        assert code == 1
        assert message in error
    assert s2s_cli(*common, "decoding=ctc_greedy", "--out", tmp_path / "ctc")[0] == 0  # CTC recognises
    recording = (data / "dev/wav.scp").read_text().split()[1]
    transcribe = ("transcribe", "--model", model, recording, "--beam-size", 2)
    for more, message in {
        (): "language: this model has to be told what is spoken; it knows en, fr",
        (
            "--language",
            "en",
            "--task",
            "translate",
        ): "target_language: this model has to be told into what",
        ("--language", "en", "--target-language", "fr"): "is task=translate",
        ("--language", "en", "--initial-prompt", "Hi"): "takes no text before",
        ("--language", "xx"): "language 'xx': the model has no token for it",
        ("--language", "en", "--task", "translate", "--target-language", "fr", "--word-timestamps"): "word_timestamps",
    }.items():
        code, _, error = s2s_cli(*transcribe, *more)
        assert code == 1, more
        assert message in error
    translate = ("--language", "en", "--task", "translate", "--target-language", "fr")
    assert s2s_cli(*transcribe, *translate)[0] == 0
    assert s2s_cli(*transcribe, "--language", "en", "--word-timestamps")[0] == 0


def test_a_bundle_says_what_it_can_be_asked(trained: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    model = max((trained / "checkpoints").iterdir())
    code, out, _ = s2s_cli("info", trained)
    assert code == 0
    assert "last wrong next tokens" in out
    assert "en, fr; transcribe, translate" in out
    assert s2s_cli("bundle", model, "--out", tmp_path / "bundle")[0] == 0
    assert "s2s transcribe --model bundle --language en recording.wav" in (tmp_path / "bundle/README.md").read_text()


def test_the_same_text_alone_decoded_and_streamed(trained: Path, data: Path) -> None:
    model, decoding = max((trained / "checkpoints").iterdir()), DecodingConfig(beam_size=2, max_length=6)
    recordings = [line.split()[1] for line in (data / "dev/wav.scp").read_text().splitlines()][:4]
    transcriber = s2s.load(model, decoding)
    ask = {"language": "en", "task": "translate", "target_language": "fr"}
    together = [found.score for found in transcriber.transcribe(recordings, **ask)]  # type: ignore[arg-type]
    alone = [next(transcriber.transcribe(each, **ask)).score for each in recordings]  # type: ignore[arg-type]
    assert together == pytest.approx(alone, abs=1e-4)
    assert together != pytest.approx([f.score for f in transcriber.transcribe(recordings, language="en")], abs=1e-2)
    streamer = s2s.load_stream(
        model, StreamSettings.of(None, None, []), language="en", task="translate", target_language="fr"
    )
    session = streamer.session(8000)
    events = [*session.feed(load_samples(load_corpus(data / "dev").cuts[0])), *session.finish()]
    assert events is not None
    with pytest.raises(UserError, match="has to be told what is spoken"):
        s2s.load_stream(model, StreamSettings.of(None, None, []))
    assert isinstance(transcriber, HybridTranscriber)
    samples = load_samples(load_corpus(data / "dev").cuts[0])
    looked = [see(transcriber, samples, "one two", language).mean for language in ("en", "fr")]
    assert not torch.allclose(*looked)
    with pytest.raises(UserError, match="has to be told what is spoken"):
        see(transcriber, samples, "one two", None)


def test_heads_of_a_model_with_prompts_are_not_weighed(trained: Path, data: Path, tmp_path: Path, s2s_cli: Cli) -> None:
    model = max((trained / "checkpoints").iterdir())
    code, _, error = s2s_cli("prune", model, "--data", data / "dev", "--keep", "0.5", "--out", tmp_path / "no")
    assert code == 1
    assert "takes prompts" in error


@pytest.mark.parametrize(
    ("tokenizer", "overrides", "message"),
    [
        ("plain", [], r"data\.pairs is empty"),
        ("plain", ["data.pairs=[en-fr,en-en]"], r"data\.pairs: a model that writes en, fr has to be told which"),
        ("prompted", ["data.pairs=[en-de]"], r"data\.pairs: en-de: language 'de': .* It knows en, fr"),
        ("prompted", ["task=recognition"], r"task=recognition: knows no languages"),
        ("plain", ["data.pairs=[en-fr]", "model.ctc_text=sorce"], r"ctc_text=sorce: expected target or source"),
        ("plain", ["data.pairs=[en-fr]", "data.train=[]"], r"data\.train is empty"),
        ("prompted", ["data.pairs=[en-fr]", "data.plain_share=2"], r"data\.plain_share is 2"),
    ],
)
def test_what_cannot_be_trained_is_named(
    tokenizer: str, overrides: list[str], message: str, data: Path, tiny: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        train(tmp_path, options(data, tiny, tokenizer, *overrides))


def test_words_that_nobody_has_written_down_are_counted(data: Path, tiny: list[str], tmp_path: Path) -> None:
    shutil.copytree(data / "train", tmp_path / "train")
    lines = (tmp_path / "train/text").read_text().splitlines()
    (tmp_path / "train/text").write_text("\n".join(lines[2:]) + "\n")
    more = [f"data.train=[{tmp_path / 'train'}]", "data.pairs=[en-fr]"]

    def described(*other: str) -> tuple[str, list[str]]:
        said: list[str] = []
        task = make_task(load_train_config("train_speech_translation", options(data, tiny, "plain", *more, *other)))
        task.load(said.append)
        return task.described(), said

    assert described()[0].startswith("48 utterances")  # a translation alone is enough
    with pytest.raises(UserError, match=r"no words for ctc_text=source \[no_text\]"):
        described("model.ctc_text=source")
    found, said = described("model.ctc_text=source", "data.skip=[no_text,too_long_text]")
    assert found.startswith("46 utterances")
    assert "46 utterances, 2 left out (2 no_text)" in said[0]


def test_an_utterance_is_trained_on_in_one_direction_an_epoch(data: Path, tiny: list[str]) -> None:
    more = ["data.pairs=[en-en,en-fr]", "data.draw_direction=true"]
    task = make_task(load_train_config("train_speech_translation", options(data, tiny, "prompted", *more)))
    task.load(lambda text: None)
    assert isinstance(task, SpeechTranslation)
    epochs = [[cut.id for cut in task.epoch_cuts(epoch)] for epoch in (0, 0, 1)]
    assert len(epochs[0]) == 48
    assert len({name.split(":")[0] for name in epochs[0]}) == 48
    assert sorted(epochs[0]) == sorted(epochs[1]) != sorted(epochs[2])
    assert 10 < sum(name.endswith(":en-fr") for name in epochs[0]) < 38


@pytest.fixture(scope="module")
def reader(data: Path, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is given what is said as text beside the speech."""
    folder = tmp_path_factory.mktemp("reader")
    small = ["model.text_encoder.num_layers=1", "model=speech_and_text", "data.pairs=[en-fr]"]
    train(folder, options(data, tiny, "plain", *small))
    return max((folder / "checkpoints").iterdir())


def test_a_model_that_reads_what_is_said_writes_something_else_when_that_is_something_else(
    reader: Path, data: Path, tmp_path: Path, s2s_cli: Cli
) -> None:
    bundle = load_bundle(reader)
    model, dataset = bundle.model.eval(), SpeechDataset(None, bundle.features, spoken_tokenizer=bundle.tokenizer)
    cuts = list(load_corpus(data / "dev").cuts)[:3]
    batch = dataset[reading(cuts)]
    assert batch.spoken is not None
    memory = model.encode(batch.source, batch.source_lengths, spoken=batch.spoken)
    assert memory.sources is not None
    heard = batch.source_lengths.new_tensor([int(model.encoder.output_lengths(n)) for n in batch.source_lengths])
    assert torch.equal(memory.lengths, heard + batch.spoken[1])
    assert torch.equal(memory.heard.lengths, heard)
    tokens = torch.full((3, 1), model.bos_id)
    other = batch.spoken[0].roll(1, dims=0), batch.spoken[1].roll(1)
    swapped = model.encode(batch.source, batch.source_lengths, spoken=other)
    torch.testing.assert_close(swapped.heard.states, memory.heard.states)
    assert not torch.allclose(model.decoder(swapped, tokens), model.decoder(memory, tokens))
    for i, cut in enumerate(cuts):  # alone as in the batch
        one = dataset[reading([cut])]
        alone = model.encode(one.source, one.source_lengths, spoken=one.spoken)
        torch.testing.assert_close(alone.states[0], memory.states[i, : memory.lengths[i]], atol=1e-4, rtol=1e-4)

    whole = s2s_cli("decode", "--model", reader, "--data", data / "dev", "--out", tmp_path / "out")
    assert whole[0] == 0, whole[2]
    assert len((tmp_path / "out/text").read_text().splitlines()) == 12


def test_what_cannot_be_without_the_text_is_refused(
    reader: Path, data: Path, tiny: list[str], tmp_path: Path, s2s_cli: Cli
) -> None:
    shutil.copytree(data / "dev", tmp_path / "silent")
    (tmp_path / "silent/text").unlink()
    code, _, error = s2s_cli("decode", "--model", reader, "--data", tmp_path / "silent", "--out", tmp_path / "out")
    assert code == 1
    assert "has no text, and this model reads what is said beside hearing it" in error
    recording = next((data / "dev/wav.scp").open()).split()[1]
    code, _, error = s2s_cli("transcribe", "--model", reader, recording)
    assert code == 1
    assert "this model reads what is said beside hearing it, and nobody says it" in error
    with pytest.raises(UserError, match="text_encoder: reads the whole of what is said; it cannot be streamed"):
        _ = load_bundle(reader).model.streaming_encoder
    with pytest.raises(UserError, match="expected ctc_text=source"):
        train(
            tmp_path / "no",
            options(data, tiny, "plain", "model=speech_and_text", "data.pairs=[en-fr]", "model.ctc_text=target"),
        )
