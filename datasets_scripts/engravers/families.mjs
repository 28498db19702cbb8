// Families of text fonts beside the renderer's own: other cuts of figures, typewriters, and hands that write.
import fs from "node:fs";
import path from "node:path";
import { fontFile, textFont } from "../render/fonts.mjs";

const FAMILIES = {
  "architects-daughter": "ArchitectsDaughter",
  "courier-prime": "CourierPrime",
  "crimson-text": "CrimsonText",
  "kalam": "Kalam",
  "libre-baskerville": "LibreBaskerville",
  "open-sans": "OpenSans",
  "patrick-hand": "PatrickHand",
  "pt-sans": "PTSans",
};
const found = new Map();

function fileOf(name, weight, italic) {
  const style = `${weight}${italic ? "_Italic" : ""}`;
  const parts = ["@expo-google-fonts", name, style, `${FAMILIES[name]}_${style}.ttf`];
  const file = path.join(process.env.INTERMEZZO_ENGRAVER_MODULES, ...parts);
  return fs.existsSync(file) ? file : null;
}

/** Outlines of the font that draws a character; a cut that a family lacks is taken from its nearest. */
export function familyFont(name, bold, italic, code) {
  const own = textFont(name, bold, italic); // Arimo for a name that the renderer does not know
  if (!(name in FAMILIES)) return own;
  const key = `${name} ${bold} ${italic}`;
  if (!found.has(key)) {
    const cuts = [[bold, italic], [bold, false], [false, false]];
    const files = cuts.map(([heavy, slanted]) => fileOf(name, heavy ? "700Bold" : "400Regular", slanted));
    const file = files.find(Boolean);
    found.set(key, file ? fontFile(file) : own);
  }
  const font = found.get(key);
  return font.has(code) ? font : own;
}
