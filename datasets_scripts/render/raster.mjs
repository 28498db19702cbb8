// SVG to pixels, ink box, crop, and a small PNG writer (grey or RGB): the rasteriser's own PNG is RGBA, four times
// the bytes that a picture of black ink on white paper needs, and it can not crop.
import zlib from "node:zlib";
import { Resvg } from "./modules.mjs";

const CRC_TABLE = new Uint32Array(256).map((_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

function crc32(bytes) {
  let value = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) value = CRC_TABLE[(value ^ bytes[i]) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function chunk(type, body) {
  const out = Buffer.alloc(12 + body.length);
  out.writeUInt32BE(body.length, 0);
  out.write(type, 4, "latin1");
  body.copy(out, 8);
  out.writeUInt32BE(crc32(out.subarray(4, 8 + body.length)), 8 + body.length);
  return out;
}

/** RGBA pixels of an SVG on white. */
export function rasterise(svg, loadSystemFonts) {
  const image = new Resvg(svg, { background: "white", font: { loadSystemFonts } }).render();
  return { pixels: image.pixels, width: image.width, height: image.height };
}

/** RGB PNG of any SVG on white, its longer side `sidePx` pixels. */
export function drawSvg(svg, sidePx) {
  const own = new Resvg(svg, { font: { loadSystemFonts: false } });
  const fitTo = { mode: own.width >= own.height ? "width" : "height", value: sidePx };
  const image = new Resvg(svg, { background: "white", fitTo, font: { loadSystemFonts: false } }).render();
  const { pixels, width, height } = image;
  return encodePng({ pixels, width, height }, { x: 0, y: 0, w: width, h: height }, true);
}

/** Smallest box `{x, y, w, h}` that holds all ink, or null for an empty picture. */
export function inkBox({ pixels, width, height }) {
  const words = new Uint32Array(pixels.buffer, pixels.byteOffset, width * height);
  const white = 0xffffffff;
  const rowIsWhite = (y) => {
    for (let i = y * width, end = i + width; i < end; i++) if (words[i] !== white) return false;
    return true;
  };
  let top = 0;
  while (top < height && rowIsWhite(top)) top++;
  if (top === height) return null;
  let bottom = height - 1;
  while (rowIsWhite(bottom)) bottom--;
  let left = width;
  let right = 0;
  for (let y = top; y <= bottom; y++) {
    const row = y * width;
    for (let x = 0; x < left; x++) if (words[row + x] !== white) { left = x; break; }
    for (let x = width - 1; x > right; x--) if (words[row + x] !== white) { right = x; break; }
  }
  return { x: left, y: top, w: right - left + 1, h: bottom - top + 1 };
}

/** PNG of the part `box` of a picture; what lies outside the picture is white. */
export function encodePng(picture, box, color) {
  const channels = color ? 3 : 1;
  const stride = 1 + box.w * channels;
  const raw = Buffer.alloc(stride * box.h, 255);
  const { pixels, width, height } = picture;
  for (let y = 0; y < box.h; y++) {
    let to = y * stride;
    raw[to++] = 0; // PNG filter "none"
    const fromY = y + box.y;
    if (fromY < 0 || fromY >= height) continue;
    for (let x = 0; x < box.w; x++) {
      const fromX = x + box.x;
      if (fromX < 0 || fromX >= width) { to += channels; continue; }
      const from = (fromY * width + fromX) * 4;
      const r = pixels[from], g = pixels[from + 1], b = pixels[from + 2];
      if (color) { raw[to++] = r; raw[to++] = g; raw[to++] = b; }
      else raw[to++] = (77 * r + 150 * g + 29 * b) >> 8;
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(box.w, 0);
  header.writeUInt32BE(box.h, 4);
  header[8] = 8; // bits a sample
  header[9] = color ? 2 : 0; // RGB or grey
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const body = zlib.deflateSync(raw, { level: 3 });
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", body), chunk("IEND", Buffer.alloc(0))]);
}
