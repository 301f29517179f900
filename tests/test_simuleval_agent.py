"""The agent for SimulEval, run by it where it is installed, else by a stand-in of the classes that it builds on."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from toy_stream import RATE, sound, streaming_bundle

from s2s.api import load_stream
from s2s.streaming.settings import StreamSettings


class Action:
    """As simuleval.agents.actions has it, of 1.1.4."""

    def __init__(self, content: str | None = None, finished: bool = False) -> None:
        self.content, self.finished = content, finished


class States:
    """As simuleval.agents.states.AgentStates, of 1.1.4: the parts that an agent of speech sees."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.source: list[float] = []
        self.source_finished = self.target_finished = False
        self.source_sample_rate = 0


class Agent:
    """As simuleval.agents.SpeechToTextAgent, of 1.1.4."""

    def __init__(self, args: Any = None) -> None:
        self.states = self.build_states()
        self.states.reset()

    def build_states(self) -> States:
        return States()


@pytest.fixture
def agent_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if find_spec("simuleval") is None:
        parts = {
            "simuleval": {},
            "simuleval.agents": {"SpeechToTextAgent": Agent},
            "simuleval.agents.actions": {"Action": Action, "ReadAction": Action, "WriteAction": Action},
            "simuleval.agents.states": {"AgentStates": States},
            "simuleval.utils": {"entrypoint": lambda cls: cls},
        }
        for name, content in parts.items():
            module = ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "s2s.simuleval_agent", raising=False)
    import s2s.simuleval_agent as module

    return module


def test_words_are_written_as_they_are_committed_to_and_all_at_the_end(
    agent_module: ModuleType, tmp_path: Path
) -> None:
    streaming_bundle().save(tmp_path / "bundle")
    parser = ArgumentParser()
    agent_module.StreamAgent.add_args(parser)
    given = ["--decoding", "ctc_greedy", "--chunk", "0.16", "--left", "0.64", "--set", "endpoint.max_length=1"]
    agent = agent_module.StreamAgent(parser.parse_args(["--model", str(tmp_path / "bundle"), *given]))
    samples, segment = sound(3.0), round(0.32 * RATE)
    written: list[tuple[int, str, bool]] = []
    for sentence in range(2):  # the second as if there had been no first
        agent.states.reset()
        agent.states.source_sample_rate = RATE
        for start in range(0, len(samples), segment):
            agent.states.source += samples[start : start + segment].tolist()
            agent.states.source_finished = start + segment >= len(samples)
            action = agent.policy()
            if getattr(action, "content", None) is not None:
                written.append((sentence, action.content, action.finished))
    first, second = ([(text, end) for number, text, end in written if number == n] for n in range(2))
    assert first == second
    assert [end for _, end in first] == [False] * (len(first) - 1) + [True]
    assert len(first) > 3
    settings = StreamSettings.of("ctc_greedy", None, ["endpoint.max_length=1"])
    session = load_stream(tmp_path / "bundle", settings, 0.16, 0.64).session()
    events = session.feed(samples) + session.finish()
    assert " ".join(text for text, _ in first).split() == [
        word for event in events if event.kind == "final" for word in event.text.split()
    ]
