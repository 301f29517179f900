"""Whisper's tokenizer: byte-level BPE, with special tokens for languages, tasks and times (arXiv:2212.04356)."""

from __future__ import annotations

import codecs
import json
import os
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from s2s.errors import UserError, nearest
from s2s.tokenizers.base import DESCRIPTION, SPACE, check_ids, save_files
from s2s.tokenizers.byte_bpe import ByteBPE

VOCABULARY = "vocabulary.tiktoken"
HUGGINGFACE_FILES = ("tokenizer.json", "vocab.json", "vocabulary.json", "vocabulary.txt")  # the last two: CTranslate2

_TABLE = """
    en English, zh Chinese, de German, es Spanish, ru Russian, ko Korean, fr French, ja Japanese, pt Portuguese,
    tr Turkish, pl Polish, ca Catalan, nl Dutch, ar Arabic, sv Swedish, it Italian, id Indonesian, hi Hindi, fi Finnish,
    vi Vietnamese, he Hebrew, uk Ukrainian, el Greek, ms Malay, cs Czech, ro Romanian, da Danish, hu Hungarian,
    ta Tamil, no Norwegian, th Thai, ur Urdu, hr Croatian, bg Bulgarian, lt Lithuanian, la Latin, mi Maori,
    ml Malayalam, cy Welsh, sk Slovak, te Telugu, fa Persian, lv Latvian, bn Bengali, sr Serbian, az Azerbaijani,
    sl Slovenian, kn Kannada, et Estonian, mk Macedonian, br Breton, eu Basque, is Icelandic, hy Armenian, ne Nepali,
    mn Mongolian, bs Bosnian, kk Kazakh, sq Albanian, sw Swahili, gl Galician, mr Marathi, pa Punjabi, si Sinhala,
    km Khmer, sn Shona, yo Yoruba, so Somali, af Afrikaans, oc Occitan, ka Georgian, be Belarusian, tg Tajik, sd Sindhi,
    gu Gujarati, am Amharic, yi Yiddish, lo Lao, uz Uzbek, fo Faroese, ht Haitian Creole, ps Pashto, tk Turkmen,
    nn Nynorsk, mt Maltese, sa Sanskrit, lb Luxembourgish, my Burmese, bo Tibetan, tl Tagalog, mg Malagasy, as Assamese,
    tt Tatar, haw Hawaiian, ln Lingala, ha Hausa, ba Bashkir, jw Javanese, su Sundanese, yue Cantonese
"""
LANGUAGES = dict(entry.split(maxsplit=1) for entry in _TABLE.strip().split(","))
"""Code and English name of each language, in the order of their ids."""

