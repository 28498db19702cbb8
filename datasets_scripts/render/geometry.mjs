// Where everything lies: systems, staff lines, bars, beats and notes of a finished layout, in layout units.
// Bars, beats and notes come from alphaTab's bounds lookup. Staff lines are not in it and are read from the layout.

const boxOf = (bounds) => ({ x: bounds.x, y: bounds.y, w: bounds.w, h: bounds.h });

/** Counted from the highest string = 1, as people and alphaTex do; alphaTab counts from the lowest. */
const stringNumber = (note) => (note.isStringed ? note.beat.voice.bar.staff.tuning.length - note.string + 1 : 0);

function staffOf(system, renderStaff) {
  const first = renderStaff.barRenderers[0];
  const last = renderStaff.barRenderers[renderStaff.barRenderers.length - 1];
  const left = system.x + renderStaff.x;
  const top = system.y + system.topPadding + renderStaff.y + first.y;
  return {
    kind: renderStaff.staffId === "tab" ? "tab" : renderStaff.staffId,
    track: renderStaff.modelStaff.track.index,
    staff: renderStaff.modelStaff.index,
    lines: Array.from({ length: first.drawnLineCount ?? 0 }, (_, line) => top + first.getLineY(line)),
    x0: left + first.x,
    x1: left + last.x + last.width,
  };
}

function addBeat(out, beatBounds, place) {
  const { beat } = beatBounds;
  const where = { ...place, voice: beat.voice.index, beat: beat.index };
  out.beats.push({ ...where, ...boxOf(beatBounds.visualBounds), on_x: beatBounds.onNotesX });
  for (const noteBounds of beatBounds.notes ?? []) {
    const { note } = noteBounds;
    out.notes.push({
      ...where,
      string: stringNumber(note),
      fret: note.isStringed ? note.fret : -1,
      ...boxOf(noteBounds.noteHeadBounds),
    });
  }
}

/** `{systems, bars, beats, notes}` of a renderer that has just drawn. */
export function readGeometry(renderer) {
  const layout = renderer.layout;
  const systems = layout._systems ?? [layout._system];
  const out = { systems: [], bars: [], beats: [], notes: [] };
  renderer.boundsLookup.staffSystems.forEach((systemBounds, index) => {
    const system = systems[index];
    const visible = system.staves.flatMap((group) => group.staves.filter((staff) => staff.isVisible));
    const staves = visible.map((staff) => staffOf(system, staff));
    out.systems.push({ ...boxOf(systemBounds.realBounds), staves });
    for (const masterBar of systemBounds.bars) {
      out.bars.push({ system: index, bar: masterBar.index, ...boxOf(masterBar.lineAlignedBounds) });
      // alphaTab adds the bars of a master bar staff by staff, in the order of the visible staves.
      masterBar.bars.forEach((barBounds, order) => {
        const { kind, track, staff } = staves[order];
        const place = { system: index, bar: masterBar.index, kind, track, staff };
        for (const beatBounds of barBounds.beats) addBeat(out, beatBounds, place);
      });
    }
  });
  return out;
}

/** The part of a box that lies on a picture: a system's box counts padding that the crop has taken off. */
function clip(box, { width, height }) {
  const x = Math.max(box.x, 0);
  const y = Math.max(box.y, 0);
  const within = (value) => Math.max(Math.round(value * 100) / 100, 0);
  const w = within(Math.min(box.x + box.w, width) - x);
  return { ...box, x, y, w, h: within(Math.min(box.y + box.h, height) - y) };
}

/** Moves and scales every coordinate: out = (in - origin) * scale. Systems outside `keep` are left out. */
export function transformGeometry(geometry, { x, y, scale, keep, width, height }) {
  const round = (pixels) => Math.round(pixels * 100) / 100; // shorter answers
  const acrossPx = (value) => round((value - x) * scale);
  const downPx = (value) => round((value - y) * scale);
  const place = (item) => ({
    ...item,
    x: acrossPx(item.x),
    y: downPx(item.y),
    w: round(item.w * scale),
    h: round(item.h * scale),
    ...(item.on_x === undefined ? {} : { on_x: acrossPx(item.on_x) }),
  });
  const first = Math.min(...keep);
  const stays = (item) => keep.has(item.system);
  const renumber = (item) => ({ ...place(item), system: item.system - first });
  return {
    systems: geometry.systems
      .filter((_, index) => keep.has(index))
      .map((system) => ({
        ...clip(place(system), { width, height }),
        staves: system.staves.map((staff) => ({
          ...staff,
          lines: staff.lines.map(downPx),
          x0: acrossPx(staff.x0),
          x1: acrossPx(staff.x1),
        })),
      })),
    bars: geometry.bars.filter(stays).map(renumber),
    beats: geometry.beats.filter(stays).map(renumber),
    notes: geometry.notes.filter(stays).map(renumber),
  };
}
