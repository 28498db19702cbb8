// One system by VexFlow: bars of tab with rhythm, optionally a score staff above, and where everything lies.
// The job says in plain words what to draw (see vexflow.py); nothing else is drawn.
import { pathToFileURL } from "node:url";
import path from "node:path";
import { OutlineContext } from "./vexflow_canvas.mjs";
import { drawStems } from "./vexflow_stems.mjs";

// VexFlow reads a CSS font by way of a page's element when a dot takes over its note's font.
globalThis.document ??= { createElement: () => ({ style: cssFont() }) };

/** An object that takes `font = "bold 10pt Arial"` apart as a browser does. */
function cssFont() {
  const parsed = {};
  return {
    set font(text) {
      const found = /^(?:(italic|oblique|normal)\s+)?(?:(bold|bolder|normal|\d+)\s+)?([\d.]+\w+)\s+(.*)$/.exec(text) ?? [];
      Object.assign(parsed, { style: found[1], weight: found[2], size: found[3], family: found[4] });
    },
    get fontFamily() { return parsed.family ?? "Arial"; },
    get fontSize() { return parsed.size ?? "10pt"; },
    get fontWeight() { return parsed.weight ?? "normal"; },
    get fontStyle() { return parsed.style ?? "normal"; },
  };
}

const entry = path.join(process.env.INTERMEZZO_ENGRAVER_MODULES, "vexflow", "build", "esm", "entry", "vexflow-core.js");
const VF = await import(pathToFileURL(entry).href);

const TAB_TOP = 460; // room above for effects, below for stems; the crop follows the ink
const LEFT = 40;
const REST_KEY = "b/4";
const STROKES = { bd: 1, bu: 2, ad: 3, au: 4 };

/** Whether VexFlow draws the stems of a tab, below the staff, and not `drawStems`. */
const stemsBelow = (job) => job.stems && !job.own_stems;

function tabNote(beat, job) {
  const note = new VF.TabNote(
    {
      positions: beat.notes.map(({ string, text }) => ({ str: string, fret: text })),
      duration: String(beat.duration), dots: beat.dots, stemDirection: -1,
    },
    stemsBelow(job) && beat.duration > 1,
  );
  // Nothing else tells a half from a quarter on a tab: its stem is half as long.
  if (stemsBelow(job) && beat.duration === 2) note.getStem().setExtension(-VF.Stem.HEIGHT / 2);
  return note;
}

function restNote(beat) {
  return new VF.StaveNote({ keys: [REST_KEY], duration: `${beat.duration}r`, dots: beat.dots });
}

/** Takes a rest's time on the tab, where only the score staff shows it. */
function ghostNote(beat) {
  return new VF.GhostNote({ duration: String(beat.duration), dots: beat.dots });
}

function scoreNote(beat, job) {
  return new VF.StaveNote({
    keys: beat.notes.map(({ key, dead }) => (dead ? `${key}/x2` : key)),
    duration: String(beat.duration), dots: beat.dots, autoStem: true, clef: job.clef_name,
  });
}

function bendPhrase(shape) {
  return shape.map(({ up, text }) => ({ type: up ? VF.Bend.UP : VF.Bend.DOWN, text }));
}

/** Notes of one bar on one staff, in order; `marks` collects what is drawn over several notes. */
function notesOfBar(bar, job, tab) {
  const out = [];
  let graces = [];
  bar.beats.forEach((beat, index) => {
    if (beat.grace) {
      const grace = tab
        ? new VF.GraceTabNote({
            positions: beat.notes.map(({ string, text }) => ({ str: string, fret: text })), duration: String(beat.duration),
          })
        : new VF.GraceNote({
            keys: beat.notes.map(({ key }) => key), duration: String(beat.duration), slash: false, clef: job.clef_name,
          });
      graces.push({ note: grace, index });
      return;
    }
    const rest = beat.notes.length === 0;
    const unseen = rest && tab && job.score && job.tab_rests === false;
    const note = unseen ? ghostNote(beat) : rest ? restNote(beat) : tab ? tabNote(beat, job) : scoreNote(beat, job);
    const dots = !unseen && (!tab || rest || stemsBelow(job)) ? beat.dots : 0;
    for (let i = 0; i < dots; i++) VF.Dot.buildAndAttach([note], { all: !tab });
    if (graces.length) {
      note.addModifier(new VF.GraceNoteGroup(graces.map((grace) => grace.note), false), 0);
      graces.forEach((grace) => out.push({ ...grace, grace: true }));
      graces = [];
    }
    if (!rest) (tab ? tabModifiers : scoreModifiers)(note, beat);
    if (!rest && tab !== Boolean(job.score && job.words_on_score)) addWords(note, beat, job);
    out.push({ note, index, beat, rest });
  });
  return out;
}

