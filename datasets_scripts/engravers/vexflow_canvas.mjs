// VexFlow draws on this context: no browser, no DOM. Text and music symbols become outlines of the renderer's fonts,
// and texts are measured with the same outlines.
import { drawRun, musicFont, shape } from "../render/fonts.mjs";
import { familyFont } from "./families.mjs";

const round = (value) => Math.round(value * 100) / 100;
const MUSIC_FROM = 0xe000; // private use area: SMuFL symbols
const PX_PER_POINT = 4 / 3;
const NUMBER = /^[(<]?(\d{1,2}|X)[)>]?$/; // what stands on a tab line

/** `{size, bold, italic}` of VexFlow's font, a CSS string or an object with sizes in points. */
function fontOf(font, size, weight, style) {
  if (typeof font === "object" && font !== null) ({ size, weight, style } = font);
  else if (size === undefined && typeof font === "string") {
    const found = /([\d.]+)(pt|px|em)/.exec(font);
    size = found ? found[1] + found[2] : 10;
    weight = /bold/.test(font) ? "bold" : "normal";
    style = /italic/.test(font) ? "italic" : "normal";
  }
  const number = typeof size === "number" ? size : parseFloat(size ?? 10);
  const pixels = typeof size === "string" && size.endsWith("px") ? number : number * PX_PER_POINT;
  return { size: pixels, bold: String(weight).includes("bold"), italic: String(style).includes("italic") };
}

function extent(run, size) {
  let [left, right, up, down, pen] = [0, 0, 0, 0, 0];
  for (const { font, glyph, code } of run) {
    const scale = size / font.unitsPerEm;
    glyph.box ??= font.font.charToGlyph(String.fromCodePoint(code)).getBoundingBox();
    left = Math.min(left, pen + glyph.box.x1 * scale);
    right = Math.max(right, pen + glyph.box.x2 * scale);
    up = Math.max(up, glyph.box.y2 * scale);
    down = Math.min(down, glyph.box.y1 * scale);
    pen += glyph.advance * scale;
  }
  return { left, right, up, down };
}

/** Outlines of a text that may mix letters and music symbols, their size, and how far they stand above their place. */
function outlines(text, font, fonts) {
  let family = fonts.text;
  let rise = 0;
  if (fonts.numbers && NUMBER.test(text)) {
    const { scale, bold } = fonts.numbers;
    font = { ...font, size: font.size * scale, bold: font.bold || bold };
    family = fonts.numbers.family ?? family;
    rise = fonts.numbers.rise * font.size;
  }
  const pick = (code) =>
    code >= MUSIC_FROM ? musicFont(fonts.music, code) : familyFont(family, font.bold, font.italic, code);
  const shaped = shape(text, pick, font.size);
  shaped.run.forEach((item, place) => (item.code = [...text][place].codePointAt(0)));
  return { ...shaped, size: font.size, rise };
}

export class OutlineContext {
  constructor(fonts) {
    this.fonts = fonts;
    this.parts = [];
    this.path = "";
    this.state = { fill: "black", stroke: "black", width: 1, dash: "", cap: "butt", font: fontOf("10pt") };
    this.saved = [];
    this.turns = [];
  }

  // --- state
  save() { this.saved.push({ ...this.state }); return this; }
  restore() { this.state = this.saved.pop() ?? this.state; return this; }
  setFillStyle(style) { this.state.fill = style; return this; }
  setStrokeStyle(style) { this.state.stroke = style; return this; }
  set fillStyle(style) { this.state.fill = style; }
  get fillStyle() { return this.state.fill; }
  set strokeStyle(style) { this.state.stroke = style; }
  get strokeStyle() { return this.state.stroke; }
  setLineWidth(width) { this.state.width = width; return this; }
  setLineDash(dash) { this.state.dash = dash.join(","); return this; }
  setLineCap(cap) { this.state.cap = cap; return this; }
  setBackgroundFillStyle() { return this; }
  setShadowColor() { return this; }
  setShadowBlur() { return this; }
  setFont(font, size, weight, style) { this.state.font = fontOf(font, size, weight, style); return this; }
  getFont() { return `${this.state.font.size}px`; }
  set font(font) { this.setFont(font); }
  get font() { return this.getFont(); }
  scale() { return this; }
  resize() { return this; }
  clear() { this.parts = []; }

