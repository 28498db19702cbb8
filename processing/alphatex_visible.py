"""What a picture of alphaTab's can show, and what it can not.

The functions here take away what is invisible, so that a text never asks a reader to guess.
"""

from __future__ import annotations

from copy import deepcopy

from .alphatex_types import PITCH, STANDARD_TUNINGS, Arguments, Bar, Beat, Score, Staff

STAVES = {"tabs": ("tabs",), "score": ("score",), "score+tabs": ("score", "tabs")}

_FIFTHS = ["cb", "gb", "db", "ab", "eb", "bb", "f", "c", "g", "d", "a", "e", "b", "f#", "c#"]
_MINORS = (
    "abminor ebminor bbminor fminor cminor gminor dminor aminor eminor bminor f#minor c#minor g#minor d#minor a#minor"
)
_KEYS = {name: name for name in _FIFTHS}
_KEYS |= {f"{name}major": name for name in _FIFTHS}
_KEYS |= dict(zip(_MINORS.split(), _FIFTHS, strict=True))

# Guitars, basses and the contrabass are written an octave above their sound; alphaTab knows them by these names.
_OCTAVE_WRITTEN = frozenset(
    "acousticguitarnylon acousticguitarsteel electricguitarjazz electricguitarclean electricguitarmuted "
    "overdrivenguitar distortionguitar guitarharmonics acousticbass electricbassfinger electricbasspick "
    "fretlessbass slapbass1 slapbass2 synthbass1 synthbass2 contrabass".split()
)
_BEND_POINTS = {
    "bend": (0, 60), "release": (0, 60), "hold": (0, 60), "prebend": (0, 60), "prebendbend": (0, 60),
    "prebendrelease": (0, 60), "bendrelease": (0, 30, 30, 60),
}  # fmt: skip
_WHAMMY_POINTS = {"dive": (0, 60), "hold": (0, 60), "predive": (0, 60), "predivedive": (0, 60), "dip": (0, 30, 60)}

# On a tab without a staff above it none of these changes the picture (found by drawing each with and without).
SCORE_ONLY_NOTE = frozenset("acc ac hac ten st lf rf slur string".split())
_SCORE_ONLY_BEAT = frozenset({"ot", "legatoorigin"})
_SCORE_ONLY_BAR = frozenset("clef ottava".split())
_TAB_BEAMS = frozenset({"split", "splitsecondary", "merge"})


def canonical_key(name: str) -> str:
    """The major key with the same signature: a minor key draws the same accidentals.

    Raises:
        ValueError: When there is no such key.
    """
    if name not in _KEYS:
        raise ValueError(f"unknown key {name!r}")
    return _KEYS[name]


def _shape(arguments: Arguments, shapes: dict[str, tuple[int, ...]]) -> Arguments:
    words = [a for a in arguments if isinstance(a, str)]
    kind = next((w for w in words if w in shapes), "custom")
    numbers = [a for a in arguments if not isinstance(a, str)]
    values = [round(v) for v in numbers[1::2]]
    style = ("gradual",) if "gradual" in words else ()
    offsets = shapes.get(kind, ())
    if offsets and len(values) >= 2:
        if len(offsets) == 3:
            values = [values[0], values[1], values[-1]]
        elif len(offsets) == 4:
            values = [values[0], values[1], values[1], values[-1]]
        points = list(zip(offsets, values[: len(offsets)], strict=True))
    else:
        points = list(zip((round(o) for o in numbers[::2]), values, strict=False))
    if not points:
        return ()
    return (kind, *style, *(number for point in points for number in point))


def canonical_bend(arguments: Arguments) -> Arguments:
    """A bend as one of alphaTab's shapes with whole quarter tones: only shape and heights are drawn, not the timing."""
    return _shape(arguments, _BEND_POINTS)


def canonical_whammy(arguments: Arguments) -> Arguments:
    """A whammy bar dive as one of alphaTab's shapes with whole quarter tones."""
    return _shape(arguments, _WHAMMY_POINTS)


def _finish_dynamics(staff: Staff) -> None:
    """From "what changed in this voice" (the exporter) to "what changed in reading order" (our text)."""
    voices = max((len(bar.voices) for bar in staff.bars), default=0)
    loudness: dict[int, str] = {}
    for voice in range(voices):
        current = "f"
        for bar in staff.bars:
            beats = bar.voices[voice] if voice < len(bar.voices) else []
            if not beats:
                current = "f"  # alphaTab fills an empty bar with a silent beat of its default loudness
            for beat in beats:
                current = str(beat.effects.pop("dy", (current,))[0])
                loudness[id(beat)] = current
    current = "f"
    for bar in staff.bars:
        for beats in bar.voices:
            for beat in beats:
                if beat.notes and loudness[id(beat)] != current:
                    current = loudness[id(beat)]
                    beat.effects["dy"] = (current,)


def _finish_bars(staff: Staff) -> None:
    simile: Arguments = ()
    metre = None
    for index, bar in enumerate(staff.bars):
        simile = bar.other.pop("simile", simile)
        if simile not in ((), ("none",)):
            bar.other["simile"] = simile
        if bar.time_signature == metre:
            bar.time_signature = None
        metre = bar.time_signature or metre
        if index == 0:
            if bar.key_signature == "c":
                bar.key_signature = None
            if bar.other.get("clef") == ("g2",) and not staff.percussion:
                del bar.other["clef"]
            if bar.other.get("ottava") == ("regular",):
                del bar.other["ottava"]
        while len(bar.voices) > 1 and not bar.voices[-1]:
            bar.voices.pop()