function tabModifiers(note, beat) {
  beat.notes.forEach((head, k) => {
    if (head.bend) note.addModifier(new VF.Bend(bendPhrase(head.bend)), k);
  });
  if (beat.vibrato) note.addModifier(new VF.Vibrato(), 0);
  if (beat.stroke) note.addModifier(new VF.Stroke(STROKES[beat.stroke]), 0);
}

/** Letters over a note (tapping, slap, pop) and signs of strokes. */
function addWords(note, beat, job) {
  for (const word of beat.words) {
    const text = new VF.Annotation(word).setVerticalJustification(VF.Annotation.VerticalJustify.TOP);
    text.setFont("Arial", word.charCodeAt(0) >= 0xe000 ? 18 : 9, "normal", job.upright_words ? "normal" : "italic");
    note.addModifier(text, 0);
  }
}

function scoreModifiers(note, beat) {
  for (const sign of beat.articulations) note.addModifier(new VF.Articulation(sign).setPosition(3), 0);
}

/** Notes of one bar that have the same number under `key`, in order. */
function grouped(items, key) {
  const groups = new Map();
  for (const { note, beat, grace } of items) {
    if (grace || beat[key] < 0) continue;
    if (!groups.has(beat[key])) groups.set(beat[key], { notes: [], beat });
    groups.get(beat[key]).notes.push(note);
  }
  return [...groups.values()];
}

const beamsOf = (items, tab) => grouped(items, "beam").map(({ notes }) => new VF.Beam(notes, !tab));

function tupletsOf(items, tab) {
  const location = tab ? VF.Tuplet.LOCATION_BOTTOM : VF.Tuplet.LOCATION_TOP;
  return grouped(items, "tuplet_group").map(({ notes, beat: { tuplet: [numNotes, notesOccupied] } }) =>
    new VF.Tuplet(notes, { numNotes, notesOccupied, location, ratioed: false }));
}

/** `4/4`, or the C that means it. */
function metreSign([beats, value], job) {
  if (!job.letter_metre || beats !== value || beats > 4) return `${beats}/${value}`;
  return { 4: "C", 2: "C|" }[beats] ?? `${beats}/${value}`;
}

function makeStave(Kind, job, bar, index, x, y, width, first) {
  const stave = Kind === VF.TabStave
    ? new VF.TabStave(x, y, width, { numLines: job.strings, spacingBetweenLinesPx: job.tab_space })
    : new VF.Stave(x, y, width);
  const { type } = VF.Barline;
  if (bar.repeat_open) stave.setBegBarType(type.REPEAT_BEGIN);
  else if (!first) stave.setBegBarType(type.NONE);
  const last = index === job.bars.length - 1;
  if (bar.repeat_close) stave.setEndBarType(type.REPEAT_END);
  else if (last && job.final_bar) stave.setEndBarType(type.END);
  if (first && job.clef) stave.addClef(Kind === VF.TabStave ? "tab" : job.clef_name);
  if (bar.key && Kind !== VF.TabStave) stave.addKeySignature(bar.key);
  const hidden = Kind === VF.TabStave && job.score && job.metre_on_score;
  if (bar.metre && !hidden) stave.addTimeSignature(metreSign(bar.metre, job));
  stave.setStyle({ strokeStyle: job.line_colour, fillStyle: "black" });
  return stave;
}

