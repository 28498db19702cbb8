// One system by MuseScore (webmscore): MusicXML in, outlines and the places of lines, bars, numbers and rests out.
import { createRequire } from "node:module";
import path from "node:path";

// The module takes Node's own `fetch` and `navigator` for a browser's and then looks for its files on the web.
delete globalThis.fetch;
Object.defineProperty(globalThis, "navigator", { value: {}, writable: true, configurable: true });
const file = path.join(process.env.INTERMEZZO_ENGRAVER_MODULES, "webmscore", "webmscore.nodejs.cjs");
const loaded = createRequire(file)(file);
const WebMscore = loaded.default ?? loaded;

const SIDE = 160; // room kept around the staff lines, in units of the drawing
const ABOVE = 900;

const numbers = (text) => (text.match(/-?\d+(\.\d+)?/g) ?? []).map(Number);

function boxOf(shape) {
  const values = numbers(shape.replace(/^.*?(?: d| points)="([^"]*)".*$/s, "$1"));
  const xs = values.filter((_, k) => k % 2 === 0);
  const ys = values.filter((_, k) => k % 2 === 1);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const move = /transform="matrix\(([^)]*)\)"/.exec(shape);
  if (!move) return { x0, x1, y0, y1 };
  const [a, , , d, e, f] = numbers(move[1]);
  return { x0: x0 * a + e, x1: x1 * a + e, y0: y0 * d + f, y1: y1 * d + f };
}

function shapesOf(svg, name) {
  const pattern = new RegExp(`<(?:path|polyline)[^>]*class="${name}"[^>]*>`, "g");
  return svg.match(pattern) ?? [];
}

/** Draws a job: body and places in units of the drawing. */
export async function engrave(job) {
  await WebMscore.ready;
  const score = await WebMscore.load("musicxml", new TextEncoder().encode(job.xml), [], true);
  // The score is not given back: after a `destroy` this build fails to load every second score. The process is
  // renewed now and then instead (see process.py).
  if ((await score.npages()) !== 1) throw new Error("the system does not fit on one page");
  const svg = await score.saveSvg(0, false);
  const rows = shapesOf(svg, "StaffLines").map(boxOf);
  // A line comes once for each bar or system.
  const heights = rows.map(({ y0 }) => y0).sort((a, b) => a - b);
  const levels = heights.filter((y, k) => k === 0 || y - heights[k - 1] > 1);
  const x0 = Math.min(...rows.map((row) => row.x0));
  const x1 = Math.max(...rows.map((row) => row.x1));
  // Behind each number lies a white box that takes the line away: its place is the number's place.
  const heads = shapesOf(svg, "Note").filter((shape) => shape.includes('fill="#ffffff"')).map(boxOf);
  const middle = ({ x0: a, x1: b, y0: c, y1: d }) => ({ x: (a + b) / 2, y: (c + d) / 2 });
  const origin = { x: x0 - SIDE, y: levels[0] - ABOVE };
  const move = ({ x, y }) => ({ x: x - origin.x, y: y - origin.y });
  const bars = shapesOf(svg, "BarLine").map(boxOf).map((box) => [box.x0 - origin.x, box.x1 - origin.x]);
  const body = svg.slice(svg.indexOf("</desc>") + "</desc>".length, svg.lastIndexOf("</svg>"));
  return {
    body: `<g transform="translate(${-origin.x} ${-origin.y})">${body}</g>`,
    width: x1 - x0 + 2 * SIDE, height: levels.at(-1) - levels[0] + 2 * ABOVE,
    lines: levels.map((y) => y - origin.y),
    heads: heads.map(middle).map(move),
    rests: shapesOf(svg, "Rest").map(boxOf).map(middle).map(move),
    barlines: bars, x0: SIDE, x1: x1 - origin.x,
  };
}
