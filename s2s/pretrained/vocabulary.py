"""The vocabulary of Whisper weights that come without one."""

from __future__ import annotations

from pathlib import Path

from s2s.errors import UserError
from s2s.models.bundle import TOKENIZER
from s2s.pretrained.fetch import cache_folder, fetch, sha256
from s2s.pretrained.packages import PACKAGES, locate
from s2s.tokenizers.whisper import HUGGINGFACE_FILES, VOCABULARY, WhisperTokenizer

ENGLISH_SIZE = 51864  # pieces of the English models; the others have more
ENGLISH, MULTILINGUAL = "gpt2.tiktoken", "multilingual.tiktoken"
URL = "https://raw.githubusercontent.com/openai/whisper/v20250625/whisper/assets/"
SHA256 = {
    ENGLISH: "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    MULTILINGUAL: "b34b360dbb493e781e479794586d661700670d65564001f23024971d1f2fa126",
}


def vocabulary_beside(path: Path, vocab_size: int) -> WhisperTokenizer | None:
    """The tokenizer in the folder of the weights, or None where there is none."""
    if any((path / name).is_file() for name in HUGGINGFACE_FILES):
        return WhisperTokenizer.from_huggingface(path, vocab_size)
    return None


def read_vocabulary(path: Path, vocab_size: int) -> WhisperTokenizer:
    """The tokenizer of `vocab_size` pieces in a file of OpenAI or Hugging Face, a folder with one, or a bundle.

    Raises UserError where there is none, or it is of another size.
    """
    openai = ENGLISH if vocab_size == ENGLISH_SIZE else MULTILINGUAL
    if path.suffix == ".tiktoken" or (path / openai).is_file():
        return WhisperTokenizer.from_tiktoken(path / openai if path.is_dir() else path, vocab_size)
    saved = [folder for folder in (path, path / TOKENIZER) if (folder / VOCABULARY).is_file()]
    tokenizer = WhisperTokenizer.load(saved[0]) if saved else WhisperTokenizer.from_huggingface(path)
    if tokenizer.vocab_size != vocab_size:
        raise UserError(f"{path}: it has {tokenizer.vocab_size} tokens, the model {vocab_size}; give the model's own")
    return tokenizer


def find_vocabulary(vocab_size: int) -> WhisperTokenizer:
    """OpenAI's vocabulary of that many pieces: from an installed package, else fetched once and kept.

    Raises UserError where none is installed and there is no network.
    """
    name = ENGLISH if vocab_size == ENGLISH_SIZE else MULTILINGUAL
    installed = locate(f"whisper/assets/{name}")  # of openai-whisper
    if installed and sha256(installed) == SHA256[name]:
        return read_vocabulary(installed, vocab_size)
    for package in PACKAGES.values():
        for path in package.vocabulary.find() or []:
            tokenizer = WhisperTokenizer.from_huggingface(path)
            if tokenizer.vocab_size == vocab_size:
                return tokenizer
    try:
        return read_vocabulary(fetch(URL + name, cache_folder() / "vocabulary" / name, SHA256[name]), vocab_size)
    except UserError as error:
        raise UserError(
            f"these weights come without a vocabulary, none of Whisper's is installed, and it cannot be fetched "
            f"({error}); give one with --vocabulary, such as a tokenizer.json or {name}"
        ) from error
