"""Tiny Marian and BART models with random weights and vocabularies of a few lines, as transformers keeps them."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import peers
import sentencepiece
import torch

ENGLISH = ["the little cat sees a bird", "a bird sees the sea", "we see the little house", "the house is by the sea"]
GERMAN = ["die kleine Katze sieht einen Vogel", "ein Vogel sieht das Meer", "wir sehen das Haus", "das Haus am Meer"]
LANGUAGES = (">>deu<<", ">>nld<<")
EOS, UNK, PAD = "</s>", "<unk>", "<pad>"
BART_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("e", "e"), ("Ġ", "s"), ("Ġs", "ee")]
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTES = [chr(byte) for byte in _VISIBLE] + [chr(256 + i) for i in range(256 - len(_VISIBLE))]
_SHAPE: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 20,
    "max_position_embeddings": 64,
}


def spm_model(lines: list[str], vocab_size: int = 40) -> bytes:
    """A sentencepiece model of some lines, as sentencepiece makes it by itself."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()


def spm_pieces(model: bytes) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]  # without <unk>, <s>, </s>


def write_marian_tokenizer(folder: Path, separate: bool = False, languages: tuple[str, ...] = ()) -> tuple[int, int]:
    """The files of a Marian tokenizer; the sizes of its source and target vocabularies."""
    folder.mkdir(parents=True, exist_ok=True)
    source, target = spm_model(ENGLISH), spm_model(GERMAN)
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    english, german = spm_pieces(source), spm_pieces(target)
    sides = (english, german) if separate else (list(dict.fromkeys([*english, *german])),)
    # Of two vocabularies <pad> has the same id in both.
    orders = [[EOS, UNK, PAD, *pieces] if separate else [EOS, UNK, *pieces, PAD] for pieces in sides]
    orders[0][2 + separate : 2 + separate] = languages
    vocabularies = [{piece: i for i, piece in enumerate(order)} for order in orders]
    for name, vocabulary in zip(("vocab.json", "target_vocab.json"), vocabularies, strict=False):
        (folder / name).write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    settings = {"separate_vocabs": separate, "source_lang": "en", "target_lang": "de"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return len(vocabularies[0]), len(vocabularies[-1])


def write_bart_tokenizer(folder: Path) -> int:
    """`vocab.json` and `merges.txt` of a BART tokenizer; the size of its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*BART_SPECIAL, *BYTES, *(a + b for a, b in MERGES), "<mask>"]
    vocabulary = {name: i for i, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    merges = "".join(f"{a} {b}\n" for a, b in MERGES)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
    return len(names)


def random_marian(vocab_size: int, seed: int = 0, **settings: Any) -> Any:
    """transformers' own model, its biases and norms random too; encoder and decoder of different shapes."""
    transformers = peers.transformers()
    pad = 2 if "decoder_vocab_size" in settings else vocab_size - 1
    chosen = {
        "activation_function": "swish",
        "scale_embedding": True,
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
        "eos_token_id": 0,
        "forced_eos_token_id": None,
    }
    config = transformers.MarianConfig(vocab_size=vocab_size, **_SHAPE, **chosen | settings)
    model = _randomised(transformers.MarianMTModel(config), seed)
    model.generation_config.bad_words_ids = [[pad]]
    return model


def random_bart(vocab_size: int, seed: int = 0, **settings: Any) -> Any:
    """The same of BART."""
    transformers = peers.transformers()
    config = transformers.BartConfig(vocab_size=vocab_size, **_SHAPE, **{"forced_eos_token_id": None} | settings)
    return _randomised(transformers.BartForConditionalGeneration(config), seed)


def _randomised(model: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    _randomise(model)
    model.final_logits_bias = _out_bias(model.final_logits_bias, model.config.eos_token_id)
    return model.eval()


def _randomise(model: torch.nn.Module) -> None:
    """Weights whose texts end, and vary where no two tokens may follow each other twice."""
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
        elif parameter.requires_grad:  # Marian's positions are fixed
            is_small = parameter.dim() == 1 or any(part in name for part in ("shared", "embed_tokens", "embedding"))
            torch.nn.init.normal_(parameter, std=0.2 if is_small else 1.0)


def _out_bias(like: torch.Tensor, eos_id: int) -> torch.Tensor:
    bias = 0.2 * torch.randn_like(like)
    bias[..., eos_id] = 0.4 + 0.3 * math.log(like.numel())
    return bias


def write(model: Any, folder: Path, **settings: Any) -> Path:
    """Save the model as transformers does; `settings` are those of its generation_config.json."""
    for key, value in settings.items():
        setattr(model.generation_config, key, value)
    model.save_pretrained(folder)
    return folder


def toy_translation_bundle(folder: Path, languages: tuple[str, ...] = (), seed: int = 6, **decoding: Any) -> Any:
    """A whole Marian of our own, untrained, whose texts end; its tokenizer's files are written to `folder`."""
    from s2s.models.build import build
    from s2s.models.translation_bundle import TranslationBundle
    from s2s.tokenizers.marian import MarianTokenizer

    write_marian_tokenizer(folder, languages=languages)
    tokenizer = MarianTokenizer.from_huggingface(folder)
    size = tokenizer.vocab_size
    small = {"model_dim": 16, "num_layers": 1, "num_heads": 2, "feed_forward_dim": 16}
    small |= {"positions": "learned", "max_positions": 40}
    front = {"_target_": "s2s.nn.embedding.TokenFront", "vocab_size": size, "model_dim": 16}
    config = {
        "_target_": "s2s.models.encoder_decoder.EncoderDecoder",
        "vocab_size": size,
        "encoder": {"_target_": "s2s.models.transformer_encoder.TransformerEncoder", "front": front, **small},
        "decoder": {
            "_target_": "s2s.models.transformer_decoder.TransformerDecoder",
            "vocab_size": size,
            "memory_dim": 16,
            "tie_output": True,
            **small,
        },
        "bos_id": tokenizer.bos_id,
        "eos_id": tokenizer.eos_id,
    }
    torch.manual_seed(seed)
    model: Any = build(config)
    _randomise(model)
    model.decoder.out_bias.data = _out_bias(model.decoder.out_bias.data, tokenizer.eos_id)
    return TranslationBundle(model.eval(), tokenizer, config, {"no_repeat_ngram": 2, **decoding})
