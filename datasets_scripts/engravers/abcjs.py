"""abcjs: a score staff from ABC notation, and under it bare numbers that it chooses itself.

It is told pitches and finds strings and frets, so the truth is taken from what it drew: each number is read off the
drawing, and the pitches are checked. Rhythm stands in the score staff alone. No training recipe of ours names it.
"""

from __future__ import annotations

import random
from typing import Any

from ...processing.alphatex_grammar import Beat, Note, Score, beat_length, read_alphatex, write_alphatex
from ...processing.alphatex_types import DEFAULT_TUNING
from ...processing.alphatex_visible import canonical_key
from .drawn import EngravedSystem, check_order
from .grouping import beam_groups, tuplet_groups
from .lilypond_source import semitone
from .process import EngraverWorker, picture_of, why_absent

NAME = "abcjs"
NOTE_EFFECTS = frozenset("t")
BEAT_EFFECTS: frozenset[str] = frozenset()
_TUNING = ["E,", "A,", "D", "G", "B", "e"]  # written, from the lowest string
_UNIT = 64  # ABC's lengths are counted in 64ths
_LINE_UNITS = 11.625  # of the drawing between two lines of the tab
_SHARP = ("C", "^C", "D", "^D", "E", "F", "^F", "G", "^G", "A", "^A", "B")
_FLAT = ("C", "_D", "D", "_E", "E", "F", "_G", "G", "_A", "A", "_B", "B")
#: Sharps (or flats, below 0) of the major keys.
_SIGNS = {"c": 0, "g": 1, "d": 2, "a": 3, "e": 4, "b": 5, "f#": 6, "c#": 7, "f": -1, "bb": -2, "eb": -3, "ab": -4,
          "db": -5, "gb": -6, "cb": -7}  # fmt: skip
_ORDER = "FCGDAEB"


def absent() -> str | None:
    """What lacks, in one line; `None` when it can draw."""
    return why_absent("abcjs") or why_absent("jsdom")


def visible(score: Score) -> Score:
    """The same score, changed in place, without what abcjs does not draw of it.

    Raises:
        ValueError: More than one voice, other than six strings, grace notes, or endings.
    """
    staff = score.staves[0]
    if any(len([v for v in bar.voices if v]) > 1 for bar in staff.bars) or staff.strings != 6:
        raise ValueError("abcjs draws one voice on six strings here")
    staff.tuning, staff.capo = None, 0  # a system does not tell them
    tied: set[int] = set()  # strings that sound on
    for bar in staff.bars:
        if bar.endings:
            raise ValueError("where an ending of abcjs stops is not told")
        bar.section, bar.other, bar.tempo = None, {}, None
        bar.repeat_close = min(bar.repeat_close, 2)
        for beat in bar.voices[0]:
            if beat.grace or beat.duration < 1:
                raise ValueError("abcjs has no numbers for grace notes, and nothing longer than a whole here")
            beat.effects = {}
            for note in beat.notes:
                note.effects = {name: args for name, args in note.effects.items() if name in NOTE_EFFECTS}
            held = {n.string for n in beat.notes if "t" in n.effects}
            if held - tied or (held and len(held) < len(beat.notes)):
                raise ValueError("a tie that starts outside of the system, or of a part of a chord, is not drawn")
            tied = {n.string for n in beat.notes}
    return score


def random_style(rng: random.Random) -> dict[str, Any]:
    """How a system is drawn."""
    return {
        "line_px": round(rng.uniform(8, 20), 2),
        "text_font": rng.choice(("arimo", "arimo", "tinos", "lora")),
        "bold": rng.random() < 0.2,
        "number_points": rng.choice((9, 11, 11, 11, 12)),
        "final_bar": rng.random() < 0.4,
    }


# --- ABC -----------------------------------------------------------------------------------------------------------


