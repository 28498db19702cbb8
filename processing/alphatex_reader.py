"""Reads alphaTex into typed values: our canonical text and the normal form of alphaTab's exporter.

What no picture shows (volume, balance, instruments, layout hints, playback lengths) is left behind here, so reading an
export and writing it again gives canonical text.
"""

from __future__ import annotations

from dataclasses import replace

from .alphatex_beats import BeatReader
from .alphatex_tokens import WORD, rounded
from .alphatex_types import DEFAULT_TUNING, AlphaTexError, Arguments, Bar, Score, Staff, Track, spell_pitch
from .alphatex_visible import canonical_key, finish_score, finish_staff, number_slurs
from .alphatex_vocabulary import (
    BAR_TAGS,
    IGNORED_TAGS,
    INFO_FIELDS,
    REPEATABLE,
    STAFF_TAGS,
    TAGS_WITHOUT_ARGUMENT,
)


def has_beats(staff: Staff) -> bool:
    """Whether any bar of the staff holds a beat."""
    return any(voice for bar in staff.bars for voice in bar.voices)


class _Reader(BeatReader):
    """Puts beats into voices, bars, staves and tracks."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.score = Score(source_text=text)
        self.track = Track()  # until a tag or a note makes one that belongs to the score
        self.bar_index = 0
        self.voice_index = 0
        self.bar_wise = False
        self.started_voice = False
        self.normal_form = False
        self.tuned: set[int] = set()
        self.programs: dict[int, str] = {}
        self.unnamed = False  # whether the staff came to be without being named
        self.header: Staff | None = None  # what was said before the first staff was named

    def read(self) -> Score:
        tokens = self.tokens
        while tokens[self.at]:
            token = tokens[self.at]
            if token[0] == "\\":
                self._tag()
            elif token == "|":
                self._bar()
                self._next_bar()
            elif token == "." and not (self.in_staff and has_beats(self.staff)):
                self.at += 1  # the separator that older texts put between header and music
            else:
                self._beats()
        if self.normal_form:
            for index, track in enumerate(self.score.tracks):
                if track.short_name == track.name[:10]:
                    track.short_name = ""  # what alphaTab makes of a name without being told
                for staff in track.staves:
                    finish_staff(staff, self.programs.get(index), id(staff) in self.tuned)
            finish_score(self.score)
        if self.has_slurs:
            for staff in self.score.staves:
                number_slurs(staff, keep_open=not self.normal_form)
        return self.score

    def _new_track(self) -> None:
        self._set_header_apart()
        if self.header and not self.track.staves and not self.track.name:
            self.score.tracks.remove(self.track)
        self.track = Track()
        self.score.tracks.append(self.track)
        self.in_staff = False

    def _set_header_apart(self) -> None:
        """What is said before the first track or staff is named (`\\tempo 90 \\track ...`) is said of that one."""
        if self.in_staff and self.unnamed and len(self.score.staves) == 1 and not has_beats(self.staff):
            self.header = self.staff
            self.track.staves.remove(self.staff)

    def _new_staff(self, named: bool = False) -> None:
        if named:
            self._set_header_apart()
        if not self.score.tracks:
            self._new_track()
        self.staff = replace(self.header) if self.header else Staff(show=("score", "tabs"))
        if id(self.header) in self.tuned:
            self.tuned.add(id(self.staff))
        self.track.staves.append(self.staff)
        self.in_staff, self.unnamed, self.header = True, not named, None
        self.bar_index = self.voice_index = 0
        self.started_voice = False

    def _next_bar(self) -> None:
        self.expect("|")
        bar = self.staff.bars[self.bar_index]
        if bar.span[1] == 0:
            bar.span = (bar.span[0], self.starts[self.at - 1] + 1)
        self.bar_index += 1
        if self.bar_wise:
            self.voice_index = 0
            self.started_voice = False

    def _bar(self) -> Bar:
        if not self.in_staff:
            self._new_staff()
        bars = self.staff.bars
        while len(bars) <= self.bar_index:
            bars.append(Bar(span=(self.starts[self.at], 0)))
        bar = bars[self.bar_index]
        while len(bar.voices) <= self.voice_index:
            bar.voices.append([])
        return bar

    def _tag(self) -> None:
        at = self.at
        tag = self.tokens[at].lstrip("\\").lower()
        self.at += 1
        if tag in TAGS_WITHOUT_ARGUMENT:
            arguments: Arguments = ()
        else:
            arguments = self.arguments()
            if tag == "ts" and len(arguments) == 1 and isinstance(arguments[0], int):
                arguments = (arguments[0], self.value())
        if tag == "voice":
            self._start_voice()
        elif tag == "staff":
            self._new_staff(named=True)
            self._staff_properties()
        elif tag == "track":
            self._new_track()
            self.track.name = str(arguments[0]) if arguments else ""
            self.track.short_name = str(arguments[1]) if len(arguments) > 1 else ""
            self._track_properties()
        elif tag == "voicemode":
            self.bar_wise = arguments == ("barwise",)
        elif tag == "hidedynamics":
            self.score.hide_dynamics = True
        elif tag in INFO_FIELDS:
            setattr(self.score, INFO_FIELDS[tag], str(arguments[0]) if arguments else "")
        elif tag in STAFF_TAGS:
            self._staff_tag(tag, arguments)
        elif tag in BAR_TAGS:
            if tag not in ("section", "tempo") and any(isinstance(a, str) and not WORD.match(a) for a in arguments):
                self.fail(f"\\{tag} takes words without quotes", at)
            self._apply_bar_tag(self._bar(), tag, arguments)
        elif tag not in IGNORED_TAGS:
            self.fail(f"unknown tag '\\{tag}'", at)
        if self.tokens[self.at] == "{" and tag not in ("staff", "track", "chord"):
            self.properties()

    def _start_voice(self) -> None:
        if not self.in_staff:
            self._new_staff()
        if not self.started_voice and self.voice_index == 0:
            self.started_voice = True
            return
        self.voice_index += 1
        if not self.bar_wise:
            self.bar_index = 0

    def _staff_properties(self) -> None:
        if self.tokens[self.at] != "{":
            return
        properties = self.properties()
        names = {name for name, _ in properties}
        self.staff.show = tuple(name for name in ("score", "tabs", "slash", "numbered") if name in names)
        for name, arguments in properties:
            if name == "score" and arguments:
                self.staff.other["score"] = arguments

    def _track_properties(self) -> None:
        if self.tokens[self.at] != "{":
            return
        for name, arguments in self.properties():
            if name == "volume":
                self.normal_form = True
            elif name == "instrument":
                self.programs[len(self.score.tracks) - 1] = str(arguments[0])

    def _staff_tag(self, tag: str, arguments: Arguments) -> None:
        if not self.in_staff:
            self._new_staff()
        if tag == "tuning":
            pitches = not (len(arguments) == 1 and arguments[0] in ("piano", "none", "voice"))
            self.staff.tuning = tuple(spell_pitch(str(a)) for a in arguments) if pitches else ()
            if self.staff.tuning == DEFAULT_TUNING:
                self.staff.tuning = None
            self.tuned.add(id(self.staff))
        elif tag == "articulation":
            self.staff.percussion = True
        elif tag == "capo":
            self.staff.capo = int(arguments[0])
        elif tag == "chord":
            properties = dict(self.properties()) if self.tokens[self.at] == "{" else {}
            if properties.get("showdiagram") != ("false",) and any(isinstance(a, int) for a in arguments[1:]):
                if properties.get("firstfret", (1,)) != (1,):
                    arguments = (*arguments, "firstfret", *properties["firstfret"])
                if properties.get("barre"):
                    arguments = (*arguments, "barre", *properties["barre"])
                kept = {str(c[0]).lower(): c for c in self.staff.other.get("chord", ())}
                kept[str(arguments[0]).lower()] = arguments
                self.staff.other["chord"] = tuple(kept.values())
        else:
            self.staff.other[tag] = (int(arguments[0]),)

    def _apply_bar_tag(self, bar: Bar, tag: str, arguments: Arguments) -> None:
        if tag == "ts":
            # A "C" says 4/4; alphaTab does not carry the symbol through its own text, so figures are canonical.
            bar.time_signature = (4, 4) if arguments == ("common",) else (int(arguments[0]), int(arguments[1]))
        elif tag == "ks":
            bar.key_signature = canonical_key(str(arguments[0]))
        elif tag == "ro":
            bar.repeat_open = True
        elif tag == "rc":
            bar.repeat_close = int(arguments[0])
        elif tag == "ae":
            bar.endings = tuple(int(a) for a in arguments)
        elif tag == "section":
            bar.section = " ".join(str(a) for a in arguments if a)
        elif tag == "ac":
            bar.anacrusis = True
        elif tag == "ft":
            bar.other["ft"] = ()
        elif tag == "tempo":
            self._apply_tempo(bar, arguments)
        elif tag in REPEATABLE:
            arguments = tuple(a if isinstance(a, str) else rounded(a) for a in arguments)
            if arguments not in bar.other.get(tag, ()):
                bar.other[tag] = (*bar.other.get(tag, ()), arguments)
        else:
            bar.other[tag] = arguments

    def _apply_tempo(self, bar: Bar, arguments: Arguments) -> None:
        """A later tempo at the same place of a bar replaces an earlier one; a hidden one leaves nothing to see."""
        numbers = [rounded(a) for a in arguments if not isinstance(a, str)]
        value, place = numbers[0], numbers[1] if len(numbers) > 1 else 0
        label = next((a for a in arguments[1:] if isinstance(a, str) and a != "hide"), "")
        hidden = "hide" in arguments
        if place == 0:
            bar.tempo = None if hidden else value
            bar.other.pop("tempolabel", None)
            if label and not hidden:
                bar.other["tempolabel"] = (label,)
            return
        rest = tuple(t for t in bar.other.pop("tempo", ()) if t[2] != place)
        if not hidden:
            rest = (*rest, (value, label, place))
        if rest:
            bar.other["tempo"] = rest

    def _beats(self) -> None:
        """Beats up to the next bar line or tag."""
        bar = self._bar()
        voice = bar.voices[self.voice_index]
        tokens = self.tokens
        while True:
            token = tokens[self.at]
            if token == "|" or token == "" or token[0] == "\\":
                return
            voice.append(self.beat())


def read_alphatex(text: str) -> Score:
    """Reads a notation text into typed values.

    Args:
        text: Canonical alphaTex, or what alphaTab's exporter writes.

    Raises:
        AlphaTexError: At the first thing that does not fit, with its line and column.
    """
    reader = _Reader(text)
    try:
        return reader.read()
    except AlphaTexError:
        raise
    except (IndexError, TypeError, ValueError, OverflowError) as error:
        # Only arguments of the wrong kind or number get here, such as `\\capo "two"`.
        reader.fail(f"wrong arguments ({error})", max(reader.at - 1, 0))
        raise