  // --- groups
  openGroup() { return null; }
  closeGroup() {}
  add() {}
  pointerRect() { return this; }
  openRotation(degrees, x, y) {
    this.parts.push(`<g transform="translate(${x},${y}) rotate(${degrees}) translate(${-x},${-y})">`);
  }
  closeRotation() { this.parts.push("</g>"); }

  // --- paths
  beginPath() { this.path = ""; return this; }
  moveTo(x, y) { this.path += `M${round(x)} ${round(y)}`; return this; }
  lineTo(x, y) { this.path += `L${round(x)} ${round(y)}`; return this; }
  bezierCurveTo(a, b, c, d, x, y) { this.path += `C${[a, b, c, d, x, y].map(round).join(" ")}`; return this; }
  quadraticCurveTo(a, b, x, y) { this.path += `Q${[a, b, x, y].map(round).join(" ")}`; return this; }
  closePath() { this.path += "Z"; return this; }
  arc(x, y, radius, from, to, backwards) {
    const at = (angle) => `${round(x + radius * Math.cos(angle))} ${round(y + radius * Math.sin(angle))}`;
    const sweep = backwards ? 0 : 1;
    const middle = (from + to) / 2;
    const leg = `A${radius} ${radius} 0 0 ${sweep} `;
    this.path += `${this.path ? "L" : "M"}${at(from)}${leg}${at(middle)}${leg}${at(to)}`;
    return this;
  }
  fill() {
    this.parts.push(`<path d="${this.path}" fill="${this.state.fill}"/>`);
    return this;
  }
  stroke() {
    const { stroke, width, dash, cap } = this.state;
    const dashes = dash ? ` stroke-dasharray="${dash}"` : "";
    this.parts.push(
      `<path d="${this.path}" fill="none" stroke="${stroke}" stroke-width="${width}" stroke-linecap="${cap}"${dashes}/>`,
    );
    return this;
  }
  rect(x, y, w, h) { this.path += `M${x} ${y}h${w}v${h}h${-w}Z`; return this; }
  fillRect(x, y, w, h) {
    if (h < 0) [y, h] = [y + h, -h];
    if (w < 0) [x, w] = [x + w, -w];
    this.parts.push(`<rect x="${round(x)}" y="${round(y)}" width="${round(w)}" height="${round(h)}" fill="${this.state.fill}"/>`);
    return this;
  }
  clearRect(x, y, w, h) {
    if (this.fonts.gaps === false) return this;
    this.parts.push(`<rect x="${round(x)}" y="${round(y)}" width="${round(w)}" height="${round(h)}" fill="white"/>`);
    return this;
  }

  // --- text
  measureText(text) {
    const { run, width, size } = outlines(text, this.state.font, this.fonts);
    const { left, right, up, down } = extent(run, size);
    return {
      width, actualBoundingBoxLeft: -left, actualBoundingBoxRight: right, actualBoundingBoxAscent: up,
      actualBoundingBoxDescent: -down, fontBoundingBoxAscent: this.state.font.size, fontBoundingBoxDescent: 0,
      emHeightAscent: this.state.font.size, emHeightDescent: 0, alphabeticBaseline: 0, hangingBaseline: 0,
      ideographicBaseline: 0,
    };
  }
  fillText(text, x, y) {
    const { run, size, rise } = outlines(text, this.state.font, this.fonts);
    const fill = this.state.fill === "black" || this.state.fill === "#000000" ? "" : ` fill="${this.state.fill}"`;
    this.parts.push(drawRun(run, x, y - rise, size, fill));
    return this;
  }
}
