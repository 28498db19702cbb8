// Stems, beams, flags, dots and tuplets of a tab as many engravers set them: from the numbers, or loose above or below
// the staff. VexFlow only knows the latter; it draws all else. All lengths are in layout pixels; `space` is the distance of two lines.
const FLAGS = { up: { 8: 0xe240, 16: 0xe242, 32: 0xe244, 64: 0xe246 }, down: { 8: 0xe241, 16: 0xe243, 32: 0xe245, 64: 0xe247 } };
const beamsFor = (duration) => Math.max(0, Math.log2(duration) - 2);

/** Where the stem of a note begins, for both directions. */
function anchors(note, { number_scale: scale, tab_space: space }) {
  const ys = note.getYs();
  const half = Math.max(4.5, 6 * scale) + Math.min(1.5, space * 0.1);
  return { x: note.getAbsoluteX(), top: Math.min(...ys) - half, bottom: Math.max(...ys) + half, ys };
}

/** "up" or "down" for notes that share a beam. */
function directionOf(group, job, middle) {
  if (job.stem_direction !== "auto") return job.stem_direction;
  const ys = group.flatMap(({ at }) => at.ys);
  return ys.reduce((sum, y) => sum + y, 0) / ys.length > middle ? "up" : "down";
}

/** Beams of a group: whole ones for what all have, parts for the rest; `tip(x)` is the end of the stem at x. */
function drawBeams(context, group, direction, tip, job) {
  const { beam_px: thick } = job;
  const step = (direction === "up" ? 1 : -1) * thick * 1.6;
  const stroke = (x0, x1, level) => {
    const [y0, y1] = [tip(x0) + level * step, tip(x1) + level * step];
    const over = direction === "up" ? thick : -thick;
    context.beginPath().moveTo(x0 - 0.5, y0).lineTo(x1 + 0.5, y1).lineTo(x1 + 0.5, y1 + over).lineTo(x0 - 0.5, y0 + over).closePath();
    context.fill();
  };
  const levels = group.map(({ beat }) => beamsFor(beat.duration));
  for (let level = 0; level < Math.max(...levels); level += 1) {
    let from = -1;
    for (let k = 0; k <= group.length; k += 1) {
      const inRun = k < group.length && levels[k] > level;
      if (inRun && from < 0) from = k;
      if (inRun || from < 0) continue;
      const x0 = group[from].at.x;
      if (k - from > 1) stroke(x0, group[k - 1].at.x, level);
      else if (from > 0) stroke(x0 - 8, x0, level);
      else stroke(x0, x0 + 8, level);
      from = -1;
    }
  }
}

/** One group of notes: a beam's, or a single note. */
function drawGroup(context, group, job, staff) {
  const direction = directionOf(group, job, staff.middle);
  const sign = direction === "up" ? -1 : 1;
  const outer = group.map(({ at }) => (direction === "up" ? at.top : at.bottom));
  const extreme = direction === "up" ? Math.min(...outer) : Math.max(...outer);
  const extra = Math.max(0, ...group.map(({ beat }) => beamsFor(beat.duration) - 2)) * job.beam_px * 1.6;
  const loose = job.stem_from === "edge"; // all stems stand beyond the staff, and reach as far
  const edge = direction === "up" ? staff.top - job.tab_space * 0.6 : staff.bottom + job.tab_space * 0.6;
  let end = (loose ? edge : extreme) + sign * (job.stem_spaces * job.tab_space * (loose ? 0.75 : 1) + extra);
  if (!loose && job.stem_end === "outside") {
    end = direction === "up" ? Math.min(end, staff.top - job.tab_space * 1.5) : Math.max(end, staff.bottom + job.tab_space * 1.5);
  }
  const beamed = group.length > 1;
  const first = group[0].at.x;
  const slope = beamed ? job.beam_slope * Math.sign(group.at(-1).at.ys[0] - group[0].at.ys[0]) : 0;
  const tip = (x) => end + slope * (x - first);
  context.setFillStyle("black").setStrokeStyle("black").setLineWidth(job.stem_px);
  for (const { at, beat } of group) {
    if (beat.duration < 2) continue;
    const xs = beat.duration === 2 && job.halves === "double" ? [at.x - 1.5, at.x + 1.5] : [at.x];
    const short = beat.duration === 2 && job.halves === "short";
    const from = loose ? edge : direction === "up" ? at.top : at.bottom;
    for (const x of xs) context.beginPath().moveTo(x, from).lineTo(x, short ? (from + tip(x)) / 2 : tip(x)).stroke();
    if (!beamed && beat.duration >= 8) {
      context.setFont("Arial", job.tab_space * 2.6);
      context.fillText(String.fromCodePoint(FLAGS[direction][beat.duration]), at.x - job.stem_px / 2, tip(at.x));
    }
  }
  if (beamed) drawBeams(context, group, direction, tip, job);
  return { direction, tip, edge };
}

