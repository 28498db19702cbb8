"""Writes a typed score as canonical alphaTex, one bar a line."""

from __future__ import annotations

import re

from .alphatex_types import DEFAULT_TUNING, PITCH, Arguments, Bar, Beat, Note, Score, Staff, Track
from .alphatex_vocabulary import BAR_MARKS, BEAT_EFFECTS, INFO_FIELDS, NOTE_EFFECTS, ONE_WORD_EACH, QUOTED, REPEATABLE

_NOTE_RANK = {name: rank for rank, name in enumerate(NOTE_EFFECTS)}
_BEAT_RANK = {name: rank for rank, name in enumerate(BEAT_EFFECTS)}
_BAR_RANK = {name: rank for rank, name in enumerate(BAR_MARKS)}
_CONTROL = re.compile(r"[\x00-\x1f\u2028\u2029]")


def quote(text: str) -> str:
    """A string literal of alphaTex."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + _CONTROL.sub(lambda m: f"\\u{ord(m[0]):04x}", escaped) + '"'


def _number(value: int | float) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else format(value, ".6f").rstrip("0")
    return str(value)


def _arguments(name: str, arguments: Arguments) -> str:
    quoted = name in QUOTED
    words = [_number(a) if not isinstance(a, str) else quote(a) if quoted else a for a in arguments]
    return words[0] if len(words) == 1 else f"({' '.join(words)})"


def _property(name: str, arguments: Arguments) -> str:
    return f"{name} {_arguments(name, arguments)}" if arguments else name


def _properties(effects: dict[str, Arguments], rank: dict[str, int]) -> list[str]:
    words = []
    for name in sorted(effects, key=lambda n: (rank.get(n, 99), n)) if len(effects) > 1 else effects:
        arguments = effects[name]
        if name in ONE_WORD_EACH:
            words += [f"{name} {argument}" for argument in arguments]
        elif name == "lyrics" and len(arguments) > 1:
            words += [f"lyrics ({line} {quote(str(text))})" for line, text in enumerate(arguments)]
        else:
            words.append(_property(name, arguments))
    return words


def write_note(note: Note) -> str:
    """One note without its duration: `3.2{h}`, `C#4`, `"Snare (hit)"`."""
    if note.fret >= 0:
        head = f"{note.fret}.{note.string}"
    else:
        pitch = note.pitch or ""
        head = pitch if PITCH.match(pitch) else quote(pitch)
    if not note.effects:
        return head
    return f"{head}{{{' '.join(_properties(note.effects, _NOTE_RANK))}}}"


def write_beat(beat: Beat) -> str:
    """One beat: `(0.1 2.2).8{d}`."""
    if not beat.notes:
        head = "()" if "ds" in beat.effects else "r"  # a dead slap sounds without notes
    elif len(beat.notes) == 1:
        head = write_note(beat.notes[0])
    else:
        head = f"({' '.join(write_note(n) for n in sorted(beat.notes, key=lambda n: n.string))})"
    marks = ["d" * beat.dots] if beat.dots else []
    if beat.tuplet:
        marks.append(f"tu ({beat.tuplet[0]} {beat.tuplet[1]})")
    if beat.grace:
        marks.append("gr" if beat.grace == "bb" else f"gr {beat.grace}")
    if beat.effects:
        marks += _properties(beat.effects, _BEAT_RANK)
    return f"{head}.{beat.duration}{{{' '.join(marks)}}}" if marks else f"{head}.{beat.duration}"


def _bar_marks(bar: Bar) -> list[str]:
    marks = []
    if bar.endings:
        marks.append(f"\\ae ({' '.join(map(str, bar.endings))})")
    if bar.repeat_open:
        marks.append("\\ro")
    if bar.repeat_close:
        marks.append(f"\\rc {bar.repeat_close}")
    if bar.time_signature:
        marks.append(f"\\ts ({bar.time_signature[0]} {bar.time_signature[1]})")
    if bar.key_signature:
        marks.append(f"\\ks {bar.key_signature}")
    if bar.section is not None:
        marks.append(f"\\section ({quote(bar.section)})")  # alphaTab would take a rest that follows for its second half
    if bar.anacrusis:
        marks.append("\\ac")
    if bar.tempo is not None:
        label = bar.other.get("tempolabel")
        marks.append(f"\\tempo ({_number(bar.tempo)} {quote(label[0])})" if label else f"\\tempo {_number(bar.tempo)}")
    for name in sorted(bar.other, key=lambda n: (_BAR_RANK.get(n, 99), n)):
        if name == "tempolabel":
            continue
        for arguments in bar.other[name] if name in REPEATABLE else (bar.other[name],):
            marks.append("\\" + _property(name, arguments))
    return marks


def write_bar(bar: Bar) -> str:
    r"""One bar with the `|` that closes it; each of several voices starts with `\voice`."""
    words = _bar_marks(bar)
    for voice in bar.voices:
        if len(bar.voices) > 1:
            words.append("\\voice")
        words += [write_beat(beat) for beat in voice]
    marks = len(words) and next((i for i, word in enumerate(words) if word[0] != "\\"), 0)
    if marks and words[marks][0] == '"' and words[marks - 1].startswith("\\tempo ") and words[marks - 1][-1] != ")":
        # The name of a drum that follows would be taken for the tempo's text.
        words[marks - 1] = f"\\tempo ({words[marks - 1][7:]})"
    return " ".join([*words, "|"])


def _chord_line(arguments: Arguments) -> str:
    name, *rest = arguments
    words = [str(a) for a in rest]
    marks = [words.index(word) for word in ("firstfret", "barre") if word in words]
    cut = min(marks, default=len(words))
    line = f"\\chord ({' '.join([quote(str(name)), *words[:cut]])})"
    if not marks:
        return line
    ends = [*marks[1:], len(words)]
    properties = [f"{words[a]} ({' '.join(words[a + 1 : b])})" for a, b in zip(marks, ends, strict=True)]
    return f"{line} {{{' '.join(properties)}}}"


def _staff_lines(staff: Staff) -> list[str]:
    lines_of_score = staff.other.get("score")
    shown = [f"score {lines_of_score[0]}" if s == "score" and lines_of_score else s for s in staff.show]
    lines = [f"\\staff {{{' '.join(shown)}}}"]
    if staff.percussion:
        lines.append("\\articulation defaults")
    elif staff.tuning == () and not any(beat.notes for bar in staff.bars for voice in bar.voices for beat in voice):
        lines.append("\\tuning (none)")
    elif staff.tuning and staff.tuning != DEFAULT_TUNING:
        lines.append(f"\\tuning ({' '.join(staff.tuning)})")
    if staff.capo:
        lines.append(f"\\capo {staff.capo}")
    for tag in ("transpose", "displaytranspose"):
        if tag in staff.other:
            lines.append(f"\\{tag} {staff.other[tag][0]}")
    lines += [_chord_line(chord) for chord in staff.other.get("chord", ())]
    return lines + [write_bar(bar) for bar in staff.bars]


def _track_line(track: Track) -> str:
    names = quote(track.name) if not track.short_name else f"({quote(track.name)} {quote(track.short_name)})"
    percussion = any(staff.percussion for staff in track.staves)
    return f"\\track {names}" + (" {instrument percussion}" if percussion else "")


def write_alphatex(score: Score) -> str:
    """Canonical alphaTex of a score.

    One line a bar, an explicit duration on every beat, notes of a chord by ascending string, effects in one fixed
    order, defaults left out.
    """
    lines = []
    for tag, field in INFO_FIELDS.items():
        if value := getattr(score, field):
            lines.append(f"\\{tag} {quote(value)}")
    if score.hide_dynamics:
        lines.append("\\hideDynamics")
    if any(len(bar.voices) > 1 for staff in score.staves for bar in staff.bars):
        lines.append("\\voiceMode barWise")
    pitched = any(n.fret < 0 and PITCH.match(n.pitch or "") for *_, beat in score.beats() for n in beat.notes)
    lone = len(score.tracks) == 1
    for track in score.tracks:
        if not lone or track.name or track.short_name or any(staff.percussion for staff in track.staves):
            lines.append(_track_line(track))
        for staff in track.staves:
            lines += _staff_lines(staff)
            if pitched:
                # Pitches name sounds, not spellings: without this alphaTab would force the accidental of each name.
                lines.insert(len(lines) - len(staff.bars), "\\accidentals auto")
                pitched = False
    return "\n".join(lines) + "\n"
