// A long-lived process: one JSON job a line on stdin, one JSON answer a line on stdout, in the same order.
import readline from "node:readline";
import { encodePng, inkBox, rasterise } from "../render/raster.mjs";

const ENGRAVERS = {
  vexflow: () => import("./vexflow_engraver.mjs"),
  musescore: () => import("./musescore_engraver.mjs"),
  verovio: () => import("./verovio_engraver.mjs"),
  abcjs: () => import("./abcjs_engraver.mjs"),
};
const MARGIN_PX = 6;

const PLACES = ["beats", "heads", "rests"]; // lists of {x, y?, ys?, ...}
const EDGES = ["bars", "barlines"]; // lists of [left, right]

async function draw(job) {
  const { engrave } = await ENGRAVERS[job.engraver]();
  const { body, width, height, ...places } = await engrave(job);
  const { scale } = job;
  const size = `width="${Math.ceil(width * scale)}" height="${Math.ceil(height * scale)}"`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" ${size} viewBox="0 0 ${width} ${height}">${body}</svg>`;
  const picture = rasterise(svg, false);
  const ink = inkBox(picture) ?? { x: 0, y: 0, w: picture.width, h: picture.height };
  const box = { x: ink.x - MARGIN_PX, y: ink.y - MARGIN_PX, w: ink.w + 2 * MARGIN_PX, h: ink.h + 2 * MARGIN_PX };
  const across = (x) => x * scale - box.x;
  const down = (y) => y * scale - box.y;
  const out = { png: encodePng(picture, box, false).toString("base64"), width: box.w, height: box.h };
  out.lines = places.lines.map(down);
  for (const name of PLACES) {
    out[name] = (places[name] ?? []).map((item) => ({
      ...item, x: across(item.x),
      ...(item.y === undefined ? {} : { y: down(item.y) }), ...(item.ys ? { ys: item.ys.map(down) } : {}),
    }));
  }
  for (const name of EDGES) out[name] = (places[name] ?? []).map((edges) => edges.map(across));
  for (const name of ["x0", "x1"]) if (places[name] !== undefined) out[name] = across(places[name]);
  return out;
}

async function answer(line) {
  let id = null;
  try {
    const job = JSON.parse(line);
    id = job.id;
    if (job.verb === "hello") return { id, ok: true };
    return { id, ok: true, ...(await draw(job)) };
  } catch (error) {
    return { id, ok: false, error: { name: "renderer_error", message: String(error.message ?? error) } };
  }
}

for (const method of ["log", "info", "debug", "warn"]) console[method] = () => {};

for await (const line of readline.createInterface({ input: process.stdin, terminal: false })) {
  if (line.trim()) process.stdout.write(`${JSON.stringify(await answer(line))}\n`);
}
