"""Which attention heads of OpenAI's Whisper models follow the audio in time."""

from __future__ import annotations

# The heads of each decoder layer by the size of the model, as published with the weights (openai/whisper, MIT).
HEADS: dict[str, dict[int, list[int]]] = {
    "tiny.en": {1: [0], 2: [0, 5], 3: [0, 1, 2, 3, 4]},
    "tiny": {2: [2], 3: [0, 2, 3, 4, 5]},
    "base.en": {3: [3], 4: [7], 5: [1, 5, 7]},
    "base": {3: [1], 4: [2, 3, 7], 5: [1, 2, 4, 6]},
    "small.en": {6: [6], 7: [0, 3, 8], 8: [2, 5, 7], 9: [0, 4, 8, 10], 10: [0, 1, 2, 3, 6, 11], 11: [2, 4]},
    "small": {5: [3, 9], 8: [0, 4, 7, 8], 9: [0, 7, 9], 10: [5]},
    "medium.en": {
        11: [4],
        14: [1, 12, 14],
        15: [4],
        16: [0, 4, 9],
        17: [12, 14],
        18: [7, 10, 15],
        20: [0, 3, 9, 14],
        21: [12],
    },
    "medium": {13: [15], 15: [4, 15], 16: [1], 20: [0], 23: [4]},
    "large-v1": {9: [19], 11: [2, 4, 17], 22: [7, 11, 17], 23: [2, 15]},
    "large-v2": {
        10: [12],
        13: [17],
        16: [11, 12, 13],
        17: [15, 16],
        18: [4, 11, 19],
        19: [11],
        21: [2, 3],
        22: [3, 9, 12],
        23: [5, 7, 13],
        25: [5],
        26: [1, 12],
        27: [15],
    },
    "large-v3": {7: [0], 10: [17], 12: [18], 13: [12], 16: [1], 17: [14], 19: [11], 21: [4], 24: [1], 25: [6]},
    "large-v3-turbo": {2: [4, 11], 3: [3, 6, 11, 14]},
}
# Sizes by width, encoder layers, decoder layers and vocabulary; large-v1 and large-v2 look alike, so neither is here.
SIZES = {
    (384, 4, 4, 51864): "tiny.en",
    (384, 4, 4, 51865): "tiny",
    (512, 6, 6, 51864): "base.en",
    (512, 6, 6, 51865): "base",
    (768, 12, 12, 51864): "small.en",
    (768, 12, 12, 51865): "small",
    (1024, 24, 24, 51864): "medium.en",
    (1024, 24, 24, 51865): "medium",
    (1280, 32, 32, 51866): "large-v3",
    (1280, 32, 4, 51866): "large-v3-turbo",
}


def alignment_heads(size: str | None, num_layers: int, num_heads: int) -> list[list[int]]:
    """The [layer, head] of a known size; without one, all heads of the upper half of the layers."""
    if size in HEADS:
        return [[layer, head] for layer, heads in HEADS[size].items() for head in heads]
    return [[layer, head] for layer in range(num_layers // 2, num_layers) for head in range(num_heads)]