def finish_staff(staff: Staff, program: str | None, tuned: bool) -> None:
    """Turns a staff of the exporter's normal form into what canonical text says.

    Args:
        staff: Changed in place.
        program: Instrument of the track, as the exporter names it.
        tuned: Whether the text named a tuning; without one the exporter means a staff of pitches.
    """
    notes = [note for bar in staff.bars for voice in bar.voices for beat in voice for note in beat.notes]
    if any(note.fret < 0 and not PITCH.match(note.pitch or "") for note in notes):
        staff.percussion = True  # alphaTab can name a drum on a staff that it does not call one, but not read that back
    if staff.percussion:
        staff.tuning = None
    elif not tuned:
        staff.tuning = ()
    stringed = staff.tuning != () and not staff.percussion
    shift = staff.other.pop("displaytranspose", (12 if program in _OCTAVE_WRITTEN else 0,))
    if notes and shift != (12 if stringed else 0,):
        staff.other["displaytranspose"] = shift
    _finish_dynamics(staff)
    _finish_bars(staff)


def number_slurs(staff: Staff, keep_open: bool) -> None:
    """Names slurs by order of appearance: their names say nothing.

    Args:
        staff: Changed in place.
        keep_open: Whether a slur that is named once stays; alphaTab drops it.
    """
    notes = [
        n for bar in staff.bars for voice in bar.voices for beat in voice for n in beat.notes if "slur" in n.effects
    ]
    ends: dict[str, int] = {}
    for note in notes:
        for name in note.effects["slur"]:
            ends[str(name)] = ends.get(str(name), 0) + 1
    names: dict[str, str] = {}
    for note in notes:
        kept = [str(name) for name in note.effects["slur"] if keep_open or ends[str(name)] > 1]
        note.effects["slur"] = tuple(names.setdefault(name, f"s{len(names) + 1}") for name in kept)
        if not kept:
            del note.effects["slur"]


def _is_blank(bar: Bar) -> bool:
    return bar == Bar(voices=bar.voices) and not any(bar.voices)


def finish_score(score: Score) -> None:
    """Gives all staves the same number of bars and drops blank bars at the end, as alphaTab does when it reads."""
    staves = [staff for staff in score.staves if staff.bars]
    count = max((len(staff.bars) for staff in staves), default=0)
    while count > 1 and all(len(s.bars) < count or _is_blank(s.bars[count - 1]) for s in staves):
        count -= 1
    for staff in score.staves:
        del staff.bars[count:]
        staff.bars.extend(Bar() for _ in range(count - len(staff.bars)))


def _strip_beat(beat: Beat, tabs_only: bool, dynamics: bool) -> None:
    if not dynamics:
        beat.effects.pop("dy", None)
    if not tabs_only:
        return
    for name in _SCORE_ONLY_BEAT & beat.effects.keys():
        del beat.effects[name]
    if "beam" in beat.effects:  # stems always hang down from a tab
        words = tuple(word for word in beat.effects.pop("beam") if word in _TAB_BEAMS)
        if words:
            beat.effects["beam"] = words
    for note in beat.notes:
        for name in SCORE_ONLY_NOTE & note.effects.keys():
            del note.effects[name]


def strip_invisible(score: Score, staves: str = "tabs", layout: str = "system", dynamics: bool | None = None) -> Score:
    """A copy of the score that says only what one kind of picture shows.

    Args:
        score: Any score; it is not changed.
        staves: `"tabs"`, `"score"` or `"score+tabs"`: what the picture draws.
        layout: `"system"` for a picture without page header (no title, tuning, capo, chord diagrams) or `"page"`.
        dynamics: Whether the picture draws them; by default only where it draws a score.

    Raises:
        ValueError: For another value of `staves` or `layout`.
    """
    if staves not in STAVES or layout not in ("system", "page"):
        raise ValueError(f"staves must be one of {sorted(STAVES)} and layout system or page, not {staves}, {layout}")
    score = deepcopy(score)
    tabs_only = staves == "tabs"
    dynamics = not tabs_only if dynamics is None else dynamics
    if layout == "system":
        score.title = score.subtitle = score.artist = score.album = ""
        score.words = score.music = score.copyright = score.transcriber = ""
        if len(score.tracks) == 1:
            score.tracks[0].name = score.tracks[0].short_name = ""
    if not dynamics:
        score.hide_dynamics = False
    for staff in score.staves:
        if staff.tuning != () and not staff.percussion:
            staff.show = STAVES[staves]
            if layout == "system":
                staff.tuning = _system_tuning(staff)
                staff.capo = 0
        if layout == "system":
            staff.other.pop("chord", None)
        if tabs_only:
            for name in ("displaytranspose", "score"):
                staff.other.pop(name, None)
        for bar in staff.bars:
            if tabs_only:
                bar.key_signature = None
                for name in _SCORE_ONLY_BAR & bar.other.keys():
                    del bar.other[name]
            for voice in bar.voices:
                for beat in voice:
                    _strip_beat(beat, tabs_only, dynamics)
    finish_score(score)
    return score


def _system_tuning(staff: Staff) -> tuple[str, ...] | None:
    """Without a header only the number of lines is seen: the usual tuning of that many strings stands for all."""
    if staff.strings == 6:
        return None
    return STANDARD_TUNINGS.get(staff.strings, staff.tuning)
