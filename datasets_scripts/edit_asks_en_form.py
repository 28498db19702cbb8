"""English templates of edits of style, time and parts, and of what is no edit; see `edit_templates`."""

from __future__ import annotations

from .edit_asks_en_pitch import Asks

_TIME: Asks = (
    (
        "(play|perform|make|take|run|do|write|notate) <it> <twice> as <fast>",
        "(play|perform|take|run|do|put) <it> (at|with) <double> (the |) (speed|pace|velocity|rate)",
        "(play|write|do|put|notate|take) <it> in <double>-time",
        "(make|let|have) <notes> last <short>",
        "(make|turn|let) the (durations|note lengths|rhythm values|time values) (be |) <short>",
        "(turn|change|convert|rewrite|make) (all |the |) <eighth>",
        "<shrink> (the|all|all the) (durations|rhythmic values|time values|lengths of the notes|note durations)",
        "<shrink> the length of (every|each) note",
        "(make|play|get) <it> <faster>, <twice> as <fast>",
        "(make|play|get|run) <it> <faster> <by>",
        "<speed> <it> <by>",
        "(let|have) <it> (go|run|move|flow) <twice> as <fast>",
        "(play|make|do|take|perform) <it> <slowly>",
        "(rewrite|notate) <it> with <notes> <short>",
        "switch (<it> |) to a <double>-time (feel|groove|notation)",
    ),
    (
        "<double> (speed|pace|tempo|velocity)",
        "<twice> (the (speed|pace)|as <fast>)( as now| as before| as it is|)",
        "a <double> speed version( of <it>|)",
        "(<it>|a version) at <double> (the |) (speed|pace)",
        "a <double>-time (version|feel|groove)",
        "(durations|note lengths|rhythms) <short>",
        "<values>",
    ),
    (
        "the (speed|pace|rate) should be <doubled>",
        "<it> should (go|run|move|be) <twice> as <fast>",
        "(I need|I want|we need|I'd like|<who> wants) <it> <twice> as <fast>",
        "(I need|I want|we need) <it> at <double> (the |) (speed|pace)",
        "<notes> should be <short>",
        "I want (the durations|the note lengths|all rhythms) (to be |) <short>",
        "can it go <twice> as <fast>",
        "<it> should be <slowly>",
    ),
)
#: Name of an entry to commands, names of what is wanted, and whole sentences.
ASKS: dict[str, Asks] = {
    "time:double": _TIME,
    "time:half": _TIME,
    "style": (
        (
            "<turn> <it> (into|to|as|in|towards) (a |an |some |proper |) {s} (piece|song|track|number|thing|tune"
            "|arrangement|)",
            "(play|do|perform|render|present|write|deliver|interpret) <it> (in|with) (a |the |an |) {s} <style>",
            "(play|do|perform|render|write|interpret|present|arrange|set) <it> (as|like|the way of|a la) {s}( music"
            "|)",
            "(give|lend) <it> (a|some|more of a|a bit of|a touch of|a proper) {s} (vibe|touch|groove|edge|twist"
            "|sound|character"
            "|makeover|treatment|attitude|colour|coating|spice|look)",
            "make <it> (sound|feel|groove|come across) (like|more like|more|as) {s}( music| songs| bands|)",
            "make <it> (more |a bit more |a bit |really |very |totally |) {s}",
            "(go|switch|change|move) (<it> |) (to|into|for) (a |) {s} <style>",
            "(bring in|mix in|inject|sprinkle|use) (some|a bit of|a little|a touch of) {s}( into <it>| here|)",
            "{s}-ify <it>",
            "(put|dress) <it> in (a |) {s} (groove|mode|outfit|jacket|clothing|setting|style)",
            "(change|switch|set|make) the (style|genre|feel|groove) (of <song> |) (to|into|be) {s}",
            "play as if you were a {s} (band|guitarist|player)",
        ),
        (
            "(a|some|a nice|a cool|my|the) {s} (version|cover|take|rendition|feel|remix|vibe|style|interpretation"
            "|rework)( of <it>|)",
            "{s} (vibe|feel|version|mode|groove|edition|cover|variant)",
            "something (more |more like |like |in the direction of |) {s}",
            "<it> (as|in) (a |) {s} (style|song|version|tune)",
            "style: {s}",
            "style = {s}",
            "genre {s}",
            "a bit (of|more) {s}",
        ),
        (
            "<it> (should|must|has to|could) (sound|be|feel|go) (like |more like |more |a bit |) {s}",
            "what (would|does) <it> sound like (as|in|as a piece of) {s}",
            "(I'm|we are|I am) in the mood for (some |) {s}",
            "(I'd love to|I want to|can I|let me|we would like to) hear <it> (as|in) (a |) {s}( version| style|)",
            "imagine a {s} (band|guitarist|player|group) (played|plays|covering) <it>",
            "(my band|our band|we|I) (plays|play|like|prefer|love) {s}, (adapt|change|convert) <it>",
            "(I|we) (want|need|prefer|would like) (it|this|<song>) (more |) {s}",
        ),
    ),
    "simplify": (
        (
            "make <it> <much> <easier>( to play| to read|)( for <learner>|)",
            "(simplify|ease|streamline|simplify down|water down|tone down|pare down|boil down|trim)"
            " <it>( for <learner>| a lot| a bit|)",
            "<lose> (all |) (the|those|any|all these) <tough> <stuff>",
            "<lose> (all |) (the|those|any) (ornaments|embellishments|decorations|frills|fancy techniques"
            "|fast notes|big chords"
            "|complicated rhythms|sixteenths|short notes|stretches|finger twisters|bells and whistles)",
            "(turn|convert|change|rework|rewrite|arrange|reduce|make) <it> (into|to|as) (a|an|some) <easy> (version"
            "|arrangement|tab"
            "|piece|exercise|one)",
            "(adapt|arrange|rewrite|prepare|edit|adjust|tailor|make|rework|prune) <it> for <learner>",
            "(reduce|cut|bring down|decrease|lessen|minimise|drop|tone down) the (complexity|level|demands"
            "|challenge|technical level"
            "|skill level|number of notes|technical demands)",
            "make (it|<song>) (so simple|so easy) that <learner> can (manage|play) it",
            "(use|take|write) (easier|simpler|smaller|basic) (chords|rhythms|grips|shapes|chord shapes|figures)"
            "( only|)",
            "(keep|leave) (only |just |) the (essentials|bare bones|skeleton|simple things|basic notes"
            "|most important notes)",
            "take it down (a notch|a level|to my level|in difficulty)",
            "go easy on (me|my fingers|the player|<learner>)",
            "thin <it> out",
        "(lighten|unclutter|declutter|smooth) <it>( a bit|)",
        "make <it> (playable|comfortable|manageable|painless|foolproof|effortless)( for <learner>|)",
        ),
        (
            "(an|a|the|some) <easy> (version|arrangement|tab|variant|edition|transcription|one)( of <it>|)"
            "( for <learner>|)",
            "something <easier>( for <learner>|)",
            "(<it>|the same thing) but <easier>",
            "<much> <easier>",
            "(less|fewer) (ornaments|complicated chords|fast notes|techniques|difficulty|notes|complexity)",
            "a version (<learner> can|that <learner> can|even <learner> can|I can) (play|manage|handle|learn)",
            "(suitable|good|ok|right|fit) for <learner>",
            "<easy> mode",
            "level: <easy>",
        ),
        (
            "<it> is (too|far too|way too|a bit too) <tough>( for me| for <learner>|)(, can it be <easier>"
            "|, make it <easier>|, help"
            "|, simplify|)",
            "(I|we|my fingers|my student) (can't|cannot|am not able to|fail to|struggle to|are unable to) (manage"
            "|handle|play|get through|master)"
            " (this|it|<song>)(, make it <easier>|, please simplify|, anything simpler|)",
            "(I'm|I am|he is|she is|we are) (only |just |still |) (a beginner|beginners|learning|starting out"
            "|new to this|not that good)"
            "(, make it <easier>|, so simplify it|, can I have something <easier>|)",
            "<learner> (should|must|wants to|has to|needs to) (be able to |) play (it|this|<song>)",
            "the (chords|rhythms|stretches|fast notes) are too <tough>",
            "could <it> be <much> <easier>",
            "I have (small|tiny|weak) hands, make it <easier>",
        ),
    ),
    "bass": (
        (
            "<add> (a|some|a simple|a nice|a little) <bass> <under> (it|this|<song>|the melody|the tune|the chords)",
            "<add> (a|some|a simple|a nice) <bass>( for <it>| as well| too| please|)",
            "<add> (some |) <basses>( <under> (it|the melody|the tune|this)| for the thumb| on the low strings|)",
            "(support|back up|underpin|accompany|ground|harmonise|complement|fill out) (it|<song>|the melody"
            "|the tune) with (a|some) (<bass>|<basses>)",
            "(give|provide|equip|supply|furnish) (it|<song>|the melody|this) (with |) (a|some) (<bass>|<basses>)",
            "(let|have) (the thumb|my thumb|a second voice|the low strings) (play|do|add|provide|take) (a|the|some)"
            " (<bass>|<basses>)",
            "(fill in|fill out|beef up|strengthen|thicken|fatten) the (bottom|bass|low end|low register"
            "|lower register|bottom end)",
            "(make|turn) it (into |) a (melody with|solo piece with|tune with) (a |) (bass|<basses>)",
        ),
        (
            "(a|some|a simple|an added|an extra) (<bass>|<basses>)( <under> (it|this|<song>|the melody)|)",
            "(<it>|the melody|the tune) (with|plus) (a|some) (<bass>|<basses>)",
            "more (bass|low end|bottom|<basses>)",
            "an (accompanying|additional|underlying) <bass>",
            "(melody|tune) and bass( together|)",
        ),
        (
            "(it|<song>|the melody) (needs|lacks|could use|is missing|wants|should have) (a|some) (<bass>|<basses>"
            "|low end|bottom)",
            "(I|we) (miss|need|want|would like|have no) (a|the|some) (<bass>|<basses>|bass player)(, add one"
            "|, write one|)",
            "(it sounds|this sounds) (thin|empty|hollow|weak), (add|put in|give it) (a|some) (<bass>|<basses>)",
            "there is no bass( yet| in it|), (add|make|write) (one|some)",
        ),
    ),
    "melody": (
        (
            "(keep|leave|play|retain|show|write|give me|save|preserve|output|use) <only> the <tune>",
            "(keep|leave|play|retain|show|take|preserve) the <tune> (only|alone|on its own|and nothing else"
            "|by itself|without anything else)",
            "<lose> (the|all|all the|any|every bit of) <chords>( and keep the <tune>|, keep the <tune>"
            "|, leaving the <tune>|)",
            "<lose> everything (but|except|apart from|other than|besides|below) the <tune>",
            "(extract|isolate|pull out|single out|pick out|separate|filter out|get|pluck out|distil|lift out|find)"
            " (just |only |) the <tune>",
            "(reduce|boil|cut|pare|strip|bring) <it> (down |) to (the <tune>|one voice|single notes"
            "|one note at a time|a single voice)",
            "(make|turn|convert) <it> (into |) (a monophonic line|monophonic|one voice|a lead sheet melody"
            "|a single-note line|one note at a time)",
            "(play|write|use) <only> (single notes|one note at a time|one voice|the top notes|the upper notes"
            "|one string at a time)",
            "mute (everything|all) (but|except|below) the <tune>",
            "(silence|mute|hide) (the|all) <chords>",
        ),
        (
            "<only> the <tune>",
            "the <tune> (only|alone|on its own|without <chords>|and nothing else|in single notes)",
            "(no|zero|without) <chords>(, <only> the <tune>|, melody please|)",
            "a (melody|single-note|monophonic|lead|one-voice|tune) (only |) version",
            "<tune> only",
            "a version without (the |) <chords>",
            "a (single-note|one-note|monophonic) (tab|line)",
        ),
        (
            "(I|we) (only |just |) (need|want|would like|care about) (the <tune>|the <tune> alone)",
            "(I|we) (don't|do not) (need|want|like) (the|any) <chords>(, <only> the <tune>|)",
            "the <tune> is (enough|all I need|all we want|sufficient)",
            "there should be (no <chords>|<only> the <tune>|only one note at a time)",
            "the <chords> (should|must|can) (go|disappear|be left out)",
            "what is the <tune> on its own",
        ),
    ),
    "metre": (
        (
            "<write> <it> in {m}( time| metre| meter|)",
            "(change|switch|set|turn|alter|move|convert|update) the (metre|meter|time signature|time|measure|beat"
            "|bars) (of <song> |) (to|into) {m}",
            "(change|switch|turn|convert|move|transform) <it> (to|into) (a |) {m}( time| metre| meter| bars"
            "| measures| piece|)",
            "(use|try|take|choose|employ|apply) (a |) {m} (metre|meter|time signature|bars|measures|beat"
            "|as the time signature|instead)",
            "(redraw|move|shift|relocate|reset|change) the (barlines|bar lines|measures) (for|to|to fit|to get) {m}",
            "(group|divide|split|cut|arrange|sort) (<notes>|the beats|<it>) (into|in) (bars of |measures of "
            "|groups of |) {m}( bars| measures|)",
            "(count|feel|beat|conduct|play) <it> in {m}",
            "make (every bar|each bar|the bars|every measure|each measure) (a |) {m}( bar| measure|)",
            "give <it> a {m} (metre|meter|time signature|beat)",
        ),
        (
            "(a|the) {m} (version|metre|meter|time signature|beat|measure|variant|notation)",
            "(<it>|the same notes|the same thing) in {m}( bars| time| metre|)",
            "time signature (=|:|of|is) {m}",
            "(metre|meter)(:| =| of|) {m}",
            "{m} (bars|measures|time|metre|meter|instead)",
        ),
        (
            "the (metre|meter|time|measure|beat) (should|must|has to|needs to) be {m}",
            "<it> (should|must|has to|needs to) be (written |counted |) in {m}",
            "(I need|we need|I want|I'd like|<who> wants|<who> counts) <it> in {m}",
            "there should be {m} (bars|measures)",
            "what does <it> look like (with bars of|in|as) {m}",
            "the barlines are wrong, it is (really |actually |) in {m}",
        ),
    ),
    "unknown": (
        (
            "(make|turn) <it> (into |) (jazz|jazzy|techno|hip hop|classical|funk|disco|country|soul|R&B|EDM|latin"
            "|tango|gospel|opera|swing"
            "|ambient|trap|house|a waltz for piano|baroque|christmas|cinematic|k-pop)( music| style|)",
            "(arrange|rewrite|transcribe|convert|adapt|write) <it> (for|to) (piano|violin|the flute|ukulele|drums"
            "|sax|saxophone|trumpet|cello"
            "|a choir|orchestra|string quartet|banjo|mandolin|harmonica|harp|accordion|two guitars|bass clarinet)",
            "(add|put in|write|include|insert) (drums|a drum beat|strings|vocals|lyrics|an intro|an outro|a bridge"
            "|reverb|distortion|delay"
            "|a solo|finger numbers|dynamics|a watermark|a cover page|the composer's name|page numbers"
            "|a click track|a title|chorus effect)",
            "(change|edit|fix|remove|translate|shorten) the (title|name|font|colour|color|background|margins"
            "|page size|file name|author|picture"
            "|copyright line|layout|subtitle)",
            "(delete|remove|repeat|copy|move|skip|loop) (bar|measure) (one|2|three|8|12|the last)",
            "(delete|repeat|remove|copy) the (first|last|second|third) (bar|line|page|section|verse|chorus)",
            "(save|export|print|send|upload|share|download|open|close|email|back up|rename|zip) (it|this|the file"
            "|my file|the picture|the PDF"
            "|the page|the audio|the window)( to my phone| as PDF| to the cloud| to my teacher|)",
            "(play|pause|stop|record|loop|rewind|mute) (the music|the song|it back|the playback|the recording"
            "|the video)",
            "turn (the volume|the sound|the screen|the speakers) (up|down|louder|quieter|brighter|darker|off)",
            "set the (tempo|bpm|metronome|speed) to (60|72|80|90|100|120|140|160)( bpm|)",
            "(check|correct|proofread|find|spot) (the |my |)(mistakes|errors|wrong notes|spelling|typos)",
            "(tell|write|read|sing|draw|paint) me a (story|joke|poem|song|picture|letter|recipe)",
            "make (it|this) (better|nicer|cooler|prettier|beautiful|sad|happy|special|great|interesting|emotional"
            "|romantic|different)",
            "(book|order|buy|find|call) (me |) (a flight|a pizza|new strings|a taxi|a hotel|a teacher|a guitar"
            "|some coffee)",
            "(do|change|fix|improve|try) (something|anything|it somehow|whatever you like|things)",
            "(turn|make|change|convert|rewrite) <it> (into|to|as) (a|an) (violin|drum|flute|orchestral|cello|vocal"
            "|organ|keyboard"
            "|brass|wind|choral) (score|part|piece|sheet|arrangement|solo)",
            "(lock|restart|unlock|charge|clean|start|update) (the computer|my phone|the app|the screen|the printer"
            "|the programme)",
            "(zoom|scroll|rotate|crop|flip) (in|the page|the picture|the image|the photo|to the end)",
        ),
        (
            "(lyrics|sheet music for piano|a music video|an MP3|the chords of another song|a drum track"
            "|a better version|something new"
            "|a PDF|the full score|a backing track|a translation|guitar lessons|the original recording)",
            "(nothing|nonsense|blah blah|qwerty|test|testing|foo bar|abc|xyz|hmm|nope|yes|yeah|okay)",
        ),
        (
            "(what|when|where|who) is (the weather|the time|my lesson|the composer|this song from|the singer"
            "|your name|it|the concert|the capital"
            " of France|the tempo here)",
            "(who|what) are you",
            "(how|where) (do|can) I (learn guitar|change strings|hold a pick|read tab|tune a guitar|practise scales"
            "|buy a capo|play barre chords|start)",
            "what (is|does) (a chord|a scale|a barre|a mode|a semitone|a capo do|transposing mean|drop D mean"
            "|a time signature)",
            "how (long|old|hard|fast|famous|popular) is (it|this|this song|the piece)",
            "(I am|I'm|she is|he is) (hungry|tired|bored|late|happy|in love|on my way|done for today|confused"
            "|not sure)",
            "(thanks|thank you|good morning|good night|bye|see you|hi there|hello|sorry|never mind|well done|cool"
            "|nice|great|awesome|haha|ok)"
            "( a lot| so much| everyone| my friend|)",
            "(I|we) (like|love|hate|know|wrote|heard|forgot) (it|this song|the guitar|that band|my strings)",
            "(recommend|suggest|show me) (a song|some songs|a teacher|a band|a good book|an easy tune to learn next)",
            "why (is there no sound|is it so slow|does it not work|is the page black|did it crash|not)",
            "(is|was) (this|it) (any good|correct|finished|famous|copyrighted|from the seventies)",
            "my (guitar|amp|string|computer) (is broken|broke|is out of tune|fell down|is new)",
        ),
    ),
}  # fmt: skip

__all__ = ["ASKS"]