class _Speller:
    """Pitches as ABC writes them: a sign only where the key and the bar do not tell it."""

    def __init__(self) -> None:
        self.key, self.altered = "c", set[str]()

    def _from_key(self, letter: str) -> str:
        signs = _SIGNS[self.key]
        if signs > 0 and letter in _ORDER[:signs]:
            return "^"
        return "_" if signs < 0 and letter in _ORDER[signs:] else ""

    def __call__(self, pitch: int) -> str:
        """`pitch`: written MIDI number."""
        name = (_FLAT if _SIGNS[self.key] < 0 else _SHARP)[pitch % 12]
        letter, sign = name[-1], name[:-1]
        if sign != self._from_key(letter) or letter in self.altered:
            self.altered.add(letter)
            sign = sign or "="
        else:
            sign = ""
        octave = pitch // 12 - 5
        return sign + (letter + "," * -octave if octave < 0 or octave == 0 else letter.lower() + "'" * (octave - 1))


def _written(note: Note) -> int:
    return semitone(DEFAULT_TUNING[note.string - 1]) + note.fret + 12


def _beat(beat: Beat, held: bool, spell: _Speller) -> str:
    length = beat_length(beat.duration, beat.dots) * _UNIT
    if length.denominator > 1:
        raise ValueError("a note too short for ABC's unit")
    if beat.is_rest:
        return f"z{length}"
    notes = [spell(_written(n)) + ("-" if held else "") for n in sorted(beat.notes, key=_written)]
    return f"[{''.join(notes)}]{length}" if len(notes) > 1 else notes[0].rstrip("-") + f"{length}" + "-" * held


def abc_of(score: Score, style: dict[str, Any], metre: tuple[int, int] = (4, 4)) -> str:
    """ABC (standard 2.1) of a score of `visible`, all on one line.

    Raises:
        ValueError: Notes that ABC's unit does not divide.
    """
    bars, spell = score.staves[0].bars, _Speller()
    shown = bars[0].time_signature
    beats = [beat for bar in bars for beat in bar.voices[0]]
    place, music = 0, "|:" if bars[0].repeat_open else ""
    first_key = canonical_key(bars[0].key_signature) if bars[0].key_signature else "c"
    spell.key = first_key
    for number, bar in enumerate(bars):
        metre = bar.time_signature or metre
        if number and bar.time_signature:
            music += f"[M:{metre[0]}/{metre[1]}]"
        if number and bar.key_signature:
            spell.key = canonical_key(bar.key_signature)
            music += f"[K:{spell.key[0].upper()}{spell.key[1:]}]"
        spell.altered.clear()
        voice = bar.voices[0]
        tuplets, beams = tuplet_groups(voice), beam_groups(voice, metre)
        for k, beat in enumerate(voice):
            if tuplets[k] >= 0 and beat.tuplet and (k == 0 or tuplets[k - 1] != tuplets[k]):
                music += f"({beat.tuplet[0]}:{beat.tuplet[1]}:{tuplets.count(tuplets[k])}"
            after = beats[place + 1] if place + 1 < len(beats) else None
            music += _beat(beat, after is not None and any("t" in n.effects for n in after.notes), spell)
            together = k + 1 < len(voice) and beams[k] >= 0 and beams[k + 1] == beams[k]
            music += "" if together else " "
            place += 1
        opens, last = number + 1 < len(bars) and bars[number + 1].repeat_open, number + 1 == len(bars)
        if bar.repeat_close:
            music += "::" if opens else ":|"
        else:
            music += "|:" if opens else "|]" if last and style["final_bar"] else "|"
    header = f"X:1\nL:1/{_UNIT}\n"
    header += f"M:{shown[0]}/{shown[1]}\n" if shown else "M:none\n"
    return f"{header}K:{first_key[0].upper()}{first_key[1:]}\n{music}\n"


# --- the drawing ---------------------------------------------------------------------------------------------------


