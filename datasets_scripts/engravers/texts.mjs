// Texts of engravers that leave them to the font of whoever looks: drawn as outlines of the renderer's fonts.
import { drawRun, shape, textFont } from "../render/fonts.mjs";

const SHARE = { start: 0, middle: 0.5, end: 1 }; // of a text's width that stands left of its place

/** Outlines of `[{text, x, y, size, anchor, bold}]` in a family of fonts; `bold`: all of them. */
export function outlineTexts(texts, family, bold) {
  const drawn = texts.map(({ text, x, y, size, anchor, bold: heavy }) => {
    const font = textFont(family, bold || heavy, false);
    const { run, width } = shape(text, () => font, size);
    return drawRun(run, x - width * (SHARE[anchor] ?? 0), y, size, "");
  });
  return drawn.join("");
}
