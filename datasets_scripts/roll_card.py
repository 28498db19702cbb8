"""The card of a data set of piano rolls (`build_midi.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..processing.piano_roll import NUM_LOUDNESS, WINDOW_STEPS, codes_in_all


def card(settings: dict[str, Any], report: dict[str, Any], splits: Sequence[str], min_notes: int) -> str:
    """Data set card."""
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in splits)
    table = "".join(f"| {split} | {report['pieces'][split]} | {report['rows'][split]} |\n" for split in splits)
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(report["sources"].items()))
    classes = settings.get("loudness_classes", NUM_LOUDNESS)
    last = codes_in_all(classes) - 1
    named = "loudness" if classes == NUM_LOUDNESS else "velocity (`loudness_classes`)"
    return f"""---
pretty_name: Piano rolls with attributes
tags:
- music
- midi
- piano-roll
configs:
- config_name: default
  data_files:
{files}---
# Piano rolls with attributes

Windows of 128 pitches by {WINDOW_STEPS} steps, {settings["steps_per_quarter"]} steps to the quarter note, which begin
at bar lines.

| split | pieces | windows |
|---|---|---|
{table}
Windows by source: {kinds}.

Training windows begin every {settings["hop_steps"]} steps or a little sooner, held-out ones do not overlap but at the
end of a piece. {settings["corpus"]} files of the music21 corpus were asked for (-1: all). {report["failures"]} files or
pieces failed; {report["dropped"]} training windows were left out because they share four bars with a held-out window.

**Columns.** `codes` 128 x {WINDOW_STEPS} bytes, row = MIDI pitch: 0 silence, 1 held, 2 to {last} onset by {named} ·
`source`, `piece_id`, `title`, `composer` · `window` its number in the piece, `bar` its first bar and `start_step` its
first step (from 0), `num_steps` steps before the piece ends · `tempo` quarters a minute (none where the file names
none), `metre`, `key`, `mode`, `key_fit` (correlation with the Krumhansl-Kessler profile), `density` onsets a quarter,
`register` mean pitch, `polyphony` sounding pitches, `range` semitones, `dynamics` mean velocity, `sustain` mean length
in quarters, `leaps` share of leaps in the top line: measured in the window · `split`.

**Splits** are drawn by a hash of the name of the work before anything is cut, so no work is in two of them.

**Not in it.** Drums, pedal, grace notes, repeats of scores (every bar once), windows with fewer than {min_notes} notes.
Scores without dynamics marks have mezzo forte throughout.

**Licence.** Every piece keeps its own licence.
"""


__all__ = ["card"]