_CODES = (
    {code: code for code in LANGUAGES}
    | {name.lower(): code for code, name in LANGUAGES.items()}
    | {"iw": "he", "jv": "jw", "nb": "no", "fil": "tl", "cmn": "zh", "bokmål": "no", "castilian": "es", "farsi": "fa"}
    | {"filipino": "tl", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb", "mandarin": "zh", "moldavian": "ro"}
    | {"moldovan": "ro", "myanmar": "my", "panjabi": "pa", "pushto": "ps", "sinhalese": "si", "valencian": "ca"}
)
SPACELESS = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages written without spaces between words."""

_MARKS = frozenset(string.punctuation)
TASKS = ("transcribe", "translate")
_ENGLISH_EOT = 50256  # the end of text in GPT-2's own vocabulary, which the English-only models have
_NUM_TIMESTAMPS, _TIMESTAMPS_A_SECOND = 1501, 50  # 0.00 to 30.00 s
_EOT, _SOT, _NO_TIMESTAMPS, _FIRST_TIMESTAMP = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>", "<|0.00|>"
_OTHERS = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>")
_RENAMED = {"<|nocaptions|>": "<|nospeech|>", "<|iw|>": "<|he|>"}  # names in older files
_LANGUAGE, _TIMESTAMP = re.compile(r"<\|([a-z]{2,3})\|>"), re.compile(r"<\|\d+\.\d\d\|>")


class WhisperTokenizer:
    """Text to ids and back, and the special tokens of a Whisper model.

    `bpe` has the tokens of text, `special` the names and ids of the others; without <|0.00|> the timestamps follow
    <|notimestamps|>. Ids below V that are no token have no text. There is no blank and nothing unknown: `blank_id` and
    `unk_id` are -1. A model with the vocabulary of GPT-2 is English-only, though it has tokens of languages. Raises
    ValueError for a special token that is missing and for a token that is not below V.
    """

    kind = "whisper"
    blank_id = unk_id = -1

    def __init__(self, bpe: ByteBPE, special: Mapping[str, int], vocab_size: int) -> None:
        special = {_RENAMED.get(name, name): index for name, index in special.items()}
        for name in (_EOT, _SOT, *_OTHERS, _NO_TIMESTAMPS):
            if name not in special:
                raise ValueError(f"no token {name}: not a vocabulary of Whisper")
            if special[name] in bpe:
                raise ValueError(f"{name} has the id of a token of text, {special[name]}")
        largest = max(bpe.vocab_size - 1, *special.values())
        if largest >= vocab_size:
            raise ValueError(f"token {largest} is not below the size of the vocabulary, {vocab_size}")
        self.vocab_size = vocab_size
        self.eos_id, self.no_timestamps_id = special[_EOT], special[_NO_TIMESTAMPS]
        self.bos_id = self.sot_id = special[_SOT]
        self.translate_id, self.transcribe_id, self.sot_lm_id, self.sot_prev_id, self.no_speech_id = (
            special[name] for name in _OTHERS
        )
        self.timestamp_begin = special.get(_FIRST_TIMESTAMP, self.no_timestamps_id + 1)
        self.num_timestamps = max(0, min(_NUM_TIMESTAMPS, vocab_size - self.timestamp_begin))
        times = range(self.timestamp_begin, self.timestamp_begin + self.num_timestamps)

        self._bpe = bpe
        self._special = {n: i for n, i in special.items() if n == _FIRST_TIMESTAMP or not _TIMESTAMP.fullmatch(n)}
        self._names = {index: name for name, index in special.items()}
        self._names |= {index: f"<|{self.seconds(index):.2f}|>" for index in times}
        named = ((_LANGUAGE.fullmatch(name), index) for name, index in special.items())
        self.languages = dict(sorted(((m[1], index) for m, index in named if m), key=lambda language: language[1]))
        self.is_multilingual = bool(self.languages) and self.eos_id != _ENGLISH_EOT

    @classmethod
    def from_huggingface(cls, path: str | os.PathLike[str], vocab_size: int | None = None) -> WhisperTokenizer:
        """Read the vocabulary of a folder of Hugging Face or CTranslate2, or one file of it.

        The file is `tokenizer.json`, `vocab.json` (with `added_tokens.json` beside it), or CTranslate2's
        `vocabulary.json` or `.txt`. V is `vocab_size`, else what the tokens need. Merges are not read: ids are in order
        of merging, and files from before 2024 lack the first merge of the multilingual models, of a space and t. Raises
        UserError naming the file and key or line.
        """
        path = Path(path)
        if path.is_dir():
            found = [path / name for name in HUGGINGFACE_FILES if (path / name).is_file()]
            if not found:
                raise UserError(f"{path}: no vocabulary here: expected one of {', '.join(HUGGINGFACE_FILES)}")
            path = found[0]
        bpe = ByteBPE.from_vocabulary(path)
        if vocab_size is None:
            needed = bpe.special.get(_NO_TIMESTAMPS, -1) + 1 + _NUM_TIMESTAMPS
            vocab_size = bpe.vocab_size if _FIRST_TIMESTAMP in bpe.special else max(bpe.vocab_size, needed)
        return cls._made(bpe, bpe.special, vocab_size, path)

    @classmethod
    def from_tiktoken(cls, path: str | os.PathLike[str], vocab_size: int) -> WhisperTokenizer:
        """Read a `.tiktoken` file of OpenAI; V tells how many languages there are.

        Raises UserError for a file that is broken, and a V that Whisper does not have with this vocabulary.
        """
        bpe = ByteBPE.from_tiktoken(path)
        num_languages = vocab_size - bpe.vocab_size - len((_EOT, _SOT, *_OTHERS, _NO_TIMESTAMPS)) - _NUM_TIMESTAMPS
        if not 0 <= num_languages <= len(LANGUAGES):
            least = vocab_size - num_languages
            raise UserError(
                f"{path}: with these {bpe.vocab_size} tokens Whisper has {least} to {least + len(LANGUAGES)} in all, "
                f"the model has {vocab_size}; English-only models have gpt2.tiktoken, the others multilingual.tiktoken"
            )
        languages = [f"<|{code}|>" for code in list(LANGUAGES)[:num_languages]]
        names = [_EOT, _SOT, *languages, *_OTHERS, _NO_TIMESTAMPS]
        return cls._made(bpe, {name: i for i, name in enumerate(names, start=bpe.vocab_size)}, vocab_size, path)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> WhisperTokenizer:
        """Read the files that `save` wrote. Raises UserError where one is absent or broken."""
        path = Path(folder) / DESCRIPTION
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            special = {str(name): int(index) for name, index in description["special"].items()}
            vocab_size = int(description["vocab_size"])
        except OSError as error:
            raise UserError(f"{path}: cannot read it: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f'{path}: expected "vocab_size", and "special" with names and ids; restore it') from error
        return cls._made(ByteBPE.from_tiktoken(Path(folder) / VOCABULARY), special, vocab_size, path)

    @classmethod
    def _made(
        cls, bpe: ByteBPE, special: Mapping[str, int], vocab_size: int, path: str | os.PathLike[str]
    ) -> WhisperTokenizer:
        try:
            return cls(bpe, special, vocab_size)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `vocabulary.tiktoken` and `tokenizer.json`, which has the special tokens."""
        more = {"special": self._special}
        save_files(folder, self.kind, self.vocab_size, VOCABULARY, self._bpe.to_tiktoken(), more)

    def encode(self, text: str) -> list[int]:
        """The ids of the text as it is, nothing normalised: what Whisper writes begins with a space.

        Names of special tokens in it are text.
        """
        return self._bpe.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids without special tokens and timestamps; bytes that are not UTF-8 give U+FFFD."""
        check_ids(ids, self.vocab_size)
        return self._bpe.decode(ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The piece of every id: ▁ for a space, \\xe3 for a byte of part of a character, special tokens by name."""
        check_ids(ids, self.vocab_size)
        return [self._piece(index) for index in ids]

    def _piece(self, index: int) -> str:
        if index in self._bpe:
            return self._bpe.token_bytes(index).decode("utf-8", "backslashreplace").replace(" ", SPACE)
        return self._names.get(index, f"<|{index}|>")

    def seconds(self, index: int) -> float:
        """The time of a timestamp token. Raises ValueError for another token."""
        if not 0 <= index - self.timestamp_begin < self.num_timestamps:
            raise ValueError(f"id {index} is not a timestamp")
        return (index - self.timestamp_begin) / _TIMESTAMPS_A_SECOND

    def timestamp(self, seconds: float) -> int:
        """The timestamp token nearest to a time. Raises ValueError where there is none within a step, 0.02 s."""
        step = round(seconds * _TIMESTAMPS_A_SECOND)
        if not 0 <= step < self.num_timestamps:
            raise ValueError(f"no timestamp for {seconds} s: expected 0 to {self.num_timestamps - 1} times 0.02 s")
        return self.timestamp_begin + step

    def language_code(self, name: str) -> str:
        """The code of a language given by code or English name, in any case; a region, as in en-US, is passed over.

        Raises UserError for a language that is unknown, or that the model does not have.
        """
        key = name.strip().lower().replace("_", "-")
        code = next((_CODES.get(k, k) for k in (key, key.split("-")[0]) if k in _CODES or k in self.languages), None)
        if code is None:
            raise UserError(
                f"unknown language '{name}': expected a code or a name, such as de or German.{nearest(key, _CODES)}"
            )
        if not self.is_multilingual and code != "en":
            raise UserError(f"language '{name}': the model is English-only; choose a multilingual one, such as base")
        if self.is_multilingual and code not in self.languages:
            raise UserError(f"language '{name}': the model lacks it; it has {', '.join(self.languages)}")
        return code

    def prompt(
        self,
        language: str | None,
        task: str = "transcribe",
        timestamps: bool = True,
        previous: Sequence[int] = (),
        max_previous: int = 223,
    ) -> list[int]:
        """The tokens that the decoder is given: at most the last `max_previous` of `previous` text, language and task.

        223 leaves half of Whisper's 448 positions for what it writes. An English-only model has neither language nor
        task. Raises UserError for a language or a task that the model does not have, or no language where it needs one.
        """
        if task not in TASKS:
            raise UserError(f"unknown task '{task}': expected {' or '.join(TASKS)}.{nearest(task, TASKS)}")
        code = None if language is None else self.language_code(language)
        start = [self.sot_id]
        if self.is_multilingual:
            if code is None:
                raise UserError("a multilingual model needs the language, such as en; give it, or have it detected")
            start += [self.languages[code], self.translate_id if task == "translate" else self.transcribe_id]
        elif task == "translate":
            raise UserError("task 'translate': the model is English-only; choose a multilingual one, such as base")
        context = list(previous)[max(0, len(previous) - max_previous) :]
        if context:
            context.insert(0, self.sot_prev_id)
        return context + start + ([] if timestamps else [self.no_timestamps_id])

    def split_words(self, ids: Sequence[int], language: str | None = None) -> list[tuple[str, list[int]]]:
        """The words of the ids, each with its own ids; special tokens are passed over.

        A word begins with a token that begins with white space, or that is one punctuation mark of ASCII; with every
        token where `language` is the code of one written without spaces. Tokens that hold parts of one character stay
        together. The texts joined are `decode(ids)`.
        """
        check_ids(ids, self.vocab_size)
        words: list[tuple[str, list[int]]] = []
        for text, own in self._characters(ids):
            begins = text[:1].isspace() or text in _MARKS
            if begins or not words or language in SPACELESS:
                words.append((text, own))
            else:
                words[-1] = words[-1][0] + text, words[-1][1] + own
        return words

    def _characters(self, ids: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
        """The fewest tokens each that hold whole characters, with their text."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text, own = "", list[int]()
        for index in ids:
            if index not in self._bpe:
                continue
            data = self._bpe.token_bytes(index)
            if own and data and data[0] & 0xC0 != 0x80:  # no continuation byte: what came before stays incomplete
                yield text + decoder.decode(b"", final=True), own
                text, own = "", []
            text += decoder.decode(data)
            own.append(index)
            if not decoder.getstate()[0]:
                yield text, own
                text, own = "", []
        if own:
            yield text + decoder.decode(b"", final=True), own