function layoutBar(job, bar, index, x) {
  const tabItems = notesOfBar(bar, job, true);
  const scoreItems = job.score ? notesOfBar(bar, job, false) : [];
  const voiceOf = (items) => {
    const voice = new VF.Voice({ numBeats: 4, beatValue: 4 }).setMode(VF.Voice.Mode.SOFT);
    return voice.addTickables(items.filter((item) => !item.grace).map((item) => item.note));
  };
  // Tuplets change the length of their notes, so they come before the formatter.
  const tabTuplets = tupletsOf(tabItems, true); // made in any case: they tell the formatter how long notes are
  const scoreTuplets = tupletsOf(scoreItems, false);
  const first = index === 0;
  const staves = [makeStave(VF.TabStave, job, bar, index, x, TAB_TOP, 100, first)];
  if (job.score) staves.push(makeStave(VF.Stave, job, bar, index, x, TAB_TOP - job.score_gap, 100, first));
  const start = Math.max(...staves.map((stave) => stave.getNoteStartX())) - x;
  const voices = [voiceOf(tabItems)];
  const formatter = new VF.Formatter();
  staves.forEach((stave) => stave.setNoteStartX(x + start));
  tabItems.forEach(({ note, grace }) => !grace && note.setStave(staves[0]));
  formatter.joinVoices([voices[0]]);
  if (job.score) {
    voices.push(voiceOf(scoreItems));
    scoreItems.forEach(({ note, grace }) => !grace && note.setStave(staves[1]));
    VF.Accidental.applyAccidentals([voices[1]], bar.key_in_force);
    formatter.joinVoices([voices[1]]);
  }
  const beams = stemsBelow(job) ? beamsOf(tabItems, true) : [];
  const scoreBeams = beamsOf(scoreItems, false);
  const least = formatter.preCalculateMinTotalWidth(voices);
  const inner = job.tight ? job.tight * job.tab_space * tabItems.length : Math.max(least * job.spread, job.least_px * tabItems.length);
  const tail = 12 + (bar.repeat_close ? 10 : 0);
  staves.forEach((stave) => stave.setWidth(start + inner + tail).setNoteStartX(x + start)); // a width forgets the start
  formatter.format(voices, inner);
  return {
    bar, staves, voices, tabItems, scoreItems, beams: [...beams, ...scoreBeams],
    tuplets: [...(stemsBelow(job) ? tabTuplets : []), ...scoreTuplets], width: start + inner + tail, x,
  };
}

/** Refuses numbers that were set so close that they touch. */
function checkApart(items) {
  const notes = items.filter(({ rest }) => !rest).map(({ note }) => note);
  for (const [a, b] of notes.slice(1).map((note, k) => [notes[k], note])) {
    if (b.getAbsoluteX() - a.getAbsoluteX() < (a.getWidth() + b.getWidth()) / 2 + 0.5) throw new Error("numbers would touch");
  }
}

function drawBar(context, cell, job) {
  const { staves, voices } = cell;
  staves.forEach((stave, k) => {
    stave.setContext(context);
    stave.draw();
    voices[k].draw(context, stave);
  });
  if (job.tight) checkApart(cell.tabItems);
  cell.beams.forEach((beam) => beam.setContext(context).draw());
  cell.tuplets.forEach((tuplet) => tuplet.setContext(context).draw());
  if (job.stems && job.own_stems) drawStems(context, cell.tabItems, job, staves[0]);
}

/** Marks drawn above the whole bar: tempo, endings, times of a repeat, bar numbers. */
function drawBarMarks(context, cell, job, top) {
  const { bar, x, width } = cell;
  context.setFillStyle("black");
  if (bar.tempo) {
    const note = String.fromCodePoint(0xeca5);
    context.setFont("Arial", 18);
    const at = cell.staves[0].getNoteStartX() - 6;
    context.fillText(note, at, top);
    context.setFont("Arial", 11, job.bold_tempo ? "bold" : "normal");
    context.fillText(` = ${bar.tempo}`, at + 11, top);
    top -= 24;
  }
  if (bar.endings.length) {
    context.setFont("Arial", 9);
    context.fillText(`${bar.endings.join(". ")}.`, x + 5, top);
    context.fillRect(x + 1, top - 12, width - 4, 1);
    context.fillRect(x + 1, top - 12, 1, 16);
    if (bar.repeat_close) context.fillRect(x + width - 4, top - 12, 1, 16);
  }
  if (bar.repeat_close > 2) {
    context.setFont("Arial", 10);
    context.fillText(`${bar.repeat_close}x`, x + width - 20, bar.endings.length ? top - 16 : top);
  }
  if (bar.number) {
    context.setFont("Arial", 7);
    context.fillText(String(bar.number), x + 2, cell.staves.at(-1).getYForLine(0) - 4);
  }
}

/** Ties, hammer-ons, pull-offs and slides between two beats, by numbers of the notes in the whole system. */
function drawLinks(context, job, tab, score) {
  for (const link of job.links) {
    const [a, b] = [tab.get(link.from), tab.get(link.to)];
    const ends = { firstNote: a, lastNote: b, firstIndexes: [link.first], lastIndexes: [link.last] };
    if (link.kind === "slide") {
      const slide = new VF.TabSlide(ends, link.down ? -1 : 1);
      slide.text = link.text;
      slide.setContext(context).draw();
    }
    if (link.kind === "tie") {
      new VF.TabTie(ends, link.text).setContext(context).draw();
    }
    const [c, d] = [score.get(link.from), score.get(link.to)];
    if (link.on_score && c && d) new VF.StaveTie({ ...ends, firstNote: c, lastNote: d }).setContext(context).draw();
  }
  for (const { at, index, kind } of job.slides_alone) {
    const note = tab.get(at);
    const y = note.getYs()[index];
    const half = note.getWidth() / 2 + 2;
    const x = note.getAbsoluteX();
    const [x0, y0, x1, y1] = {
      sib: [x - half - 11, y + 4, x - half, y - 1], sia: [x - half - 11, y - 4, x - half, y + 1],
      sou: [x + half, y + 1, x + half + 11, y - 4], sod: [x + half, y - 1, x + half + 11, y + 4],
    }[kind];
    context.beginPath().moveTo(x0, y0).lineTo(x1, y1);
    context.setStrokeStyle("black").setLineWidth(1.2).stroke();
  }
}

