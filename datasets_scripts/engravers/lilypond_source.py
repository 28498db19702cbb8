"""A score of one staff and one voice as LilyPond source of our own, each beat on a line of its own.

LilyPond takes its frets from pitches and string numbers, so a tab of its own tuning shows exactly ours. The lines of
the beats come back with the drawing (`REPORT`) and say which beat each number and rest belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from ...processing.alphatex_grammar import Bar, Beat, Note, Score, Staff
from ...processing.alphatex_types import DEFAULT_TUNING, spell_pitch
from ...processing.alphatex_visible import canonical_key
from .grouping import tuplet_groups

#: Line of the source -> (bar, voice, beat).
Places = dict[int, tuple[int, int, int]]
#: Bends are written as notes to go to, one for each way.
BENDS = {"bend": 1, "bendrelease": 2}
#: Frets that slides from and to nowhere come from and go to.
SLIDES_IN = {"sib": -2, "sia": 2}
SLIDES_OUT = {"sod": -2, "sou": 2}

_FLAT_KEYS = {"f", "bb", "eb", "ab", "db", "gb", "cb"}
_SHARP = ("c", "cis", "d", "dis", "e", "f", "fis", "g", "gis", "a", "ais", "b")
_FLAT = ("c", "des", "d", "ees", "e", "f", "ges", "g", "aes", "a", "bes", "b")
_KEY_ENDINGS = {"": "", "#": "is", "b": "es"}
_STEPS = {"C": 0, "Db": 1, "D": 2, "Eb": 3, "E": 4, "F": 5, "Gb": 6, "G": 7, "Ab": 8, "A": 9, "Bb": 10, "B": 11}
_WORDS = {"tt": "T", "s": "S", "p": "P"}
_STROKES = {"su": "\\upbow", "sd": "\\downbow"}
_ARPEGGIOS = {"ad": "UP", "au": "DOWN"}
_SCORE_SIGNS = {"st": "\\staccato", "ac": "\\accent", "hac": "\\marcato"}

#: Run over the finished page: one line for each thing whose place is asked, in staff spaces of the page.
REPORT = r"""
#(define (tell-places layout pages)
  (define (tell grob system name)
    (let* ((cause (ly:grob-property grob 'cause))
           (origin (and (ly:stream-event? cause) (ly:event-property cause 'origin)))
           (x (ly:grob-extent grob system X))
           (y (ly:grob-extent grob system Y)))
      (if (and (interval-sane? x) (interval-sane? y))
        (format #t "@~a ~a ~a ~a ~a ~a ~a\n" name (car x) (cdr x) (car y) (cdr y)
          (if (ly:input-location? origin) (cadr (ly:input-file-line-char-column origin)) 0)
          (markup->string (ly:grob-property grob 'text ""))))))
  (for-each (lambda (page)
    (for-each (lambda (line y)
      (let ((system (ly:prob-property line 'system-grob)))
        (format #t "@System ~a ~a ~a 0 0 \n" (ly:output-def-lookup layout 'output-scale)
          (ly:output-def-lookup layout 'left-margin) (+ y (ly:output-def-lookup layout 'top-margin)))
        (for-each (lambda (grob)
          (if (memq (grob::name grob) '(TabNoteHead Rest BarLine StaffSymbol))
            (tell grob system (grob::name grob))))
          (ly:grob-array->list (ly:grob-object system 'all-elements)))))
      (ly:prob-property page 'lines) (ly:prob-property page 'configuration)))
    pages)
  (force-output))
"""


# --- pitches -------------------------------------------------------------------------------------------------------


def semitone(name: str) -> int:
    """MIDI number of a pitch name such as `E4`."""
    spelled = spell_pitch(name)
    letters = spelled.rstrip("-0123456789")
    return _STEPS[letters] + 12 * (int(spelled[len(letters) :]) + 1)


def pitch_name(quarters: int, flat: bool = False) -> str:
    """LilyPond's name of a pitch given in quarter tones above MIDI 0."""
    pitch, rest = divmod(quarters, 2)
    name = (_FLAT if flat and not rest else _SHARP)[pitch % 12] + ("ih" if rest else "")
    octave = pitch // 12 - 4
    return name + ("'" * octave if octave > 0 else "," * -octave)


def _key_name(key: str) -> str:
    return key[0] + _KEY_ENDINGS[key[1:]]


# --- beats ---------------------------------------------------------------------------------------------------------


def _target(after: Beat | None, note: Note) -> int | None:
    """Place, in the next beat, of the note on the same string."""
    strings = sorted(n.string for n in after.notes) if after is not None else []
    return strings.index(note.string) if note.string in strings else None


class _Writer:
    """Writes one staff's music; `score`: the staff above the tab."""

    def __init__(self, staff: Staff, style: dict[str, Any], metre: tuple[int, int], score: bool) -> None:
        self.staff, self.style, self.metre, self.score = staff, style, metre, score
        self.top = score or not style["score"]
        self.tuning = [semitone(name) for name in staff.tuning or DEFAULT_TUNING]
        self.beats = [beat for bar in staff.bars for beat in bar.voices[0]]
        self.flat = False
        self.slurs = 0
        self.waiting: dict[int, list[int]] = {}  # string -> slurs that end on it in this beat
        self.ending: dict[int, list[int]] = {}  # the same for the next beat
        self.vibrato = False
        self.runs = {name: _runs(self.beats, name) for name in ("pm", "lr")}
        self.lines: list[str] = []
        self.places: Places = {}

    def _quarters(self, note: Note) -> int:
        shift = 12 if self.score and self.style["written_octave"] else 0
        return 2 * (self.tuning[note.string - 1] + note.fret + shift)

    def _note(self, note: Note, after: Beat | None) -> str:
        """One head, with all that belongs to it alone."""
        word = f"{pitch_name(self._quarters(note), self.flat)}\\{note.string}"
        word += "".join(f"\\={number})" for number in self.waiting.get(note.string, ()))
        if after is not None and any(n.string == note.string and "t" in n.effects for n in after.notes):
            word += "~"
        if note.effects.keys() & {"h", "sl"}:
            self.slurs += 1
            self.ending.setdefault(note.string, []).append(self.slurs)
            word += f"\\={self.slurs}("
        if "nh" in note.effects:
            word += "\\harmonic"
        if "x" in note.effects:
            word = "\\deadNote " + word
        return "\\parenthesize " + word if "g" in note.effects else word

    def _beat(self, place: int) -> tuple[list[str], str, list[str]]:
        """The line of the beat (what is set, the notes, what hangs on them), and those of unseen notes around it."""
        beat = self.beats[place]
        after = self.beats[place + 1] if place + 1 < len(self.beats) else None
        before, behind = self._around(place)
        duration = str(beat.duration) + "." * beat.dots
        self.ending = {}
        ahead: list[str] = []
        tail: list[str] = []
        if beat.is_rest:
            word = f"r{duration}"
        else:
            notes = sorted(beat.notes, key=lambda n: n.string)
            word = f"<{' '.join(self._note(n, after) for n in notes)}>{duration}"
            slides = [
                f"({k} . {_target(after, n)})" for k, n in enumerate(notes) if n.effects.keys() & {"sl", "ss"}
            ]  # fmt: skip
            if slides:
                before += f"\\set glissandoMap = #'({' '.join(slides)}) "
                behind += "\\glissando"
            for k, note in enumerate(notes):
                if note.effects.keys() & SLIDES_IN:
                    ahead = self._slide_in(note, k)
                if note.effects.keys() & SLIDES_OUT and not self.score:
                    before += f"\\set glissandoMap = #'(({k} . 0)) "
                    word, behind = f"\\afterGrace 7/8 {word}", behind + "\\glissando"
                    tail = [f"{{ {self._unseen(note, SLIDES_OUT)} }}"]
                if "be" in note.effects and not self.score:
                    word = f"\\afterGrace 3/4 {word}\\^"
                    tail = [f"{{ {self._bend(note, note.effects['be'])} }}"]
        self.waiting = self.ending
        return ahead, before + word + behind, tail

    def _unseen(self, note: Note, kinds: dict[str, int], behind: str = "") -> str:
        """A note that a slide comes from or goes to: it takes no time and shows no number."""
        step = next(step for name, step in kinds.items() if name in note.effects)
        pitch = pitch_name(self._quarters(note) + 2 * max(step, -note.fret))
        return f"\\hideNotes {pitch}16\\{note.string}{behind} \\unHideNotes"

    def _slide_in(self, note: Note, index: int) -> list[str]:
        if self.score:
            return ["\\grace s16"]
        grace = self._unseen(note, SLIDES_IN, "\\glissando")
        return [f"\\set glissandoMap = #'((0 . {index})) \\grace {{ {grace} }}"]

    def _bend(self, note: Note, arguments: tuple) -> str:
        """The notes that a bend goes to."""
        height = max([int(a) for a in arguments if not isinstance(a, str)][1::2])
        goal = f"{pitch_name(self._quarters(note) + height)}16\\{note.string}"
        if BENDS[arguments[0]] == 1:
            return goal
        return f"{goal}\\^ \\hideNotes {pitch_name(self._quarters(note))}16\\{note.string} \\unHideNotes"

    def _around(self, place: int) -> tuple[str, str]:
        """What is written before and behind the notes of a beat."""
        beat = self.beats[place]
        before, behind = "", ""
        names = {name for note in beat.notes for name in note.effects}
        if self.vibrato:
            behind += "\\stopTrillSpan"
        self.vibrato = "v" in names
        if self.vibrato:
            behind += "\\startTrillSpan"
        for name, word in (("pm", self.style["pm"]), ("lr", "let ring")):
            start, stop = self.runs[name].get(place, (-1, -1))
            if start == stop == place:
                behind += f'^\\markup \\italic "{word}"'
            elif start == place:
                before += f'\\once \\override TextSpanner.bound-details.left.text = \\markup \\italic "{word} " '
                behind += "\\startTextSpan"
            elif stop == place:
                behind += "\\stopTextSpan"
        for name in beat.effects:
            if name in _ARPEGGIOS:
                before += f"\\once \\override Arpeggio.arpeggio-direction = #{_ARPEGGIOS[name]} "
                behind += "\\arpeggio"
            behind += f'^"{_WORDS[name]}"' if name in _WORDS else ""
            behind += "^" + _STROKES[name] if name in _STROKES else ""
        if self.score:
            behind += "".join(sign for name, sign in _SCORE_SIGNS.items() if name in names)
        return before, behind

    # --- bars ------------------------------------------------------------------------------------------------------

    def _bar_start(self, number: int, bar: Bar) -> None:
        shown = bar.time_signature is not None
        if shown or number == 0:
            self.metre = bar.time_signature or self.metre
            hide = "" if shown else "\\once \\omit Staff.TimeSignature "
            self.lines.append(f"{hide}\\time {self.metre[0]}/{self.metre[1]}")
        if bar.key_signature:
            key = canonical_key(bar.key_signature)
            self.flat = key in _FLAT_KEYS
            self.lines.append(f"\\key {_key_name(key)} \\major")
        length = sum((beat.length for beat in bar.voices[0]), Fraction(0))
        if number == 0 and 0 < length < Fraction(*self.metre):
            self.lines.append(f"\\partial 1*{length.numerator}/{length.denominator}")
        elif length != Fraction(*self.metre):
            raise ValueError(f"bar {number + 1} does not fill its metre")
        commands = repeat_commands(self.staff.bars, number)
        if commands and self.top:
            self.lines.append(f"\\set Score.repeatCommands = #'({commands})")
        if number == 0 and bar.repeat_open and self.top:
            self.lines.append('\\bar ".|:"')  # a repeat that starts the music is not drawn by itself
        if bar.tempo is not None and self.top:
            if bar.tempo != int(bar.tempo):
                raise ValueError("LilyPond draws whole numbers as tempo here")
            self.lines.append(f"\\tempo 4 = {int(bar.tempo)}")

    def music(self) -> str:
        """All bars; the lines of the beats are in `places`, counted from 0."""
        place = 0
        for number, bar in enumerate(self.staff.bars):
            self._bar_start(number, bar)
            groups = tuplet_groups(bar.voices[0])
            grace, group = False, -1
            for k, beat in enumerate(bar.voices[0]):
                if bool(beat.grace) != grace:
                    grace = bool(beat.grace)
                    self.lines.append("\\grace {" if grace else "}")
                if not grace and groups[k] != group:
                    self.lines += ["}"] if group >= 0 else []
                    group = groups[k]
                    if group >= 0 and beat.tuplet is not None:
                        self.lines.append(f"\\tuplet {beat.tuplet[0]}/{beat.tuplet[1]} {{")
                ahead, word, tail = self._beat(place)
                self.places[len(self.lines) + len(ahead)] = (number, 0, k)
                self.lines += [*ahead, word, *tail]
                place += 1
            if grace:
                raise ValueError("a grace note needs a note behind it in its bar")
            self.lines.append("} |" if group >= 0 else "|")
            if bar.repeat_close > 2 and self.top:
                self.lines.append(f'\\textEndMark "{bar.repeat_close}x"')
        if self.vibrato:
            self.lines.append("<>\\stopTrillSpan")
        commands = repeat_commands(self.staff.bars, len(self.staff.bars))
        if commands and self.top:
            self.lines.append(f"\\set Score.repeatCommands = #'({commands})")
        if self.style["final_bar"] and not self.staff.bars[-1].repeat_close:
            self.lines.append('\\bar "|."')
        return "\n".join(self.lines)


def _runs(beats: Sequence[Beat], name: str) -> dict[int, tuple[int, int]]:
    """First and last beat of each run of an effect, under each beat of it."""
    out: dict[int, tuple[int, int]] = {}
    start: int | None = None
    for place, beat in enumerate([*beats, Beat()]):
        has = [name in note.effects for note in beat.notes]
        if any(has) and not all(has):
            raise ValueError(f"{name} of some notes of a chord can not be seen")
        if any(has) and start is None:
            start = place
        elif not any(has) and start is not None:
            out |= dict.fromkeys(range(start, place), (start, place - 1))
            start = None
    return out


def repeat_commands(bars: Sequence[Bar], number: int) -> str:
    """What LilyPond is told of repeats and endings at the start of a bar, or behind the last."""
    before = bars[number - 1] if number else None
    bar = bars[number] if number < len(bars) else None
    old, new = before.endings if before else (), bar.endings if bar else ()
    words = []
    if old and old != new:
        words.append("(volta #f)")
    if before is not None and before.repeat_close:
        words.append("end-repeat")
    if new and old != new:
        words.append(f'(volta "{". ".join(map(str, new))}.")')
    if number and bar is not None and bar.repeat_open:  # see `_bar_start` for the first bar
        words.append("start-repeat")
    return " ".join(words)


# --- the whole source ----------------------------------------------------------------------------------------------


def _style_lines(style: dict[str, Any]) -> str:
    """What a style changes in every context."""
    lines = [
        f"\\override Score.StaffSymbol.thickness = #{style['thickness']}",
        f"\\override Score.SpacingSpanner.spacing-increment = #{style['spread']}",
        "\\override Score.TextSpanner.style = #'dashed-line",
        "\\override Score.TextSpanner.bound-details.right.text = \\markup { \\draw-line #'(0 . -1) }",
        "\\override Score.TrillSpanner.bound-details.left.text = ##f",
        "\\override Score.Glissando.minimum-length = #3.2",
        "\\override Score.Glissando.springs-and-rods = #ly:spanner::set-spacing-rods",
        "\\set Score.harmonicDots = ##t",
        "\\omit Score.StringNumber",
    ]
    if style["bar_number"]:
        lines.append(f"\\set Score.currentBarNumber = #{style['bar_number']}")
        lines.append("\\set Score.barNumberVisibility = #all-bar-numbers-visible")
    else:
        lines.append("\\omit Score.BarNumber")
    if style["grey"]:
        shade = f"{style['grey']} " * 3
        lines.append(f"\\override Score.StaffSymbol.color = #(rgb-color {shade})")
    return "\n".join(lines) + "\n"


def _tab_lines(style: dict[str, Any]) -> str:
    lines = ["\\tabFullNotation"] if style["full"] else []
    lines += [f"\\override TabNoteHead.font-family = #'{style['font']}"] if style["font"] else []
    lines += [
        f"\\override TabNoteHead.font-series = #'{'bold' if style['bold'] else 'medium'}",
        f"\\override TabNoteHead.font-size = #{style['number_size']}",
        f'\\clef "{style["clef"]}"' if style["clef"] else "\\omit Staff.Clef",
    ]
    if style["stems"] != "auto":
        lines.append("\\stemDown" if style["stems"] == "down" else "\\stemUp")
    return "\n".join(lines) + "\n"


def source_of(score: Score, style: dict[str, Any], metre: tuple[int, int] = (4, 4)) -> tuple[str, Places, Places]:
    """LilyPond source of a score from `lilypond.visible`.

    Args:
        score: One staff, one voice.
        style: Of `lilypond.random_style`.
        metre: In force before the first bar.

    Returns:
        The source, and the lines (counted from 1) of the beats of the tab and of the staff above it.

    Raises:
        ValueError: What LilyPond can not draw truly.
    """
    staff = score.staves[0]
    numeric = "\\numericTimeSignature\n" if style["numeric"] else ""
    strings = " ".join(pitch_name(2 * semitone(name)) for name in reversed(staff.tuning or DEFAULT_TUNING))
    text = '\\version "2.24.0"\n' + f"#(set-global-staff-size {style['staff_size']})\n" + REPORT
    text += (
        "\\paper { page-breaking = #ly:one-line-auto-height-breaking indent = 0 page-post-process = #tell-places\n"
        " top-margin = 8 bottom-margin = 8 left-margin = 8 right-margin = 8 }\n"
        "\\header { tagline = ##f }\n\\score { "
    )
    text += f"\\new {style['group']} <<\n" if style["score"] and style["group"] else "<<\n"
    above: Places = {}
    if style["score"]:
        writer = _Writer(staff, style, metre, True)
        music = writer.music()
        clef = ("bass" if staff.strings < 6 else "treble") + ("" if style["written_octave"] else "_8")
        text += f'\\new Staff \\new Voice {{ \\clef "{clef}"\n{numeric}{_style_lines(style)}'
        above = {line + text.count("\n") + 1: place for line, place in writer.places.items()}
        text += music + " }\n"
    writer = _Writer(staff, style, metre, False)
    music = writer.music()
    text += (
        f"\\new TabStaff \\with {{ stringTunings = \\stringTuning <{strings}> supportNonIntegerFret = ##t\n"
        f" \\override StaffSymbol.staff-space = #{style['tab_space']} }} \\new TabVoice {{\n"
        f"{numeric}{'' if style['score'] else _style_lines(style)}{_tab_lines(style)}"
    )
    places = {line + text.count("\n") + 1: place for line, place in writer.places.items()}
    text += music + " }\n>> }\n"
    return text, places, above


__all__ = ["BENDS", "SLIDES_IN", "SLIDES_OUT", "Places", "pitch_name", "semitone", "source_of"]
