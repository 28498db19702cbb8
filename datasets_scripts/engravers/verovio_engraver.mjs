// One system that Verovio laid out (verovio.py): its drawing as it is, its texts as outlines of the renderer's fonts.
import { outlineTexts } from "./texts.mjs";

/** Draws a job: body and places in units of the drawing. */
export async function engrave({ body, texts, text_font: family, bold, width, height, lines, heads, rests, bars }) {
  // Verovio leaves the colour of all strokes to its style sheet.
  const drawing = `<g color="black" stroke="black" xmlns:xlink="http://www.w3.org/1999/xlink">${body}</g>`;
  return { body: drawing + outlineTexts(texts, family, bold), width, height, lines, heads, rests, bars };
}
