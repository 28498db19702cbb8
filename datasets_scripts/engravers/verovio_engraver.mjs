// One system that Verovio laid out (verovio.py): its drawing as it is, its texts as outlines of the renderer's fonts.
import { drawRun, shape, textFont } from "../render/fonts.mjs";

const SHARE = { start: 0, middle: 0.5, end: 1 }; // of a text's width that stands left of its place

/** Draws a job: body and places in units of the drawing. */
export async function engrave(job) {
  const { body, texts, width, height, lines, heads, rests, bars } = job;
  const outlines = texts.map(({ text, x, y, size, anchor, bold }) => {
    const font = textFont(job.text_font, bold || job.bold, false);
    const { run, width: wide } = shape(text, () => font, size);
    return drawRun(run, x - wide * (SHARE[anchor] ?? 0), y, size, "");
  });
  // Verovio leaves the colour of all strokes to its style sheet.
  const drawing = `<g color="black" stroke="black" xmlns:xlink="http://www.w3.org/1999/xlink">${body}</g>`;
  return { body: drawing + outlines.join(""), width, height, lines, heads, rests, bars };
}
