// One system by abcjs: ABC in; its drawing, the tab's lines, numbers, rests and bar lines out. It wants a browser's page.
import { createRequire } from "node:module";
import path from "node:path";
import { outlineTexts } from "./texts.mjs";

const need = createRequire(path.join(process.env.INTERMEZZO_ENGRAVER_MODULES, "abcjs", "package.json"));
const { JSDOM } = need("jsdom");
const page = new JSDOM('<div id="paper"></div>', { pretendToBeVisual: true });
globalThis.window = page.window;
globalThis.document = page.window.document;
// jsdom does not lay out: letters are about half as wide as they are high.
page.window.SVGElement.prototype.getBBox = function getBBox() {
  const size = parseFloat(this.getAttribute("font-size") ?? 12);
  return { x: 0, y: 0, width: (this.textContent ?? "").length * size * 0.55, height: size };
};
const abcjs = need("abcjs");

const numbers = (text) => (text?.match(/-?\d+(\.\d+)?/g) ?? []).map(Number);
const start = (element) => numbers(element?.getAttribute("d")); // x, y of where a path begins

/** Draws a job: body and places in units of the drawing. */
export async function engrave(job) {
  const tablature = [{ instrument: "guitar", label: "", tuning: job.tuning, capo: 0 }];
  const said = abcjs.renderAbc("paper", job.abc, {
    tablature, add_classes: true, staffwidth: job.staff_width, paddingbottom: 60,
    format: { tabnumberfont: `Helvetica ${job.number_points}` },
  });
  if (said[0]?.warnings?.length) throw new Error(`abcjs is in doubt: ${said[0].warnings[0].replace(/<[^>]*>/g, "")}`);
  const svg = document.querySelector("#paper svg");
  const all = (query) => [...svg.querySelectorAll(query)];
  const staves = all("g.abcjs-staff");
  if (staves.length !== 2) throw new Error(`${staves.length} staves were drawn`);
  const rows = [...staves[1].querySelectorAll("path")].map((line) => numbers(line.getAttribute("d")));
  const lines = rows.map((row) => (row[1] + row[5]) / 2);
  const heads = all("g.abcjs-tabNumber").map((group) => {
    const found = [...group.querySelectorAll("text")];
    const xs = found.map((text) => Number(text.getAttribute("x")));
    const ys = found.map((text) => Number(text.getAttribute("y")));
    return { x: xs.reduce((sum, x) => sum + x, 0) / xs.length, ys, texts: found.map((text) => text.textContent.trim()) };
  });
  // Notes and rests of the score staff, in their order: what has no number on the tab stands where they stand.
  const rests = all("g.abcjs-note:not(.abcjs-tabNumber), g.abcjs-rest").map((group) => ({
    x: start(group.querySelector("path"))[0] + 4, rest: group.classList.contains("abcjs-rest"),
  }));
  const bars = all("g.abcjs-bar").map((group) => {
    const xs = [...group.querySelectorAll("path")].map((line) => start(line)[0]);
    return [Math.min(...xs), Math.max(...xs)];
  });
  const texts = all("text").map((text) => {
    const place = { x: Number(text.getAttribute("x")), y: Number(text.getAttribute("y")) };
    const look = { size: Number(text.getAttribute("font-size")), anchor: text.getAttribute("text-anchor") };
    const bold = text.getAttribute("font-weight") === "bold";
    const out = { ...place, ...look, bold, text: text.textContent.trim() };
    text.remove();
    return out;
  });
  const [width, height] = ["width", "height"].map((name) => Number(svg.getAttribute(name)));
  const body = `<g color="black" fill="black" stroke="black">${svg.innerHTML.replace(/<(title|style)>.*?<\/\1>/gs, "")}</g>`;
  return {
    body: body + outlineTexts(texts, job.text_font, job.bold), width, height, lines, heads, rests, bars,
    x0: rows[0][0], x1: rows[0][2],
  };
}
