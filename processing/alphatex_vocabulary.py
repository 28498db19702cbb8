"""The words of alphaTex that reader and writer share: tags, effects, their order and their arguments."""

from __future__ import annotations


def _names(text: str) -> list[str]:
    return text.split()


# The fixed order of effects in canonical text; the names are alphaTab's.
NOTE_EFFECTS = _names(
    "x t g be nh ah ph th sh fh tr v vw sib sia ss sl sou sod psd psu h lht ac hac ten pm st lr lf rf string "
    "slur acc turn iturn umordent lmordent hide"
)
BEAT_EFFECTS = _names(
    "d dd tu gr f fo vs v vw s p tt su sd tbe bu bd au ad ch ot rasg txt lyrics tp cre dec dy fermata "
    "legatoorigin waho wahc barre slashed ds glpt glpf beam timer"
)
BAR_MARKS = _names("tf ft beaming jump clef ottava simile barlineleft barlineright spd sph spu tempo")
STAFF_TAGS = frozenset(_names("tuning capo chord displaytranspose transpose articulation"))
BAR_TAGS = frozenset(_names("ts ks ro rc ae section ac tempo")) | frozenset(BAR_MARKS)

# Tag of the head of a text to the field of `Score` that holds it.
INFO_FIELDS = {
    "title": "title", "subtitle": "subtitle", "artist": "artist", "album": "album", "words": "words",
    "music": "music", "copyright": "copyright", "tab": "transcriber",
}  # fmt: skip

# Effects whose arguments are free text, written in quotes.
QUOTED = frozenset({"txt", "ch", "lyrics", "tempo"})
# Bar marks that may come more than once in a bar: `Bar.other` holds a tuple of argument tuples for them.
REPEATABLE = frozenset({"jump", "beaming", "tempo", "spd", "sph", "spu"})
# Effects that alphaTab takes one word at a time, as often as there are words.
ONE_WORD_EACH = frozenset({"slur", "beam"})

TAGS_WITHOUT_ARGUMENT = frozenset(
    _names(
        "ro ac ft voice staff hidedynamics showdynamics usesystemsignseparator multibarrest extendbarlines "
        "chorddiagramsinscore hideemptystaves hideemptystavesinfirstsystem showsinglestaffbrackets"
    )
)
# Tags that say nothing about the notes of a system: layout, playback, and what alphaTab needs to read its own text.
IGNORED_TAGS = frozenset(
    _names(
        "usesystemsignseparator multibarrest extendbarlines chorddiagramsinscore hideemptystaves showdynamics "
        "hideemptystavesinfirstsystem showsinglestaffbrackets wordsandmusic copyright2 instructions notices "
        "systemslayout defaultsystemslayout bracketextendmode singletracktracknamepolicy "
        "multitracktracknamepolicy firstsystemtracknamemode othersystemstracknamemode "
        "firstsystemtracknameorientation othersystemstracknameorientation defaultbarnumberdisplay "
        "barnumberdisplay scale width sync accidentals instrument"
    )
)

EFFECTS_WITH_ARGUMENT = frozenset(
    _names(
        "be tr lf rf slur acc tu tbe ch ot rasg txt lyrics dy fermata barre beam tempo volume balance instrument bank"
    )
)
NUMBER_MAY_FOLLOW = frozenset(_names("ah ph th sh fh bu bd au ad tp"))
HARMONICS_WITH_FRET = frozenset(_names("ah ph th sh fh"))
# Playback only; alphaTab repeats a beat's tempo at its bar, which is where it is drawn from.
UNSEEN_BEAT_EFFECTS = frozenset(_names("tempo volume balance instrument bank"))
UNSEEN_ARGUMENT = frozenset(_names("bu bd au ad"))  # how long a brush takes
ONE_ARGUMENT_SEEN = frozenset({"tr", "fermata"})  # the speed of a trill, the length of a fermata are not drawn
GRACES = {"ob": "ob", "onbeat": "ob", "bb": "bb", "beforebeat": "bb", "b": "b", "bendgrace": "b"}
USUAL_TUPLETS = {3: 2, 5: 4, 6: 4, 7: 4, 9: 8, 10: 8, 11: 8, 12: 8}
DURATIONS = frozenset({-4, -2, 1, 2, 4, 8, 16, 32, 64, 128, 256})

# alphaTab writes these drums as another name for the same place on the staff; the plain one is canonical.
DRUM_NAMES = {"Snare (hit) 2": "Snare (hit)", "Snare (hit) 3": "Snare (hit)", "Tinkle Bell (hat)": "Snare (hit)"}
