from __future__ import annotations

import pytest

from s2s.errors import UserError
from s2s.transcription.request import Request


def test_a_task_that_is_none_is_refused() -> None:
    assert Request().task == "transcribe"
    with pytest.raises(UserError, match=r"task=transalte: expected transcribe or translate\. Did you mean 'translate'"):
        Request(task="transalte")
