from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from s2s.decoding.alignment import Word
from s2s.errors import UserError
from s2s.pictures.alignment import alignment_figure, draw_alignment
from s2s.pictures.panels import spectrogram
from s2s.pictures.sight import Head, Sight

SIZE, FRAMES, FRAME = 5, 40, 0.04


def sight(stops: bool = False, segments: bool = False, num_layers: int = 2, start: float = 0.0) -> Sight:
    """Of a tone of a kilohertz that begins after half a second."""
    torch.manual_seed(0)
    times = torch.arange(12800) / 8000
    heads = [
        [
            Head(torch.rand(SIZE, FRAMES), torch.tensor([2, 9, 9, 20, 39]) - i if stops and layer else None)
            for i in range(3)
        ]
        for layer in range(num_layers)
    ]
    words = [Word("one", 0.1, 0.5), Word("two-and-a-half", 0.5, 0.6), Word("three", 0.6, 0.7)]
    return Sight(
        samples=torch.sin(2 * math.pi * 1000 * times) * (times > 0.5),
        sampling_rate=8000,
        seconds_per_frame=FRAME,
        words=[Word(word.text, word.start + start, word.end + start) for word in words],
        pieces=["▁one", "▁two-", "and-a-", "half", "▁three"],
        mean=torch.rand(SIZE, FRAMES),
        mean_of="all heads",
        heads=heads,
        spikes=torch.rand(FRAMES),
        segments=[(0, 4), (4, 9), (9, 10), (10, 20), (20, 31)] if segments else None,
        start=start,
    )


def drawn(figure: Figure) -> dict[str, Axes]:
    """The panels by what they are."""
    named = {"words": figure.axes[0], "spectrogram": figure.axes[1]}
    for axes in figure.axes[2:]:
        name = axes.get_title(loc="left") or axes.get_ylabel() or "over the spectrogram"
        assert name not in named
        named[name] = axes
    return named


def array(axes: Axes) -> np.ndarray:
    [image] = axes.get_images()
    return np.asarray(image.get_array())


def test_every_panel_shows_its_own_numbers_over_the_same_time() -> None:
    seen = sight()
    panels = drawn(alignment_figure(seen, "a title"))
    heads = [f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2, 3)]
    assert [*panels] == ["words", "spectrogram", "CTC", "mean of all heads", *heads]
    for axes in panels.values():
        assert axes.get_xlim() == (0.0, 1.6)
    np.testing.assert_array_equal(array(panels["spectrogram"]), spectrogram(seen.samples, 8000).numpy())
    assert panels["spectrogram"].get_images()[0].get_extent() == [0.0, 1.6, 0.0, 4.0]
    line = panels["CTC"].lines[0]
    assert seen.spikes is not None
    np.testing.assert_allclose(line.get_ydata(), seen.spikes)
    np.testing.assert_allclose(line.get_xdata(), FRAME * (np.arange(FRAMES) + 0.5), rtol=1e-6)
    every = [seen.mean, *(head.weights for layer in seen.heads for head in layer)]
    for name, weights in zip(["mean of all heads", *heads], every, strict=True):
        np.testing.assert_array_equal(array(panels[name]), weights.numpy())
        assert panels[name].get_images()[0].get_extent() == [0.0, pytest.approx(FRAMES * FRAME), SIZE, 0]
    labels = [label.get_text() for label in panels["mean of all heads"].get_yticklabels()]
    assert labels == seen.pieces
    assert panels["mean of all heads"].get_yticks().tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


def test_panels_do_not_cover_each_other_and_the_wide_ones_are_one_above_the_other() -> None:
    figure = alignment_figure(sight(), "a title")
    boxes = {name: axes.get_position() for name, axes in drawn(figure).items()}
    for one, other in combinations(boxes.values(), 2):
        assert one.x1 <= other.x0 or other.x1 <= one.x0 or one.y0 >= other.y1 - 1e-9 or other.y0 >= one.y1 - 1e-9
    wide = [boxes[name] for name in ("words", "spectrogram", "CTC", "mean of all heads")]
    assert len({(round(box.x0, 9), round(box.x1, 9)) for box in wide}) == 1
    assert all(0 <= box.x0 <= box.x1 <= 1 and 0 <= box.y0 <= box.y1 <= 1 for box in boxes.values())


def test_words_stand_over_their_times_and_none_covers_another_when_it_is_drawn() -> None:
    seen = sight()
    figure = alignment_figure(seen)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = drawn(figure)["words"].texts
    assert [text.get_text() for text in texts] == [word.text for word in seen.words]
    for text, word in zip(texts[:1], seen.words, strict=False):
        assert text.get_position()[0] == pytest.approx((word.start + word.end) / 2)
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    edges = {line.get_xdata()[0] for line in drawn(figure)["spectrogram"].lines}  # type: ignore[index]
    assert edges == {0.1, 0.5, 0.6, 0.7}


