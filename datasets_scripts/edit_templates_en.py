"""Words that the English templates of edits share, and what may stand around a wish; see `edit_templates`."""

from __future__ import annotations

from collections.abc import Mapping

WORDS: dict[str, str] = {
    "it": "(it|it|this|this|that|the piece|the song|the tune|this piece|this song|this tune|the whole thing"
    "|everything"
    "|the whole piece|the whole song|the music|the tab|this tab|the part|the riff|the arrangement|my song|the score"
    "|this passage|these bars|all of it|all of this|the lot|the entire piece|the track)",
    "song": "(the piece|the song|the tune|this piece|this song|the music|the tab|this tab|the whole thing|the score)",
    "notes": "(notes|the notes|all notes|all the notes|every note|each note|every single note)",
    "semi": "(semitones|half steps|half-steps|half tones|semi-tones|semis|semitone steps)",
    "who": "(the singer|my singer|our vocalist|she|he|my teacher|the choir|my friend|the band|our sax player)",
    "much": "(a bit |a little |a lot |much |quite a bit |somewhat |way |far |)",
    "easier": "(easier|simpler|more basic|more accessible|gentler|less demanding|less tricky|less challenging"
    "|more playable|more manageable|less hard|not so hard|not so difficult|plainer|less complex|less fiddly"
    "|more doable"
    "|friendlier for the fingers|easier on the hands|less of a challenge|as easy as possible|as simple as possible)",
    "easy": "(easy|simple|basic|beginner|entry level|beginner's|simplified|elementary|starter|stripped down"
    "|less complex"
    "|child friendly|grade one|level 1|easy-to-play|entry-level|plain|bare-bones|learner)",
    "tough": "(hard|difficult|tricky|challenging|complicated|complex|demanding|fiddly|tough|advanced|fancy|awkward"
    "|showy)",
    "stuff": "(bits|stuff|passages|chords|rhythms|licks|ornaments|decorations|embellishments|sections|moves|runs"
    "|notes"
    "|things|trills and slides|bends|figures|fast runs|stretches|hammer-ons and pull-offs)",
    "learner": "(a beginner|beginners|my student|a learner|learners|newbies|a kid|kids|my daughter|a child|a starter"
    "|someone just starting out|my little brother|people new to guitar|a rookie|first year students|small hands"
    "|an absolute beginner|a total newcomer|amateurs|someone who has only played for a month)",
    "lose": "(take out|remove|leave out|cut|drop|skip|get rid of|strip away|strip out|omit|ditch|throw out|eliminate"
    "|avoid|delete|erase|kill|clear out|cut out|lose|discard|toss|wipe out|scrap|do away with)",
    "only": "(only|just|nothing but|solely|purely|merely)",
    "tune": "(melody|tune|melody line|main melody|lead line|top voice|upper voice|topmost voice|top part|melodic line"
    "|lead melody|vocal line|soprano line|lead part|highest voice|main tune|theme|upper line|singing line"
    "|lead voice)",
    "chords": "(chords|accompaniment|harmony|backing|harmonies|lower voices|other voices|chord notes|inner voices"
    "|bass and chords|supporting notes|other parts|lower notes|background|double stops|chord stuff)",
    "bass": "(bass|bass line|bassline|bass part|low line|bass voice|walking bass|low part|low voice"
    "|bass accompaniment"
    "|low-end part|bottom line|root-note bass|thumb line|lower part)",
    "basses": "(bass notes|low notes|root notes|low roots|bass tones|roots on the low strings|thumb notes"
    "|notes on the low strings|deep notes|low root notes)",
    "under": "(under|below|beneath|underneath|to|at the bottom of|below all of)",
    "add": "(add|put|write|insert|compose|create|place|lay|make up|throw in|include|slip in|build|make|bring in"
    "|work in)",
    "put": "(put|place|set|use|clip|stick|clamp|fix|mount|attach|fit|pop|throw|slap|fasten|have|position|snap)",
    "capo": "(a capo|the capo|capo|my capo|a capodaster|the capodastro|a cejilla)",
    "fret": "(fret {n}|the {o} fret|{n}|fret number {n}|fret {d}|the {o}|the {o} one|fret no. {d})",
    "shapes": "(same shapes|same fingering|keep the shapes|keep the same shapes|leave the chord shapes alone"
    "|fingering unchanged|the tab stays as written|do not touch the frets|the pitch may go up|let the pitch rise"
    "|same grips|fingers stay where they are|keep the fingering|it can sound higher|same chord shapes as now)",
    "sound": "(same pitch|same sound|keep the pitch|keep the sound|without changing the pitch"
    "|without altering the sound"
    "|but the pitch stays the same|while the sound stays the same|but it has to sound the same|pitch unchanged"
    "|so that it sounds exactly like before|so the actual pitch does not change|but leave the sounding pitch alone"
    "|but stay in the same key|in the same key|keeping the real key|keeping the concert pitch|keep the sounding notes"
    "|with identical sounding notes|rework the frets so it sounds the same"
    "|and recalculate the frets for the same pitch"
    "|and it must still be in the original key|at the original pitch|preserving the pitch|adjusting the fingering"
    "|and rearrange the fingering so that nothing sounds different|and change the shapes to match the old pitch"
    "|do not alter the sounding key|while staying at the same pitch|the listener should hear no difference"
    "|just with other shapes|and rework the shapes to compensate|and compensate in the tab|with the sound preserved)",
    "style": "(style|feel|vibe|manner|groove|fashion|way|flavour|flavor|spirit|mood|idiom|sound|genre)",
    "turn": "(turn|change|convert|transform|rework|remake|redo|rearrange|arrange|rewrite|recast|morph|adapt|switch"
    "|flip"
    "|reimagine|reinterpret|rebuild|translate|bring over)",
    "write": "(write|rewrite|notate|set|put|rebar|re-bar|redo|arrange|recast|lay out|score|count|regroup|re-notate"
    "|rearrange|express|convert|transcribe)",
    "near": "(near|around|at|by|close to|in the area of|in the region of|up at|somewhere around|up around)",
    "refinger": "(refinger|re-finger|rearrange|rework|rewrite|redo|transcribe|adapt|arrange|retab|re-tab|remap"
    "|convert|tab"
    "|port|translate)",
}  # fmt: skip
_UP = {
    "up": "up",
    "upwards": "(upwards|upward|up)",
    "higher": "higher",
    "raise": "(raise|lift|elevate|hoist|boost|raise up)",
    "increase": "(increase|raise|push up|bump up)",
    "low": "low",
    "plus": "plus",
    "above": "above",
    "sign": "+",
    "sharpen": "sharpen",
}
_DOWN = {
    "up": "down",
    "upwards": "(downwards|downward|down)",
    "higher": "lower",
    "raise": "(lower|drop|sink|reduce|let down|bring down)",
    "increase": "(decrease|lower|reduce|push down)",
    "low": "high",
    "plus": "minus",
    "above": "below",
    "sign": "-",
    "sharpen": "flatten",
}
_STEPS, _INTERVAL = {"by": "{n} <semi>"}, {"by": "({w}|{w}|the interval of {w}|exactly {w})"}
_FAST = {
    "values": "(rhythmic diminution|a diminution of the rhythm|diminished rhythm values)",
    "twice": "(twice|two times|2x|2 times|double)",
    "fast": "(fast|quick|rapid|speedy|brisk)",
    "double": "(double|x2|2x|200%)",
    "doubled": "doubled",
    "speed": "(speed up|quicken|accelerate|push)",
    "short": "(half as long|half their length|half the length|twice as short|half of what they are|50% shorter)",
    "eighth": "(quarters into eighths|quarter notes into eighth notes|crotchets into quavers"
    "|halves into quarters|eighths into sixteenths)",
    "shrink": "(halve|cut in half|divide by two|shorten by half|shrink by half)",
    "faster": "faster",
    "by": "(by a factor of two|two-fold|times two|by 100 percent|to double)",
    "slowly": "(twice as quick|two times quicker|double quick|two times as brisk|twice as swift|twice as speedily)",
}
_SLOW = {
    "values": "(rhythmic augmentation|an augmentation of the rhythm|augmented rhythm values)",
    "twice": "(half|half|only half)",
    "fast": "(fast|quick|rapid|speedy|brisk)",
    "double": "(half|50%|0.5x)",
    "doubled": "halved",
    "speed": "(slow down|decelerate|drag)",
    "short": "(twice as long|double their length|double the length|two times as long|twice what they are|100% longer)",
    "eighth": "(eighths into quarters"
    "|eighth notes into quarter notes|quavers into crotchets|quarters into halves|sixteenths into eighths)",
    "shrink": "(double|multiply by two|stretch to double|lengthen by a factor of two|extend two-fold)",
    "faster": "slower",
    "by": "(by a factor of two|two-fold|times two|by half|to half)",
    "slowly": "(twice as slow|two times slower|twice as slowly|half as quick|at half the pace|two times more slowly)",
}
#: Words of some entries alone.
OWN_WORDS: dict[str, Mapping[str, str]] = {
    "transpose:up": _UP | _STEPS,
    "transpose:down": _DOWN | _STEPS,
    "transpose:up whole": _UP | _INTERVAL,
    "transpose:down whole": _DOWN | _INTERVAL,
    "time:double": _FAST,
    "time:half": _SLOW,
}
#: What may stand before and after commands, names of what is wanted, whole sentences.
BEFORE = (
    "(please |pls |plz |could you |can you |could you please |can you please |would you |will you |can we "
    "|could we |I need you to "
    "|I'd like you to |I would like to |I want to |we need to |we want to |we should |you should |let us |let's "
    "|try to |help me |help us "
    "|help me to |it would be nice to |I have to |I'm trying to |please just |go ahead and |be so kind and "
    "|would it be possible to "
    "|is it possible to |is there a way to |my teacher wants me to |I was told to |quickly |simply |now "
    "|now please |first of all, |your job: "
    "|how do I |how can I |how about we |why don't we |maybe |kindly |do |I'd love to |the idea is to "
    "|the plan is to |what if we |we have to )",
    "(give me |I want |I need |I'd like |I would like |can I get |can I have |could I have |how about |what about "
    "|let me have |let me see "
    "|show me |we need |make me |please make |write me |looking for |I'm after |do you have |could we try "
    "|let us try |maybe |get me "
    "|we could do with |produce |create |prepare |I could use |I'd prefer |I prefer |print |send me |go for "
    "|can we have |please: |just |I'm looking for )",
    "(I think |you know, |well, |actually |to be honest, |so |basically |honestly, |the thing is, |sorry but |)",
)  # fmt: skip
AFTER = (
    "( please|, please|, thanks|, thank you|, thx| for me| for us| if possible| if you can| right now| now| today"
    "| asap| again| instead| this time|, ok"
    "|, would you|, could you|, will you| and leave the rest alone| but nothing else|, everything else stays"
    "| for tonight's gig| for the rehearsal"
    "| before my lesson| for the concert| when you have time|, cheers|, that's all|, mate| - thanks|..."
    "| and show me| for my lesson tomorrow| in the tab"
    "| for the recording| kindly|, nothing more|, many thanks|, I beg you| then| straight away)",
    "( please|, please|, thanks|, thank you| for me| if possible| now| for tonight| for the rehearsal"
    "|, nothing else|, cheers| for the lesson|, ok|...| then| this time)",
    "(, please|, thanks|, can you do that|, can you help|, what now|, please fix that|, could you help me with that"
    "|, is that possible|...|)",
)  # fmt: skip
START = (
    "(hi, |hello, |hey, |hey there, |hi there! |good morning, |ok, |okay, |so, |well, |right, |alright, |um, |now, "
    "|also, |listen, |quick question: |task: "
    "|request: |my wish: |dear editor, |one thing: |here is what I need: |what I want: |next: |yo, |uh, "
    "|as for the tab: |about <song>: |edit: |instruction: )"
)
#: Several wishes in one sentence: what stands between two of them, and around the first.
JOINS = (
    " and then ", ", then ", " and ", "; ", ", and also ", ", after that ", " plus ", ", finally ", ". Also ",
    ", next ", ", and ", " then ",
    ". Then ", " and also ", " as well as ", " and after that ", ", plus ", " + ", " & ", " and afterwards ",
    ", afterwards ", ". After that, ",
    ", and then ", ". And ", ", also ", ", followed by: ", ". Next, ", ", and on top of that ", ". Oh, and ",
    ", and at the same time ",
    " while you're at it, ", ", and when that is done, ", " but also ", ". Second, ", ", secondly ", ". Finally, ",
    ", subsequently ", " / ",
    ", in addition ", ". In addition, ", ", besides that ", ". Afterwards ", " and finally ", ", and last ",
    " - and ", ", with that done ",
    ", moreover ", " and next ", ". Additionally, ",
)  # fmt: skip
FIRST = (
    "",
    "",
    "",
    "",
    "",
    "first ",
    "first, ",
    "firstly, ",
    "1. ",
    "two things: ",
    "start with this: ",
    "to begin with, ",
)
#: Spellings of arguments for training, beside those of the books.
FILLS: dict[str, dict[str, tuple[str, ...]]] = {
    "w": {
        "1": ("one semitone", "1 semitone", "one half step", "1 half step", "a half-step", "a half tone",
        "a minor 2nd", "one half-tone"),
        "2": ("one whole tone", "one whole step", "a full tone", "a full step", "a major 2nd", "1 tone"),
        "3": ("a step and a half", "one and a half steps", "a minor 3rd", "one and a half tones"),
        "4": ("two whole tones", "two full steps", "a major 3rd", "2 whole steps", "two tones"),
        "5": ("a 4th", "a perfect 4th", "two and a half steps", "an interval of a fourth"),
        "6": ("three whole tones", "an augmented fourth", "a diminished fifth", "three whole steps"),
        "7": ("a 5th", "a perfect 5th", "three and a half steps", "an interval of a fifth"),
        "8": ("a minor 6th", "four whole steps"),
        "9": ("a major 6th", ),
        "10": ("a minor 7th", "five whole steps"),
        "11": ("a major 7th", ),
        "12": ("a full octave", "one full octave", "an 8ve", "1 octave", "a whole octave",
        "a perfect octave"),
    },
    "t": {
        "standard": ("standard E tuning", "E standard", "ordinary tuning", "the usual tuning", "E A D G B E",
        "concert standard tuning", "the default tuning"),
        "drop-d": ("drop d", "dropped D tuning", "DADGBE", "dropD", "a drop D tuning", "low D tuning"),
        "half-step-down": ("Eb standard", "E-flat standard", "tuned down half a step", "half-step-down tuning",
        "a semitone down tuning", "E flat standard"),
        "d-standard": ("d standard", "D-standard", "tuned down a whole step", "whole-step-down tuning",
        "a tone down tuning", "full step down tuning"),
        "drop-c": ("drop c", "dropped C tuning", "dropC", "a drop C tuning", "CGCFAD"),
        "dadgad": ("Dadgad", "D-A-D-G-A-D", "the DADGAD tuning", "Celtic DADGAD"),
        "open-g": ("open g", "the open G tuning", "DGDGBD", "open G major", "an open G tuning", "Keith's open G"),
        "open-d": ("open d", "the open D tuning", "DADF#AD", "open D major", "an open D tuning"),
    },
    "s": {
        "rock": ("rock music", "classic rock", "arena rock", "rock'n'roll", "rock & roll", "indie rock",
        "garage rock", "rocky", "rock 'n' roll"),
        "punk": ("punky", "skate punk", "punk-rock", "hardcore punk", "Ramones punk", "pop-punk"),
        "metal": ("death metal", "metal music", "heavy-metal", "metalcore", "speed metal", "metallic riffing",
        "power metal"),
        "blues": ("bluesy", "delta blues", "blues music", "twelve bar blues", "Chicago blues", "slow blues",
        "Texas blues", "blues shuffle"),
        "folk": ("folksy", "folk music", "acoustic folk", "folky", "fingerstyle folk", "campfire folk",
        "singer-songwriter folk", "folk ballad"),
        "bossa": ("bossa-nova", "bossanova", "Jobim bossa", "Brazilian bossa nova", "a bossa groove", "soft bossa"),
        "reggae": ("reggae music", "roots reggae", "Bob Marley reggae", "reggae offbeat", "offbeat reggae",
        "Caribbean reggae"),
    },
    "m": {
        "2/4": ("two-four", "2-4", "two quarter", "2 4", "march time"),
        "3/4": ("three-four", "3-4", "three quarter", "waltz", "triple", "a waltz metre"),
        "4/4": ("four-four", "4-4", "four quarter", "4 4", "normal four four", "straight four four"),
        "5/4": ("five-four", "5-4", "five quarter", "5 4"),
        "6/8": ("six-eight", "6-8", "six eighth", "6 8", "six eighths"),
        "7/8": ("seven-eight", "7-8", "seven eighth", "7 8", "seven eighths"),
        "9/8": ("nine-eight", "9-8", "nine eighth", "9 8", "nine eighths"),
        "12/8": ("twelve-eight", "12-8", "twelve eighth", "12 8", "twelve eighths"),
    },
    "n": {},
}  # fmt: skip
MAJOR = ("{l} major", "{l}", "the key of {l}", "{l} maj", "{l}-major", "{l}maj", "the {l} major key", "{l} dur")
MINOR = ("{l} minor", "{l}m", "the key of {l} minor", "{l} min", "{l}-minor", "{l}min", "the {l} minor key", "{l} moll")
SIGNS = {"b": ("{l}b", "{l} flat", "{l}-flat", "{l}♭"), "#": ("{l}#", "{l} sharp", "{l}-sharp", "{l}♯"), "": ("{l}",)}

__all__ = ["AFTER", "BEFORE", "FILLS", "FIRST", "JOINS", "MAJOR", "MINOR", "OWN_WORDS", "SIGNS", "START", "WORDS"]
