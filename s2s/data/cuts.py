"""What a Lhotse cut says about its utterance."""

from __future__ import annotations

from lhotse.cut import Cut, MixedCut, PaddingCut


def origin(cut: Cut) -> str:
    """The file and line that brought the cut in, such as `data/train/wav.scp:12`."""
    return str((cut.custom or {}).get("origin", f"utterance {cut.id}"))


def text(cut: Cut) -> str | None:
    """The words of the cut, None where it has none."""
    texts = [s.text for s in sorted(cut.supervisions, key=lambda s: s.start) if s.text and s.text.strip()]
    return " ".join(texts) or None


def speaker(cut: Cut) -> str | None:
    """The first speaker of the cut."""
    return next((str(s.speaker) for s in cut.supervisions if s.speaker is not None), None)


def language(cut: Cut) -> str | None:
    """The language that is spoken in the cut, None where nobody says."""
    return next((str(s.language) for s in cut.supervisions if s.language), None)


def translations(cut: Cut) -> dict[str, str]:
    """The words of the cut in other languages, by their codes (`translated_text`, as Lhotse's own recipes have it)."""
    parts = [(s.custom or {}).get("translated_text") or {} for s in sorted(cut.supervisions, key=lambda s: s.start)]
    codes = dict.fromkeys(code for part in parts for code in part)
    return {code: " ".join(part[code] for part in parts if part.get(code)) for code in codes}


def recorded(cut: Cut) -> list[Cut]:
    """The cuts of one recording each that a mixed one is made of; any other is alone."""
    if not isinstance(cut, MixedCut):
        return [cut]
    return [track.cut for track in cut.tracks if not isinstance(track.cut, PaddingCut)]


def audio_files(cut: Cut) -> list[str]:
    """The paths of the audio files of the cut; what is not a file (a URL, bytes) is left out."""
    return [source.source for part in recorded(cut) for source in part.recording.sources if source.type == "file"]
