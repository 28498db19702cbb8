"""Reads beats and notes with their effects."""

from __future__ import annotations

from .alphatex_tokens import WORD, TokenReader, unquote
from .alphatex_types import PITCH, Arguments, Beat, Effects, Note, Staff, spell_pitch
from .alphatex_visible import canonical_bend, canonical_whammy
from .alphatex_vocabulary import (
    BEAT_EFFECTS,
    DRUM_NAMES,
    DURATIONS,
    EFFECTS_WITH_ARGUMENT,
    GRACES,
    HARMONICS_WITH_FRET,
    NOTE_EFFECTS,
    NUMBER_MAY_FOLLOW,
    ONE_ARGUMENT_SEEN,
    QUOTED,
    UNSEEN_ARGUMENT,
    UNSEEN_BEAT_EFFECTS,
    USUAL_TUPLETS,
)

_NOTE_NAMES = frozenset(NOTE_EFFECTS)
_BEAT_NAMES = frozenset(BEAT_EFFECTS) | UNSEEN_BEAT_EFFECTS


def _string_of(note: Note) -> int:
    return note.string


class BeatReader(TokenReader):
    """Reads the music of a bar, beat by beat."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.staff = Staff()  # until a tag or a note makes one that belongs to the score
        self.in_staff = False
        self.has_slurs = False

    def beat(self) -> Beat:
        """The next beat, which has to be here."""
        tokens = self.tokens
        start_at = self.at
        token = tokens[start_at]
        notes: list[Note] = []
        if token == "r":
            self.at += 1
        elif token == "(":
            self.at += 1
            while tokens[self.at] != ")":  # "()" is a beat with effects only, a dead slap
                notes.append(self._note())
            self.at += 1
            if len(notes) > 1:
                notes.sort(key=_string_of)
        else:
            notes.append(self._note())
        if tokens[self.at] != ".":
            self.fail(f"expected '.' and a duration, found {self.shown()}")
        self.at += 1
        try:
            duration = int(tokens[self.at])
        except ValueError:
            duration = 0
        if duration not in DURATIONS:
            self.fail(f"expected a duration (1, 2, 4, 8, ...), found {self.shown()}")
        beat = Beat(notes, duration)
        self.at += 1
        if tokens[self.at] == "{":
            self._beat_effects(beat)
        last = self.at - 1
        beat.span = (self.starts[start_at], self.starts[last] + len(tokens[last]))
        return beat

    def _note(self) -> Note:
        tokens = self.tokens
        token = tokens[self.at]
        if token.isdecimal() or token == "x" or token == "-":
            if tokens[self.at + 1] != "." or not tokens[self.at + 2].isdecimal():
                self.at += 1
                self.fail(f"expected '.' and a string number, found {self.shown()}")
            note = Note(int(token) if token.isdecimal() else 0, int(tokens[self.at + 2]))
            if token == "x":
                note.effects["x"] = ()
            elif token == "-":
                note.effects["t"] = ()
            self.at += 3
        elif token[:1] in ('"', "'"):
            name = unquote(token)
            note = Note(pitch=DRUM_NAMES.get(name, name))
            self.at += 1
        elif PITCH.match(token):
            note = Note(pitch=spell_pitch(token))
            self.staff.tuning = ()
            self.at += 1
        else:
            self.fail(f"expected a note or 'r', found {self.shown()}")
        if tokens[self.at] == "{":
            self._note_effects(note)
        return note

    def _effect_arguments(self, name: str) -> Arguments:
        token = self.tokens[self.at]
        if name in EFFECTS_WITH_ARGUMENT or (name in NUMBER_MAY_FOLLOW and (token == "(" or token.isdecimal())):
            arguments = self.arguments()
            if name not in QUOTED and any(isinstance(a, str) and not WORD.match(a) for a in arguments):
                self.fail(f"'{name}' takes words without quotes", self.at - 1)
            return arguments
        return ()

    def _note_effects(self, note: Note) -> None:
        tokens = self.tokens
        self.at += 1
        effects = note.effects
        while tokens[self.at] != "}":
            at = self.at
            name = tokens[at].lower()
            self.at += 1
            if name not in _NOTE_NAMES:
                if name in _BEAT_NAMES:
                    self.fail(f"'{name}' belongs to the beat: write it after the duration", at)
                self.fail(f"unknown note effect '{name}'", at)
            arguments = self._effect_arguments(name)
            if name == "be":
                arguments = canonical_bend(arguments)
                if not arguments:
                    continue
            elif name == "slur":
                self.has_slurs = True
                arguments = (*effects.get("slur", ()), str(arguments[0]))
            elif name in HARMONICS_WITH_FRET:
                arguments = (round(float(arguments[0])),) if arguments else (0,)  # alphaTab reads whole numbers only
            elif name in ONE_ARGUMENT_SEEN:
                arguments = arguments[:1]
            effects[name] = arguments
        self.at += 1

    def _beat_effects(self, beat: Beat) -> None:
        tokens = self.tokens
        self.at += 1
        effects = beat.effects
        while tokens[self.at] != "}":
            at = self.at
            name = tokens[at].lower()
            self.at += 1
            if name == "d":
                beat.dots = 1
            elif name == "dd":
                beat.dots = 2
            elif name == "gr":
                beat.grace = "bb"
                if tokens[self.at] in GRACES:
                    beat.grace = GRACES[tokens[self.at]]
                    self.at += 1
            elif name not in _BEAT_NAMES:
                self.fail(f"unknown beat effect '{name}'", at)
            else:
                arguments = self._effect_arguments(name)
                if name == "tu":
                    beat.tuplet = self._tuplet(arguments, at)
                elif name not in UNSEEN_BEAT_EFFECTS:
                    self._keep_beat_effect(effects, name, arguments)
        self.at += 1

    def _tuplet(self, arguments: Arguments, at: int) -> tuple[int, int]:
        if len(arguments) == 1:
            arguments = (arguments[0], USUAL_TUPLETS.get(int(arguments[0]), 0))
        if len(arguments) != 2 or not all(isinstance(a, int) and a > 0 for a in arguments):
            self.fail(f"a tuplet needs two whole numbers above 0, found {arguments}", at)
        return arguments  # type: ignore[return-value]

    def _keep_beat_effect(self, effects: Effects, name: str, arguments: Arguments) -> None:
        if name in UNSEEN_ARGUMENT:
            arguments = ()
        elif name in ONE_ARGUMENT_SEEN:
            arguments = arguments[:1]
        elif name == "tbe":
            arguments = canonical_whammy(arguments)
            if not arguments:
                return
        elif name == "beam":
            arguments = (*effects.get("beam", ()), *arguments)
        elif name == "lyrics":
            arguments = (*effects.get("lyrics", ()), str(arguments[-1]))
        elif name in ("ch", "txt"):
            arguments = (str(arguments[0]),)
        effects[name] = arguments
