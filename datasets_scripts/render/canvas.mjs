// alphaTab draws on this canvas. It is alphaTab's own SVG canvas for lines and curves; text and music symbols are
// written as outlines instead of <text>, whose CSS `font:` shorthand and baselines resvg does not follow.
import { alphaTab } from "./modules.mjs";
import { drawRun, musicFont, shape, textFont } from "./fonts.mjs";

const { Environment, RenderEngineFactory } = alphaTab;
const { SvgCanvas, TextAlign, TextBaseline } = alphaTab.platform;
const { FontStyle, FontWeight } = alphaTab.model;

export const ENGINE = "intermezzo-outlines";
/**
 * The picture being drawn; a process draws one at a time. `needsSystemFonts` turns true when a text holds characters
 * that none of our fonts has (Chinese titles): only such a picture pays for a search of the machine's fonts.
 */
export const drawing = { musicFont: "bravura", needsSystemFonts: false };

class OutlineCanvas extends SvgCanvas {
  // The caller puts the parts of a page into one picture, so a part is bare content, without an <svg> of its own.
  beginRender(width, height) {
    super.beginRender(width, height);
    this.buffer = "";
  }

  endRender() {
    return this.buffer;
  }

  get outlines() {
    return textFont(this.font.families[0], this.font.weight === FontWeight.Bold, this.font.style === FontStyle.Italic);
  }

  get fillAttribute() {
    return this.color.rgba === "#000000" ? "" : ` fill="${this.color.rgba}"`;
  }

  measureText(text) {
    const font = this.outlines;
    const { width, height } = shape(text ?? "", () => font, this.font.size);
    return { width, height };
  }

  fillText(text, x, y) {
    if (!text) return;
    const font = this.outlines;
    const size = this.font.size;
    const { run, width, missing } = shape(text, () => font, size);
    if (this.textAlign === TextAlign.Center) x -= width / 2;
    else if (this.textAlign === TextAlign.Right) x -= width;
    if (missing) {
      drawing.needsSystemFonts = true;
      const place = `x="${x}" y="${y + this.baselineOffset(font) * size}"`;
      const look = `font-size="${size}" font-family="sans-serif"${this.fillAttribute}`;
      this.buffer += `<text ${place} ${look}>${SvgCanvas._escapeText(text)}</text>`;
      return;
    }
    this.buffer += drawRun(run, x, y + this.baselineOffset(font) * size, size, this.fillAttribute);
  }

  /** How far below the given y the baseline lies, in units of the font size. */
  baselineOffset(font) {
    const cap = font.capHeight / font.unitsPerEm;
    if (this.textBaseline === TextBaseline.Top) return cap;
    if (this.textBaseline === TextBaseline.Middle) return cap / 2;
    if (this.textBaseline === TextBaseline.Bottom) return -font.descent / font.unitsPerEm;
    return 0;
  }

  fillMusicFontSymbol(x, y, relativeScale, symbol, centerAtPosition) {
    this.fillMusicFontSymbols(x, y, relativeScale, [symbol], centerAtPosition);
  }

  fillMusicFontSymbols(x, y, relativeScale, symbols, centerAtPosition) {
    const visible = symbols.filter((symbol) => symbol > 0);
    if (visible.length === 0) return;
    const size = this.settings.display.resources.engravingSettings.musicFontSize * relativeScale;
    const text = String.fromCodePoint(...visible);
    const { run, width } = shape(text, (code) => musicFont(drawing.musicFont, code), size);
    this.buffer += drawRun(run, centerAtPosition ? x - width / 2 : x, y, size, this.fillAttribute);
  }
}

Environment.renderEngines.set(ENGINE, new RenderEngineFactory(false, () => new OutlineCanvas()));
