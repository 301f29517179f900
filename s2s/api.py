"""The Python interface: `load` a bundle, or other people's weights by name, then transcribe."""

from __future__ import annotations

import os
from dataclasses import replace

import torch

from s2s.decoding.build import build_search
from s2s.decoding.config import DecodingConfig, load_decoding_config
from s2s.decoding.engine import LabelSearch
from s2s.decoding.streaming.policies import build_policy, build_simultaneous
from s2s.errors import UserError
from s2s.models.bundle import Bundle, load_bundle, read_config
from s2s.models.hybrid import HybridModel
from s2s.models.segmental import SegmentalModel
from s2s.models.whisper import Whisper
from s2s.nn.quantise import set_dtype
from s2s.pretrained.names import find_model
from s2s.streaming.ears import HybridEar, WhisperEar
from s2s.streaming.hybrid import ChunkStreamer
from s2s.streaming.session import Streamer
from s2s.streaming.settings import StreamSettings
from s2s.streaming.whole import Ear, WholeStreamer
from s2s.tokenizers.whisper import SPACELESS
from s2s.transcription.hybrid import HybridTranscriber
from s2s.transcription.request import Request
from s2s.transcription.transcriber import Transcriber
from s2s.transcription.whisper import WhisperTranscriber
from s2s.translation import Translator, load_translation_model

DECODINGS: dict[type, str] = {Whisper: "whisper", SegmentalModel: "segmental"}  # of models that have one of their own


def load(
    model: str | os.PathLike[str],
    decoding: DecodingConfig | None = None,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
) -> Transcriber:
    """A transcriber from the name of a model ("whisper-base"), a bundle, or another toolkit's folder or file.

    Weights that have a name are fetched once, verified, and kept. `dtype` is float32, bfloat16, float16, or int8 for
    8-bit weights on a CPU. Raises UserError for what is not known, not whole, or not of a kind that transcribes.
    """
    bundle: Bundle = load_bundle(find_model(model), device, torch.nn.Module)
    if isinstance(bundle.model, Whisper):
        if decoding and decoding.ensemble:
            raise UserError("decoding.ensemble: is for hybrid CTC/attention models; leave it out for Whisper")
        return WhisperTranscriber(bundle, decoding, dtype=dtype)
    if not isinstance(bundle.model, HybridModel):
        raise UserError(f"{model}: its model, {type(bundle.model).__name__}, does not transcribe audio")
    if dtype not in ("float32", "int8"):
        raise UserError(f"dtype={dtype}: a hybrid CTC/attention model takes float32 or int8")
    return _hybrid(bundle, decoding, device, dtype)


def load_hybrid(
    folder: str | os.PathLike[str], decoding: DecodingConfig | None = None, device: str | torch.device = "cpu"
) -> HybridTranscriber:
    """As `load`, for what needs the bundle of a hybrid model: data sets of features, forced alignment."""
    return _hybrid(load_bundle(folder, device), decoding, device, "float32")


def _hybrid(
    bundle: Bundle[HybridModel], decoding: DecodingConfig | None, device: str | torch.device, dtype: str
) -> HybridTranscriber:
    others = {other: load_bundle(other, device) for other in decoding.ensemble} if decoding else {}
    for each in (bundle, *others.values()):
        set_dtype(each.model, dtype)
    return HybridTranscriber(bundle, decoding, others)


def load_translator(
    model: str | os.PathLike[str],
    decoding: DecodingConfig | None = None,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
) -> Translator:
    """A translator from a bundle, a folder of Marian's or BART's weights, or a repository of the hub; as `load`."""
    return Translator(load_translation_model(model, device, dtype), decoding)


def load_stream(
    model: str | os.PathLike[str],
    settings: StreamSettings | None = None,
    chunk: float | None = None,
    left: float | None = None,
    language: str | None = None,
    task: str = "transcribe",
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    target_language: str | None = None,
) -> Streamer:
    """A streamer, whose sessions are fed samples and give text while it is spoken, from a model as for `load`.

    An encoder that hears chunks hears `chunk` seconds at once (default: 0.64) and sees `left` before them (5.12). Any
    other model, and one that `settings` give a policy, hears all of a segment anew every `chunk` seconds (1). Raises
    UserError for what the model cannot do.
    """
    settings = settings or StreamSettings()
    transcriber = load(model, None if settings.policy is None else settings.decoding, device, dtype)
    return streamer_of(transcriber, settings, chunk, left, language, task, target_language)


