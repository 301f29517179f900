from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s2s.errors import UserError
from s2s.scoring.instances import read_instances
from s2s.scoring.json_lines import JsonLine, read_json_lines

LOGS = Path(__file__).parent / "latency_logs"


def speech(**changed: Any) -> dict[str, Any]:
    """Three words out of two seconds of speech; a change to ... takes the key away."""
    content = {
        "index": 0,
        "prediction": "ein altes Haus",
        "delays": [800.0, 1600.0, 2000.0],
        "elapsed": [850.0, 1700.5, 2300.0],
        "prediction_length": 3,
        "reference": "an old house here",
        "source": ["a.wav", "samplerate: 16000 Hz"],
        "source_length": 2000.0,
    } | changed
    return {key: value for key, value in content.items() if value is not ...}


def lines(*contents: dict[str, Any]) -> list[JsonLine]:
    return [JsonLine(f"log:{number}", content) for number, content in enumerate(contents, start=1)]


def test_what_simuleval_wrote_is_read() -> None:
    log = read_instances(read_json_lines(LOGS / "speech.log"))
    assert (log.source, log.has_references, len(log.instances)) == ("speech", True, 10)
    assert [len(instance.delays) for instance in log.instances] == [13, 14, 9, 9, 0, 19, 0, 10, 17, 6]
    assert all(
        instance.elapsed is not None and len(instance.elapsed) == len(instance.delays) for instance in log.instances
    )
    assert (log.instances[0].source_length, log.instances[0].target_length) == (5293.8125, 10)
    text = read_instances(read_json_lines(LOGS / "text.log"))
    assert (text.source, text.instances[0].source_length, text.instances[0].target_length) == ("text", 10, 9)
    assert all(instance.elapsed is None for instance in text.instances)
    characters = read_instances(read_json_lines(LOGS / "char.log"), "char")
    assert (characters.source, characters.instances[0].target_length) == (
        "text",
        len("年老いた犬は一日中庭で寝ていた。"),
    )


def test_references_are_as_long_as_simuleval_says() -> None:
    texts = {"a b": 2, "a  b": 3, "a b\n": 2, " a": 2, "": 1}
    for reference, length in texts.items():
        (instance,) = read_instances(lines(speech(reference=reference))).instances
        assert instance.target_length == length
    characters = speech(prediction="a bc", prediction_length=3, reference=" x yz\n")
    assert read_instances(lines(characters), "char").instances[0].target_length == 4
    for missing in (None, ...):
        log = read_instances(lines(speech(reference=missing)))
        assert (log.has_references, log.instances[0].target_length) == (False, 3)


def test_elapsed_times_may_be_absent() -> None:
    for elapsed in (..., None, [0, 0, 0]):
        assert read_instances(lines(speech(elapsed=elapsed))).instances[0].elapsed is None
    both = lines(speech(prediction="", delays=[], elapsed=[], prediction_length=0), speech(index=1))
    assert [instance.elapsed for instance in read_instances(both).instances] == [(), (850.0, 1700.5, 2300.0)]


@pytest.mark.parametrize("key", ["index", "prediction", "delays", "source", "source_length"])
def test_every_key_that_is_needed_is_named_where_missing(key: str) -> None:
    with pytest.raises(UserError, match=rf"log:2: no '{key}'"):
        read_instances(lines(speech(), speech(**{"index": 1, key: ...})))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"index": 0}, r"log:2: index 0 stands already at log:1"),
        ({"index": "1"}, r"log:2: 'index' is \"1\"; expected a whole number"),
        ({"index": True}, r"log:2: 'index' is true; expected a whole number"),
        ({"delays": [800, 700, 900]}, r"log:2: 'delays' falls from 800 to 700 at its item 2"),
        ({"elapsed": [800, 900, 100]}, r"log:2: 'elapsed' falls from 900 to 100"),
        ({"delays": [800, 900]}, r"log:2: 2 times in 'delays', but 3 words in 'prediction'.*--unit char"),
        ({"elapsed": [800, 900]}, r"log:2: 3 times in 'delays', but 2 in 'elapsed'"),
        ({"elapsed": ...}, r"log:2: no 'elapsed', but log:1 has one"),
        ({"prediction_length": 4}, r"log:2: 3 times in 'delays', but 4 as 'prediction_length'"),
        ({"prediction": "ein Haus"}, r"log:2: 3 times in 'delays', but 2 words in 'prediction'"),
        ({"prediction": ["ein"]}, r"log:2: 'prediction' is \[\"ein\"\]; expected a string"),
        ({"source_length": 0}, r"log:2: 'source_length' is 0; expected a number above 0"),
        ({"source_length": "2 s"}, r"log:2: 'source_length' is \"2 s\"; expected a finite number"),
        ({"source": "an old", "source_length": 2}, r"log:2: a source of text, but of speech at log:1"),
        ({"reference": None}, r"log:2: no 'reference', but log:1 has one"),
        ({"reference": 7}, r"log:2: 'reference' is 7; expected a string"),
        ({"durations": [10]}, r"log:2: the output is speech \(it has 'durations'\)"),
        ({"prediction_spm": ["▁a"]}, r"log:2: the output is SentencePiece units"),
    ],
)
def test_mistakes_are_named_with_their_line(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_instances(lines(speech(), speech(**{"index": 1, **changed})))


def test_units_are_words_or_characters() -> None:
    with pytest.raises(UserError, match=r"unknown unit 'chars': expected word or char. Did you mean 'char'\?"):
        read_instances(lines(speech()), "chars")
    with pytest.raises(UserError, match=r"but 12 chars in 'prediction'.*--unit word"):
        read_instances(lines(speech()), "char")
    with pytest.raises(UserError, match=r"'reference' is \" \"; expected a text"):
        read_instances(lines(speech(prediction="abc", reference=" ")), "char")
    with pytest.raises(UserError, match=r"log:1: no 'elapsed', but log:2 has one"):
        read_instances(lines(speech(elapsed=...), speech(index=1)))
