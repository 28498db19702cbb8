"""English templates of edits that move pitches or hands; see `edit_templates`."""

from __future__ import annotations

Asks = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]

_TRANSPOSE: Asks = (
    (
        "(transpose|move|shift|bring|take|push|bump|pitch|nudge|slide|carry|put) <it> <up> (by |) <by>",
        "<raise> <it> (by |) <by>",
        "<raise> (the pitch|the key|the register|<notes>)( of <song>|) (by |) <by>",
        "<increase> (the pitch|the key|the tonality) (by |with |) <by>",
        "(go|move|shift|transpose|jump|step|climb) <up> (by |) <by>",
        "(play|write|set|make|put|notate|sing|have) <it> <by> (<higher>|<upwards>|<above> where it is)",
        "transpose (<it> |) <upwards> (by |) <by>",
        "(transpose|shift|move) <it> (by |) <by> (<upwards>|<higher>)",
        "(move|shift|slide) <notes> (by |) <by> (<upwards>|<higher>)",
        "(move|shift|slide|push) <notes> <up> (by |) <by>",
        "change the pitch by <by> <upwards>",
        "(transpose|shift|move|pitch) (<it> |)(by |)<sign>{d}( <semi>| half step| st|)",
        "<sharpen> <it> by <by>",
        "pitch shift <it> <by> <up>",
        "(transpose|pitch) <it> <up>, (say |namely |) <by>",
    ),
    (
        "<by> (<up>|<higher>|<upwards>)",
        "(<it>|a version|the same thing|the same) <by> (<higher>|<up>|<upwards>)",
        "<up> <by>",
        "a transposition <by> <up>",
        "a transposition <upwards> by <by>",
        "(<higher>|<up>) by <by>",
    ),
    (
        "(it|this|<song>) (is|sits|lies|goes|feels) (much |a bit |) too <low>( for my voice| for me| for her"
        "| to sing|),"
        " (so |) (bring|take|move|put) it <up> <by>",
        "it lies too <low>, <by> <higher> (would be good|would fit|is better|please)",
        "<it> should (be|sound|sit) <by> <higher>",
        "(I need|we need|I want|I would like|I'd like) <it> <by> (<higher>|<up>)",
        "<who> (needs|wants|asked for|would like) <it> <by> (<higher>|<up>)",
        "<who> can only sing <it> <by> <higher>",
        "<notes> should go <up> by <by>",
        "what about <by> <higher>",
    ),
)
#: Name of an entry to commands, names of what is wanted, and whole sentences.
ASKS: dict[str, Asks] = {
    "transpose:up": _TRANSPOSE,
    "transpose:down": _TRANSPOSE,
    "transpose:up whole": _TRANSPOSE,
    "transpose:down whole": _TRANSPOSE,
    "key": (
        (
            "(transpose|move|shift|bring|take|change|convert|put|modulate|switch|transfer|carry) <it> (to|into"
            "|over to) {k}",
            "(play|write|notate|set|do|sing|rewrite|redo|have|record|arrange) <it> in {k}",
            "(change|switch|set|move|turn|shift|make) the (key|tonality|key signature|tonic|tonal centre)"
            "( of <song>|)"
            " (to|into|be) {k}",
            "(choose|pick|take|use|try) {k} (as the key|as the new key|for the key|instead|as the tonality)",
            "go (to|into|for) (the key of |) {k}",
            "change (from the old key|from the present key|the current key) to {k}",
            "transpose so (that |)(it is|we are|it ends up|<song> is) in {k}",
            "make {k} the (key|new key|tonic|home key)",
        ),
        (
            "(a|the) (version|transcription|copy|arrangement|tab|chart) in {k}",
            "(<it>|the same thing|the same) in {k}",
            "{k} (as the key|instead|instead of this key|as the new key)",
            "a transposition (to|into) {k}",
            "key: {k}",
            "key = {k}",
            "{k} please",
            "the key of {k}",
        ),
        (
            "<it> (should|must|has to|needs to) be in {k}",
            "(I need|we need|I want|I'd like|I would prefer|we play|we do) <it> in {k}",
            "<who> (sings|wants|needs|plays|does) <it> in {k}",
            "(my voice|my range|her voice) (fits|suits|works better in|likes) {k}, so (move|transpose) it there",
            "the original key does not suit me, {k} (would|does)",
            "what would <it> look like in {k}",
            "we all agreed on {k} as the key",
        ),
    ),
    "capo": (
        (
            "<put> <capo> (on|at|onto|over|behind|across) <fret>",
            "<put> <capo> (on|at) <fret>, <shapes>",
            "<put> <capo> (on|at) <fret> (and|but) <shapes>",
            "(move|shift|slide|change|bring|take) (the|my) capo (up |over |) to <fret>",
            "(move|shift|slide|bring) (the|my) capo to <fret>, <shapes>",
            "(play|do|take|perform|notate) <it> with <capo> (on|at) <fret>",
            "capo <it> at <fret>",
            "capo up (to|at|on) <fret>",
            "mark (a capo|capo) at <fret>( in the header| in the tab|)",
            "write (a capo|capo) {d}( at the top| over the staff|)",
        ),
        (
            "(a capo|the capo|capo) (on|at|in) <fret>",
            "(a capo|the capo|capo) (on|at) <fret>, <shapes>",
            "capo position {n}",
            "capo (=|:) {d}",
            "capo fret {d}",
            "{o} fret capo",
            "capo: {o} fret",
            "<shapes>, capo (on|at|on fret|at fret) {n}",
        ),
        (
            "the capo (should|must|has to|needs to) (go|be|sit) (on|at) <fret>",
            "(I|we|I will|I'd like to|he wants to) (play|use|put|have) <capo> (on|at) <fret>",
            "(I have|I've got|I've put|there is) <capo> (on|at) <fret>",
            "my capo (goes|is|sits) (on|at) <fret>",
        ),
    ),
    "capo:off": (
        (
            "<lose> (the|my|that) (capo|capodaster|clamp)",
            "(unclip|release|undo|loosen|detach|unfasten) the capo",
            "(pull|put|get|leave|take) (the|that) capo (off|away|aside)",
            "(play|write|do|notate|make|set) <it> (without|with no|with zero) (capo|any capo|the capo)",
            "(set|put|reset) (the |)capo (to|at) (zero|0|none|nothing|fret 0)",
            "stop using (a|the) capo",
            "leave the neck open, no capo",
            "go capo-free",
            "go without (the|any) capo",
        ),
        ("(no|zero) capo( at all| anymore| any more| from now on|)", "capo (none|zero|0|gone)", "a (capoless"
        "|capo-free) version",
         "(<it>|a version|the same shapes) without any capo", "open strings instead of the capo"),
        ("(I|we) (don't|do not|can't|won't) (have|own|use|want|need) (a|the|any) capo( anymore| any more|)",
         "my capo (broke|is broken|is lost|got lost), (so |)(take|leave) it (out|off)", "the capo (must|should"
         "|has to|can) (go|come off)",
         "there should be no capo", "I left my capo at home", "I'd rather not use a capo", "I (hate|dislike)"
         " capos, remove it"),
    ),
    "recapo": (
        (
            "<put> <capo> (on|at|over) <fret>(,|) <sound>",
            "(move|shift|slide|change|bring) (the|my) capo to <fret>(,|) <sound>",
            "(play|do|rewrite|rework|arrange|notate|refinger) <it> with <capo> (on|at) <fret>(,|) <sound>",
            "<refinger> <it> for (a capo|capo) (on|at) <fret>(,|) <sound>",
            "(leave|keep) the (sound|pitch|real key|key|sounding notes) (as it is|unchanged|the same|untouched)"
            " (and|but) <put>"
            " <capo> (on|at) <fret>",
            "(rewrite|change|adjust|recompute) the (frets|shapes|fingering|tab) for (a capo|capo) (on|at) <fret>(,|)"
            " <sound>",
        ),
        (
            "(a capo|the capo|capo) (on|at) <fret>(,|) <sound>",
            "capo {d}, <sound>",
            "the same (sound|pitch|key|music) with <capo> (on|at) <fret>",
            "same (sound|pitch|key|concert key), capo (at|on|on fret|at fret) {n}",
            "the same pitch but with capo {d}",
            "a capo {n} (version|fingering) (at the same pitch|in the same key|that sounds the same)",
        ),
        (
            "the capo (should|must) go (on|at) <fret>(,|) <sound>",
            "(I want|I'd like|I need) to use <capo> (on|at) <fret>(,|) <sound>",
            "(I have|I've got|there is) <capo> (on|at) <fret>, (rewrite|rework|adapt) the tab so it sounds the same",
            "(nobody|no one) should hear that the capo is now (on|at) <fret>",
        ),
    ),
    "recapo:off": (
        (
            "<lose> the capo(,|) <sound>",
            "(play|write|do|notate|rewrite|arrange|refinger) <it> (without|with no) (capo|any capo|the capo)(,|)"
            " <sound>",
            "(leave|keep) the (sound|pitch|real key|key|sounding notes) (as it is|unchanged|the same) (and|but)"
            " <lose> the capo",
            "(set|put) the capo to (zero|0|none)(,|) <sound>",
            "(pull|put|get) the capo (off|away)(,|) <sound>",
            "(stop using|go without) the capo(,|) <sound>",
            "work the capo into the frets(,|) (so that it is not needed|no capo|without it)",
        ),
        (
            "(no|zero) capo( at all|)(,|) <sound>",
            "the same (sound|pitch|key|music) without (the|any|a) capo",
            "a (capoless|capo-free) version (at the same pitch|in the same key|that sounds the same)",
            "same (sound|pitch|key), no capo",
        ),
        (
            "(I|we) (don't|do not|can't) (have|own|use) a capo(,|) (but|yet) (it should|I want it to)"
            " sound (the same|as before)",
            "my capo is (broken|lost), (rewrite|rework|adapt) the tab so it sounds the same without it",
        ),
    ),
    "tuning": (
        (
            "(tune|retune|re-tune|set|change|switch|move) (the guitar|my guitar|the strings|it|this|the tuning) (to"
            "|into|over to) {t}",
            "(play|write|notate|do|put|arrange|perform) <it> in {t}",
            "<refinger> <it> (to|for|into) {t}",
            "<refinger> <it> for a guitar (in|tuned to|with) {t}",
            "(use|try|take|choose|employ|go with|apply) {t} (for <it>|instead|here|from now on|)",
            "(make|turn) <it> (into |) a {t} (tab|version|arrangement|transcription)",
            "(go|switch|change) (to|over to|into) {t}",
            "make the tuning {t}",
        ),
        (
            "(a|the) (tab|version|transcription|arrangement|chart) (for|in) {t}",
            "(<it>|the same thing) (for|in) {t}",
            "{t} (instead|for this|tab|version|as the tuning)",
            "tuning: {t}",
            "tuning = {t}",
            "{t}",
        ),
        (
            "the tuning (should|must|has to) be {t}",
            "(my guitar|my instrument|the guitar) (is tuned to|is set up in|uses|stays in|has) {t}",
            "(I|we|the band) (play|plays|use|tune to|always play|am in|are in) {t}, (so |)(adapt|rewrite|convert"
            "|change) <it>",
            "(I need|I want|we need) <it> (for|in) {t}",
            "how (do|would|can) I play <it> in {t}",
            "I only have a guitar in {t}",
            "<it> (should|must) work (in|with|on) {t}",
        ),
    ),
    "position": (
        (
            "(play|finger|perform|fret|do|take) <it> in (position {n}|the {o} position|position {d}|{o} position)",
            "(play|finger|perform|fret|put|set) (<it>|<notes>|the same notes) <near> (the {o} fret|fret {n})",
            "(move|shift|slide|bring|take|carry) (<it>|the fingering|the hand|my hand|the left hand|<notes>)"
            " (up |down |over |) to (position {n}|the {o} position|the {o} fret|around fret {n}"
            "|the area of fret {n})",
            "(put|place|keep|hold|set|park) (the|my|your) (left hand|hand|fretting hand|fingers|first finger"
            "|index finger)"
            " <near> (the {o} fret|fret {n}|position {n})",
            "(use|choose|take|stay in|switch to|change to|go to) (the {o} position|position {n}|{o} position)",
            "(refinger|re-finger|rearrange|rework|relocate) <it> (to|for|in|into|around) (the {o} position"
            "|position {n}|fret {n})",
            "let the hand (sit|stay|rest) <near> (fret {n}|the {o} fret)",
            "(play|finger|do|take) <it> (further |higher |) (up|along|on) the neck <near> (fret {n}|the {o} fret)",
        ),
        (
            "(the {o} position|{o} position|position {n}|position number {n})",
            "(<it>|the same notes|the same pitches|the fingering) in (the {o} position|position {n}|{o} position)",
            "(the same notes|the same pitches|an alternative fingering|a fingering) <near> (fret {n}|the {o} fret)",
            "position: {d}",
            "pos {d}",
        ),
        (
            "(I|we) (want|would like|prefer|need) to play <it> (<near> fret {n}|in position {n}|in the {o} position)",
            "<it> (should|must) be (played|fingered|fretted) (<near> fret {n}|<near> the {o} fret"
            "|in the {o} position)",
            "the (hand|left hand|fingering|position) (should|must) be <near> (fret {n}|the {o} fret)",
            "is there a way to play <it> (<near> the {o} fret|in position {n})",
            "it's comfortable for me around fret {n}",
        ),
    ),
}  # fmt: skip

__all__ = ["ASKS", "Asks"]