def streamer_of(
    transcriber: Transcriber,
    settings: StreamSettings,
    chunk: float | None = None,
    left: float | None = None,
    language: str | None = None,
    task: str = "transcribe",
    target_language: str | None = None,
) -> Streamer:
    """As `load_stream`, with the weights of a transcriber, which goes on as before; a policy searches as it does."""
    if isinstance(transcriber, HybridTranscriber):
        request = transcriber.check(Request(language, task, target_language=target_language))
        asked = transcriber.prompt(language, request) if transcriber.prompts else None
        whole = asked is not None or transcriber.decoding_for(task) is not transcriber.decoding
        if settings.policy is None and transcriber.bundle.model.can_stream and not whole:
            return _chunk_streamer(transcriber, settings, chunk, left)
    if left is not None:
        raise UserError(f"left={left:g}: is for encoders that hear chunks, of which this model has none; leave it out")
    if isinstance(transcriber, HybridTranscriber):
        ear, decoding = HybridEar(transcriber.bundle, asked), transcriber.decoding_for(task)
        return _whole_streamer(transcriber, decoding, settings, chunk, ear, "local_agreement")
    assert isinstance(transcriber, WhisperTranscriber)
    own = WhisperEar(transcriber, language, task)
    spaces = task == "translate" or own.request.language not in SPACELESS
    return _whole_streamer(transcriber, transcriber.decoding, settings, chunk, own, "simul_whisper", spaces)


def _chunk_streamer(
    transcriber: HybridTranscriber, settings: StreamSettings, chunk: float | None, left: float | None
) -> ChunkStreamer:
    frame = transcriber.seconds_per_frame
    chunk_size = max(1, round((0.64 if chunk is None else chunk) / frame))
    left_chunks = max(0, round((5.12 if left is None else left) / (frame * chunk_size)))
    segmental = isinstance(transcriber.bundle.model, SegmentalModel)
    decoding = settings.decoding or load_decoding_config([f"decoding={'segmental' if segmental else 'ctc_prefix'}"])
    chunked = replace(decoding, chunk_size=chunk_size, left_chunks=left_chunks)
    return ChunkStreamer(transcriber.bundle, chunked, settings.endpoint)


def _whole_streamer(
    transcriber: HybridTranscriber | WhisperTranscriber,
    decoding: DecodingConfig,
    settings: StreamSettings,
    chunk: float | None,
    ear: Ear,
    name: str,
    spaces: bool = True,
) -> WholeStreamer:
    """One that hears by `ear` and commits by a policy, that of `name` if the settings say nothing."""
    policy = build_policy(settings.policy or name, settings.policy_options)
    bundle = transcriber.bundle
    if isinstance(bundle.model, SegmentalModel):
        raise UserError(
            "this segmental model hears whole utterances, and its decoder goes on with time and not from a text, as a "
            "policy wants; to stream it, train it with an encoder that hears chunks: model=streaming_segmental"
        )
    search = build_search(decoding, [bundle.model], bundle.tokenizer)
    if not isinstance(search, LabelSearch):
        raise UserError("decoding: a policy needs one search that goes on from a text, such as beam, greedy or joint")
    simultaneous = build_simultaneous(search, policy, bundle.model, bundle.tokenizer, spaces=spaces)
    return WholeStreamer(ear, simultaneous, 1.0 if chunk is None else chunk, settings.endpoint)


def default_decoding(bundle: str | os.PathLike[str]) -> str:
    """The decoding, of those in conf/decoding, with which `load` has a bundle search when it is given none."""
    target = read_config(bundle)["model"].get("_target_")
    own = {f"{model.__module__}.{model.__qualname__}": name for model, name in DECODINGS.items()}
    return own.get(target, "joint")
