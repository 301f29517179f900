"""Our streams as an agent of SimulEval (Ma et al. 2020, arXiv:2007.16193): simuleval --agent s2s/simuleval_agent.py

Sources are speech, in segments of `--source-segment-size` milliseconds; a word is written when it is committed to.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import torch
from simuleval.agents import SpeechToTextAgent
from simuleval.agents.actions import Action, ReadAction, WriteAction
from simuleval.agents.states import AgentStates
from simuleval.utils import entrypoint

from s2s.api import load_stream
from s2s.streaming.committed import CommittedWords
from s2s.streaming.session import StreamSession
from s2s.streaming.settings import StreamSettings


class _States(AgentStates):
    """A sentence: its session, begun with its first samples."""

    def reset(self) -> None:
        super().reset()
        self.session: StreamSession | None = None
        self.committed = CommittedWords()
        self.heard = 0  # of the source's samples


@entrypoint
class StreamAgent(SpeechToTextAgent):
    """Hears a sentence as it comes, and writes the words that the stream commits to."""

    def __init__(self, args: Namespace) -> None:
        if args.threads:
            torch.set_num_threads(args.threads)
        settings = StreamSettings.of(args.decoding, args.policy, args.set or [])
        self.streamer = load_stream(
            args.model, settings, args.chunk, args.left, args.language, args.task, args.stream_device, args.stream_dtype
        )
        super().__init__(args)

    @staticmethod
    def add_args(parser: ArgumentParser) -> None:
        """The options of `s2s stream`."""
        parser.add_argument("--model", required=True, help="bundle, or name of a model")
        parser.add_argument("--chunk", type=float, help="seconds of speech that are heard at once")
        parser.add_argument("--left", type=float, help="seconds before a chunk that it sees")
        parser.add_argument("--decoding", help="of a hybrid model")
        parser.add_argument("--policy", help="of a model that hears everything anew")
        parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="as of s2s stream; repeat it")
        parser.add_argument("--language", help="what is spoken")
        parser.add_argument("--task", default="transcribe", help="transcribe, or translate into English")
        parser.add_argument("--threads", type=int)
        parser.add_argument("--stream-device", default="cpu")
        parser.add_argument("--stream-dtype", default="float32")

    def build_states(self) -> _States:
        return _States()

    def policy(self, states: _States | None = None) -> Action:
        """Write what the stream commits to when it hears what is new of the source; else read."""
        states = states or self.states
        if states.session is None:
            states.session = self.streamer.session(states.source_sample_rate or None)
        samples = torch.tensor(states.source[states.heard :], dtype=torch.float32)
        states.heard = len(states.source)
        events = states.session.feed(samples)
        if states.source_finished:
            events += states.session.finish()
        words = [word for event in events for word in states.committed.new(event)]
        if words or states.source_finished:
            return WriteAction(" ".join(words), finished=states.source_finished)
        return ReadAction()