def _take_numbers(score: Score, answer: dict[str, Any]) -> dict[tuple[int, int, int], float]:
    """Writes the strings and frets that were drawn into the score; x of each beat.

    Raises:
        ValueError: Numbers of other pitches, or beats that were not drawn.
    """
    lines = answer["lines"]
    space = (lines[-1] - lines[0]) / (len(lines) - 1)
    beats = list(score.beats())
    if [item["rest"] for item in answer["rests"]] != [beat.is_rest for *_, beat in beats]:
        raise ValueError("the notes that were drawn are not those of the text")
    groups = iter(answer["heads"])
    before: list[Note] = []
    xs: dict[tuple[int, int, int], float] = {}
    for (_, bar, voice, k, beat), item in zip(beats, answer["rests"], strict=True):
        where = f"beat {k + 1} of bar {bar + 1}"
        xs[bar, voice, k] = item["x"]
        if beat.is_rest:
            continue
        tied = "t" in beat.notes[0].effects
        if tied:
            drawn = [(n.string, n.fret) for n in before]
        else:
            group = next(groups, None)
            if group is None:
                raise ValueError(f"{where} has no numbers")
            xs[bar, voice, k] = group["x"]
            below = 0.45  # a text's place is its foot
            places = [
                (round((y - lines[0]) / space - below) + 1, text)
                for y, text in zip(group["ys"], group["texts"], strict=True)
            ]
            if any(not text.isdigit() for _, text in places):
                raise ValueError(f"{where} was not drawn as numbers")
            drawn = [(string, int(text)) for string, text in places]
        if any(not 1 <= string <= 6 for string, _ in drawn):
            raise ValueError(f"{where} was drawn beside the tab")
        effects = beat.notes[0].effects
        notes = [Note(string=string, fret=fret, effects=dict(effects)) for string, fret in sorted(drawn)]
        if sorted(map(_written, notes)) != sorted(map(_written, beat.notes)) or len({n.string for n in notes}) < len(
            notes
        ):
            raise ValueError(f"{where} was drawn as other notes")
        beat.notes = before = notes
    if next(groups, None) is not None:
        raise ValueError("more numbers were drawn than the text has")
    return xs


def _bar_edges(answer: dict[str, Any], count: int) -> list[tuple[float, float]]:
    # A bar line comes once for each staff.
    places = sorted({round((left + right) / 2, 1) for left, right in answer["bars"]})
    if len(places) not in (count, count + 1):  # one more where a repeat starts at the first bar
        raise ValueError(f"{len(places)} bar lines were drawn for {count} bars")
    return list(zip([answer["x0"], *places[-count:-1]], places[-count:], strict=True))


def job_of(score: Score, style: dict[str, Any], metre: tuple[int, int] = (4, 4)) -> dict[str, Any]:
    """The drawing job of a score of `visible`."""
    beats = sum(1 for _ in score.beats())
    look = {name: style[name] for name in ("text_font", "bold", "number_points")}
    return look | {
        "verb": "draw", "engraver": NAME, "abc": abc_of(score, style, metre), "tuning": _TUNING,
        "staff_width": 400 + 150 * beats, "scale": style["line_px"] / _LINE_UNITS,
    }  # fmt: skip


def engrave(
    text: str, style: dict[str, Any], worker: EngraverWorker, name: str = "", metre: tuple[int, int] = (4, 4)
) -> EngravedSystem:
    """Draws the pitches of one system as score and tab; see `vexflow.engrave`. Strings and frets are abcjs's own.

    Raises:
        ValueError: A text that abcjs can not draw, or a drawing that does not agree with it.
        RenderError: abcjs failed.
    """
    from ..guitar_parts import shown_as

    score = shown_as(visible(read_alphatex(text)), "score+tabs")
    answer = worker.ask(job_of(score, style, metre))
    if len(answer["lines"]) != 6:
        raise ValueError(f"{len(answer['lines'])} lines were drawn")
    beat_x = _take_numbers(score, answer)
    check_order(beat_x)
    numbered = [(b, v, k, n.string) for _, b, v, k, beat in score.beats() for n in beat.notes if "t" not in n.effects]
    return EngravedSystem(
        image=picture_of(answer),
        text=write_alphatex(score),
        beat_x=beat_x,
        bar_x=_bar_edges(answer, len(score.staves[0].bars)),
        tab_line_ys=answer["lines"],
        has_score=True,
        engraver=NAME,
        name=name,
        metre=metre,
        note_y={place: answer["lines"][place[3] - 1] for place in numbered},
    )


__all__ = ["NAME", "abc_of", "absent", "engrave", "job_of", "random_style", "visible"]