/** "P.M." and "let ring" with a dashed line to the last of their notes. */
function drawSpans(context, job, tab, top) {
  for (const { from, to, text, row } of job.spans) {
    const y = top - row * 13;
    context.setFont("Arial", 8, "normal", "italic");
    const x0 = tab.get(from).getAbsoluteX() - 5;
    const x1 = tab.get(to).getAbsoluteX() + 5;
    context.setFillStyle("black").fillText(text, x0, y);
    const start = x0 + context.measureText(text).width + 3;
    if (from === to || x1 <= start) continue;
    context.save();
    context.setStrokeStyle("black").setLineWidth(0.9).setLineDash([4, 3]);
    context.beginPath().moveTo(start, y - 3).lineTo(x1, y - 3).stroke();
    context.setLineDash([]);
    context.beginPath().moveTo(x1, y - 6).lineTo(x1, y).stroke();
    context.restore();
  }
}

/** Draws a job: `{svg, width, height, lines, beats, bars}` in layout pixels. */
export function engrave(job) {
  const numbers = {
    scale: job.number_scale ?? 1, bold: Boolean(job.number_bold), family: job.number_font, rise: job.number_rise ?? 0,
  };
  const gaps = job.number_gaps ?? true;
  const context = new OutlineContext({ music: job.music_font, text: job.text_font, gaps, numbers });
  VF.Element.setTextMeasurementCanvas({ getContext: () => context });
  const cells = [];
  let x = LEFT;
  job.bars.forEach((bar, index) => {
    cells.push(layoutBar(job, bar, index, x));
    x += cells.at(-1).width;
  });
  cells.forEach((cell) => drawBar(context, cell, job));
  const tab = new Map();
  const score = new Map();
  const beats = [];
  cells.forEach((cell, bar) => {
    for (const { note, index, rest } of cell.tabItems) {
      tab.set(`${bar}.${index}`, note);
      const middle = rest ? note.getAbsoluteX() + (note.getGlyphWidth?.() ?? 0) / 2 : note.getAbsoluteX();
      beats.push({ bar, beat: index, x: middle, ys: rest ? [] : note.getYs() });
    }
    for (const { note, index } of cell.scoreItems) score.set(`${bar}.${index}`, note);
  });
  drawLinks(context, job, tab, score);
  const textLines = cells.flatMap(({ tabItems }) =>
    tabItems.map(({ note }) => note.getModifierContext()?.getState().topTextLine ?? 0));
  const stave = cells[0].staves[0];
  const above = stave.getYForTopText(Math.max(...textLines) + 0.6);
  const rows = Math.max(0, ...job.spans.map((span) => span.row + 1));
  drawSpans(context, job, tab, above);
  const scoreTop = job.score ? TAB_TOP - job.score_gap - 12 : above;
  // A height of 0 says that VexFlow has not placed the note on a staff of its own.
  const tall = cells.flatMap(({ scoreItems }) =>
    scoreItems.filter(({ grace }) => !grace).map(({ note }) => note.getBoundingBox().getY()).filter((y) => y > 1));
  const marks = Math.min(above - rows * 13 - 4, scoreTop, ...tall) - 6;
  if (!(marks > 60)) throw new Error("what stands above the staff needs more room than there is");
  cells.forEach((cell) => drawBarMarks(context, cell, job, marks));
  if (job.score) {
    const ends = [cells[0].staves[1], cells[0].staves[0]];
    for (const kind of [VF.StaveConnector.type.SINGLE_LEFT, ...(job.brace ? [VF.StaveConnector.type.BRACKET] : [])]) {
      new VF.StaveConnector(...ends).setType(kind).setContext(context).draw();
    }
  }
  const lines = Array.from({ length: job.strings }, (_, k) => stave.getYForLine(k));
  const bars = cells.map((cell) => [cell.x, cell.x + cell.width]);
  const height = TAB_TOP + job.strings * job.tab_space + 200;
  return { body: context.parts.join(""), width: x + 40, height, lines, beats, bars };
}
