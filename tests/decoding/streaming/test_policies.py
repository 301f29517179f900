from __future__ import annotations

import pytest
from toy import toy_bundle
from toy_monotonic import monotonic_model
from toy_whisper import toy_whisper_bundle

from s2s.decoding.build import build_search
from s2s.decoding.config import load_decoding_config
from s2s.decoding.engine import LabelSearch
from s2s.decoding.streaming.attention import AlignmentHeads, HeadMean, LastStop
from s2s.decoding.streaming.edatt import EDAtt
from s2s.decoding.streaming.policies import POLICIES, build_policy, build_simultaneous
from s2s.decoding.streaming.simul_whisper import SimulWhisper
from s2s.decoding.streaming.wait_k import WaitK
from s2s.errors import UserError


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_has_a_name_and_defaults(name: str) -> None:
    assert isinstance(build_policy(name), POLICIES[name])


def test_options_are_those_of_the_policy() -> None:
    assert build_policy("wait_k", {"k": 5, "piece_frames": None, "unit": "tokens"}) == WaitK(5, None, "tokens")
    assert build_policy("edatt", {"alpha": 1, "frames": 3}) == EDAtt(1, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("alignatt", {}, r"policy.name=alignatt: expected one of wait_k, .*Did you mean 'align_att'"),
        ("align_att", {"frame": 3}, r"policy.frame: align_att has frames only. Did you mean 'frames'"),
        ("edatt", {"heads": 3}, r"policy.heads: edatt has alpha and frames only"),
        ("edatt", {"alpha": "high"}, r"policy.alpha=high: expected a number"),
        ("wait_k", {"k": 2.5}, r"policy.k=2.5: expected a whole number"),
        ("wait_k", {"k": True}, r"policy.k=True: expected a whole number"),
        ("wait_k", {"piece_frames": "8"}, r"policy.piece_frames=8: expected a whole number or null"),
        ("hold_n", {"n": -3}, r"policy.n=-3: expected 0 or more"),
    ],
)
def test_what_a_policy_does_not_know_is_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_policy(name, options)


def test_whisper_is_asked_where_it_hears_and_other_models_where_they_look() -> None:
    whisper, hybrid = toy_whisper_bundle(), toy_bundle()
    searches = [
        build_search(load_decoding_config([f"decoding={name}"]), [bundle.model], bundle.tokenizer)
        for name, bundle in (("whisper", whisper), ("joint", hybrid))
    ]
    assert all(isinstance(search, LabelSearch) for search in searches)
    for_whisper, for_hybrid = searches
    built = build_simultaneous(for_whisper, SimulWhisper(), whisper.model, whisper.tokenizer)  # type: ignore[arg-type]
    assert isinstance(built.attend, AlignmentHeads)
    built = build_simultaneous(for_whisper, EDAtt(), whisper.model, whisper.tokenizer)  # type: ignore[arg-type]
    assert isinstance(built.attend, HeadMean)  # what sums to 1
    assert built.attend.heads == whisper.model.alignment_heads
    built = build_simultaneous(for_hybrid, EDAtt(), hybrid.model, hybrid.tokenizer)  # type: ignore[arg-type]
    assert isinstance(built.attend, HeadMean)
    assert built.attend.heads is None
    built = build_simultaneous(for_hybrid, EDAtt(), hybrid.model, hybrid.tokenizer, heads=[[0, 1]])  # type: ignore[arg-type]
    assert isinstance(built.attend, HeadMean)
    assert built.attend.heads == [(0, 1)]


def test_where_heads_stop_is_asked_of_decoders_that_have_such() -> None:
    bundle, model = toy_bundle(), monotonic_model(toy_bundle().tokenizer.vocab_size)
    search = build_search(load_decoding_config(["decoding=monotonic"]), [model], bundle.tokenizer)
    policy = build_policy("monotonic", {"frames": 2})
    built = build_simultaneous(search, policy, model, bundle.tokenizer)  # type: ignore[arg-type]
    assert isinstance(built.attend, LastStop)
    with pytest.raises(UserError, match=r"policy\.name=monotonic: no head of this decoder stops"):
        build_simultaneous(search, policy, bundle.model, bundle.tokenizer)  # type: ignore[arg-type]