function drawDots(context, { at, beat }, job, { direction, edge }) {
  const byStem = job.dot_place === "stem";
  const right = byStem ? at.x + 4.5 : at.x + 7 * job.number_scale + 3;
  const foot = edge + (direction === "up" ? 0.1 : 0.7) * job.tab_space;
  const ys = byStem ? [foot] : job.dot_place === "each" ? at.ys : [Math.min(...at.ys)];
  for (const y of ys) {
    for (let k = 0; k < beat.dots; k += 1) {
      context.beginPath().arc(right + k * 4.5, y - job.tab_space * 0.4, 1.5, 0, 2 * Math.PI, false).fill();
    }
  }
}

function drawTuplet(context, items, drawn, job) {
  const [x0, x1] = [items[0].at.x, items.at(-1).at.x];
  const up = job.tuplet_side === "beam" ? drawn.direction === "up" : job.tuplet_side === "above";
  const ends = items.flatMap(({ at }) => [at.top, at.bottom, drawn.tip(at.x)]);
  const y = up ? Math.min(...ends) - 7 : Math.max(...ends) + 14;
  const text = String(items[0].beat.tuplet[0]);
  context.setFont("Arial", 8, job.tuplet_bold ? "bold" : "normal", "italic");
  const { width } = context.measureText(text);
  const middle = (x0 + x1) / 2;
  context.fillText(text, middle - width / 2, y);
  if (!job.tuplet_bracket) return;
  const [line, hook] = [y - 4, up ? 4 : -4];
  context.setStrokeStyle("black").setLineWidth(0.9);
  context.beginPath().moveTo(x0 - 4, line + hook).lineTo(x0 - 4, line).lineTo(middle - width / 2 - 3, line).stroke();
  context.beginPath().moveTo(middle + width / 2 + 3, line).lineTo(x1 + 4, line).lineTo(x1 + 4, line + hook).stroke();
}

/** Draws all that tells the rhythm of one bar's numbers. `items`: of `notesOfBar`; `stave`: their tab staff. */
export function drawStems(context, items, job, stave) {
  const staff = { top: stave.getYForLine(0), bottom: stave.getYForLine(job.strings - 1) };
  staff.middle = (staff.top + staff.bottom) / 2;
  const all = items.filter(({ grace }) => !grace);
  const notes = all.filter(({ rest }) => !rest).map(({ note, beat }) => ({ beat, at: anchors(note, job) }));
  const groups = new Map();
  notes.forEach((item, k) => {
    const key = item.beat.beam < 0 ? `alone ${k}` : item.beat.beam;
    groups.set(key, [...(groups.get(key) ?? []), item]);
  });
  const drawn = new Map();
  for (const group of groups.values()) {
    const how = drawGroup(context, group, job, staff);
    group.forEach((item) => drawn.set(item.beat, how));
  }
  notes.filter(({ beat }) => beat.dots).forEach((item) => drawDots(context, item, job, drawn.get(item.beat)));
  const tuplets = new Map();
  for (const { note, beat, rest } of all) {
    if (!beat.tuplet || beat.tuplet_group < 0) continue;
    const x = note.getAbsoluteX();
    const at = rest ? { x, top: staff.middle - 8, bottom: staff.middle + 8, ys: [staff.middle] } : anchors(note, job);
    tuplets.set(beat.tuplet_group, [...(tuplets.get(beat.tuplet_group) ?? []), { beat, at }]);
  }
  for (const group of tuplets.values()) {
    const how = group.map(({ beat }) => drawn.get(beat)).find(Boolean) ?? { direction: "down", tip: () => staff.bottom };
    drawTuplet(context, group, how, job);
  }
}