def test_names_of_tokens_do_not_cover_each_other_however_many_there_are() -> None:
    seen = replace(sight(num_layers=0), pieces=[f"▁p{u}g" for u in range(400)], mean=torch.rand(400, FRAMES))
    figure = alignment_figure(seen)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    labels = drawn(figure)["mean of all heads"].get_yticklabels()
    assert 40 < len(labels) < 400
    assert labels[1].get_text() == seen.pieces[round(labels[1].get_position()[1] - 0.5)]
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in labels]
    assert all(below.y1 <= above.y0 + 1.0 for above, below in pairwise(boxes))


def test_stops_are_steps_on_their_heads_on_the_mean_and_over_the_spectrogram() -> None:
    seen = sight(stops=True)
    panels = drawn(alignment_figure(seen))
    steps = []
    for head in seen.heads[1]:
        assert head.stops is not None
        frames = [frame for stop in head.stops.tolist() for frame in (stop, stop)]
        steps.append((FRAME * (np.array(frames) + 0.5), np.array([0, 1, 1, 2, 2, 3, 3, 4, 4, 5])))
    assert [line for number in (1, 2, 3) for line in panels[f"layer 1, head {number}"].lines] == []
    own = [panels[f"layer 2, head {number}"].lines[0] for number in (1, 2, 3)]
    for lines in (own, panels["mean of all heads"].lines[:3], panels["over the spectrogram"].lines):
        assert len(lines) == 3
        for line, (times, rows) in zip(lines, steps, strict=True):
            np.testing.assert_allclose(line.get_xdata(), times, rtol=1e-6)
            np.testing.assert_array_equal(line.get_ydata(), rows)
    assert panels["over the spectrogram"].get_ylim() == (SIZE, 0)


def test_segments_are_lines_over_the_spectrogram_and_boxes_on_the_attention() -> None:
    seen = replace(sight(segments=True, start=5.0), heads=[])
    panels = drawn(alignment_figure(seen))
    assert seen.segments is not None
    lines = [line for line in panels["spectrogram"].lines if line.get_color() == "cyan"]
    np.testing.assert_allclose([line.get_xdata()[0] for line in lines], [5 + FRAME * end for _, end in seen.segments])  # type: ignore[index]
    boxes = panels["mean of all heads"].collections[0].get_paths()
    for row, (path, (first, end)) in enumerate(zip(boxes, seen.segments, strict=True)):
        extent = path.get_extents()
        found = (extent.x0, extent.x1, extent.y0, extent.y1)
        assert found == pytest.approx((5 + FRAME * first, 5 + FRAME * end, row, row + 1))
    assert panels["spectrogram"].get_xlim() == pytest.approx((5.0, 6.6))


def test_which_heads_are_drawn_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sight()
    assert [*drawn(alignment_figure(seen, heads="mean"))][-1] == "mean of all heads"
    panels = drawn(alignment_figure(seen, heads="layers"))
    assert [*panels][-2:] == ["layer 1", "layer 2"]
    mean = torch.stack([head.weights for head in seen.heads[1]]).mean(dim=0)
    np.testing.assert_allclose(array(panels["layer 2"]), mean.numpy())
    monkeypatch.setattr("s2s.pictures.alignment.MOST_HEADS", 5)  # of six
    assert [*drawn(alignment_figure(seen))][-1] == "layer 2"
    assert [*drawn(alignment_figure(seen, heads="all"))][-1] == "layer 2, head 3"
    with pytest.raises(UserError, match=r"heads=layer: expected one of all, layers, mean\. Did you mean 'layers'\?"):
        alignment_figure(seen, heads="layer")
    with pytest.raises(UserError, match="heads=all: this decoder tells the mean of its heads alone"):
        alignment_figure(replace(seen, heads=[]), heads="all")


def test_what_is_not_there_is_left_out() -> None:
    bare = replace(sight(), words=[], heads=[], spikes=None)
    assert [*drawn(alignment_figure(bare))] == ["words", "spectrogram", "mean of all heads"]


def test_the_spectrogram_is_loudest_where_the_tone_is_and_silence_is_black() -> None:
    seen = sight()
    levels = spectrogram(seen.samples, 8000)
    height = levels.size(0) - 1
    assert int(levels[:, 200].argmax()) == pytest.approx(height / 4, abs=1)  # a kilohertz of four
    assert float(levels.max()) == pytest.approx(0.0)
    assert bool((levels[:, :80] == -70.0).all())  # 0.4 s
    assert bool((spectrogram(torch.zeros(8000), 8000) == -70.0).all())


def test_a_picture_is_written_whole_even_of_what_the_font_lacks(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    seen = replace(sight(), words=[Word("数字 $\\frac{1}$", 0.1, 0.2)], pieces=["数", "字", "$", "\\frac{", "$"])
    draw_alignment(seen, tmp_path / "a.png", title="$\\a_1$", heads="mean")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [*tmp_path.iterdir()] == [tmp_path / "a.png"]
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
