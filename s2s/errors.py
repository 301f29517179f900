"""Errors a user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: the message names the file, line or key, what was expected and what to do."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint such as " Did you mean 'beam_size'?", or "" where nothing comes close."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""
