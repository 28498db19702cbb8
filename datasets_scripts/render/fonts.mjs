// Fonts become outlines here: text is measured and drawn from the same font file, so a picture needs no installed
// font, looks the same on every machine, and the rasteriser has no font database to fill for each picture.
import fs from "node:fs";
import { alphaTab, modulePath, opentype } from "./modules.mjs";

const GOOGLE_FONTS = {
  "arimo": ["arimo", "Arimo"],
  "tinos": ["tinos", "Tinos"],
  "lora": ["lora", "Lora"],
  "roboto-condensed": ["roboto-condensed", "RobotoCondensed"],
};
const MUSIC_FONTS = {
  bravura: { file: ["@coderline", "alphatab", "dist", "font", "Bravura.otf"] },
  leland: {
    file: ["@vexflow-fonts", "leland", "leland.otf"],
    metadata: ["@vexflow-fonts", "leland", "metadata.json"],
  },
  petaluma: {
    file: ["@vexflow-fonts", "petaluma", "petaluma.otf"],
    metadata: ["@vexflow-fonts", "petaluma", "metadata.json"],
  },
};

export const textFontNames = Object.keys(GOOGLE_FONTS);
export const musicFontNames = Object.keys(MUSIC_FONTS);

const round = (value) => Math.round(value * 100) / 100;

/** One font file with its glyph outlines kept as ready path strings in font units. */
class OutlineFont {
  constructor(file) {
    const bytes = fs.readFileSync(file);
    this.font = opentype.parse(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    this.unitsPerEm = this.font.unitsPerEm;
    this.capHeight = this.font.tables.os2?.sCapHeight || 0.7 * this.unitsPerEm;
    this.descent = -this.font.tables.hhea.descender;
    this.glyphs = new Map();
  }

  has(code) {
    return this.font.charToGlyphIndex(String.fromCodePoint(code)) > 0;
  }

  glyph(code) {
    let entry = this.glyphs.get(code);
    if (entry === undefined) {
      const glyph = this.font.charToGlyph(String.fromCodePoint(code));
      const box = glyph.getBoundingBox();
      entry = {
        // Drawn at size = unitsPerEm, so the path is in font units with y pointing down.
        path: glyph.getPath(0, 0, this.unitsPerEm).toPathData(1),
        advance: glyph.advanceWidth ?? 0,
        height: box.y2 - box.y1,
      };
      this.glyphs.set(code, entry);
    }
    return entry;
  }
}

const loaded = new Map();

/** Outlines of a font file, read once. */
export function fontFile(file) {
  if (!loaded.has(file)) loaded.set(file, new OutlineFont(file));
  return loaded.get(file);
}

const load = (parts) => fontFile(modulePath(...parts));

/** Outlines of a text font; `name` is one of `textFontNames`. */
export function textFont(name, bold, italic) {
  const [folder, prefix] = GOOGLE_FONTS[name] ?? GOOGLE_FONTS.arimo;
  const weight = bold ? "700Bold" : "400Regular";
  const style = italic ? `${weight}_Italic` : weight;
  return load(["@expo-google-fonts", folder, style, `${prefix}_${style}.ttf`]);
}

/** Outlines of a music (SMuFL) font that has this symbol; Bravura has them all. */
export function musicFont(name, code) {
  const font = load((MUSIC_FONTS[name] ?? MUSIC_FONTS.bravura).file);
  return name === "bravura" || font.has(code) ? font : load(MUSIC_FONTS.bravura.file);
}

const engraving = new Map();

/** alphaTab's engraving measures for a music font, read once from the font's SMuFL metadata. */
export function engravingSettings(name) {
  if (!MUSIC_FONTS[name]?.metadata) return null;
  if (!engraving.has(name)) {
    const metadata = JSON.parse(fs.readFileSync(modulePath(...MUSIC_FONTS[name].metadata), "utf8"));
    const bravura = new alphaTab.RenderingResources().engravingSettings;
    const settings = new alphaTab.RenderingResources().engravingSettings;
    settings.fillFromSmufl(metadata);
    // alphaTab leaves out a symbol whose width is 0. What this font lacks is drawn, and so measured, as in Bravura.
    const lacking = [...bravura.glyphWidths.keys()].filter((symbol) => !(settings.glyphWidths.get(symbol) > 0));
    for (const [key, defaults] of Object.entries(bravura)) {
      if (!(defaults instanceof Map)) continue;
      for (const symbol of lacking) if (defaults.has(symbol)) settings[key].set(symbol, defaults.get(symbol));
    }
    engraving.set(name, settings);
  }
  return engraving.get(name);
}

/** Outlines of one run of symbols as SVG, its baseline starting at (x, y). */
export function drawRun(run, x, y, size, attributes) {
  let out = "";
  let pen = 0;
  for (const { font, glyph } of run) {
    const scale = size / font.unitsPerEm;
    if (glyph.path) {
      const place = `translate(${round(x + pen)} ${round(y)}) scale(${scale.toFixed(5)})`;
      out += `<path transform="${place}"${attributes} d="${glyph.path}"/>`;
    }
    pen += glyph.advance * scale;
  }
  return out;
}

/** The glyphs of a string with their width and height in pixels; `missing` when a character has no glyph. */
export function shape(text, pick, size) {
  const run = [];
  let width = 0;
  let height = 0;
  let missing = false;
  for (const character of text) {
    const code = character.codePointAt(0);
    const font = pick(code);
    if (!font.has(code)) {
      missing = true;
      width += size;
      height = size;
      continue;
    }
    const glyph = font.glyph(code);
    run.push({ font, glyph });
    width += (glyph.advance * size) / font.unitsPerEm;
    height = Math.max(height, (glyph.height * size) / font.unitsPerEm);
  }
  return { run, width, height, missing };
}
