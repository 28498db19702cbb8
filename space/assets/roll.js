// A piano roll that can be drawn on, that shows how it was painted, and that plays.
//
// Cells are codes as in `processing/piano_roll.py`: 0 silence, 1 held, 2 and more an onset of a loudness, 255 unknown.
(() => {
  "use strict";
  const Intermezzo = (window.Intermezzo = window.Intermezzo || {});
  const rolls = new Map();
  const PITCHES = 128;
  const UNKNOWN = 255;
  const INK = [47, 93, 98];
  const FRAME_MS = 70;
  const BLACK_KEYS = new Set([1, 3, 6, 8, 10]);

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  class Roll {
    constructor(root) {
      this.root = root;
      this.canvas = root.querySelector("canvas");
      this.canDraw = root.dataset.draw === "yes";
      this.erasing = false;
      this.find = (name) => root.querySelector(`.im-${name}`);
      this.empty(4);
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.canvas);
    }

    // Nothing is there yet: all of it is to be painted.
    empty(bars) {
      this.put({ steps: 16 * bars, bars: Array.from({ length: bars }, (_, k) => 16 * k), tempo: 120, notes: [] });
      this.codes = new Uint8Array(PITCHES * this.steps);
      this.mask = new Uint8Array(PITCHES * this.steps).fill(this.canDraw ? 1 : 0);
      this.fromNothing = true;
      this.window();
      this.draw();
    }

    put({ steps, bars, tempo, notes }) {
      this.stopPlaying();
      Object.assign(this, { steps, bars, tempo, notes });
      this.cursor = { bar: 0, octave: 5 };
      this.place = -1;
      this.find("play").disabled = !notes.length;
    }

    // A piece, nothing of it hidden yet.
    async load(piece) {
      this.put(piece);
      this.codes = await unpack(piece.codes);
      this.mask = new Uint8Array(PITCHES * this.steps);
      this.fromNothing = false;
      this.window();
      this.draw();
    }

    // What was painted, frame after frame.
    async grow(result) {
      this.put(result);
      const all = await unpack(result.frames);
      const size = PITCHES * this.steps;
      const frames = Array.from({ length: all.length / size }, (_, k) => all.subarray(k * size, (k + 1) * size));
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.mask = new Uint8Array(size);
      this.fromNothing = false;
      this.window(frames[frames.length - 1]);
      for (const frame of still ? frames.slice(-1) : frames) {
        this.codes = frame;
        this.draw();
        await new Promise((next) => setTimeout(next, FRAME_MS));
      }
      this.root.dataset.grown = String(Number(this.root.dataset.grown || 0) + 1);
    }

    // Pitches that are shown: what is in use with some air, four octaves at least.
    window(codes = this.codes) {
      let [low, high] = [PITCHES, -1];
      for (let pitch = 0; pitch < PITCHES; pitch += 1) {
        if (codes.subarray(pitch * this.steps, (pitch + 1) * this.steps).some((code) => code > 0 && code < UNKNOWN)) {
          low = Math.min(low, pitch);
          high = pitch;
        }
      }
      if (high < 0) [low, high] = [40, 84];
      const air = Math.max(4, Math.ceil((48 - (high - low)) / 2));
      this.low = Math.max(0, low - air);
      this.high = Math.min(PITCHES - 1, high + air);
    }

    size() {
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
      if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
      if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
      const rows = this.high - this.low + 1;
      return { ratio, width, height, cell: width / this.steps, row: height / rows };
    }

    draw() {
      const { ratio, width, height, cell, row } = this.size();
      if (!width) return;
      const pen = this.canvas.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.fillStyle = "#fdfcf9";
      pen.fillRect(0, 0, width, height);
      this.drawGround(pen, width, height, cell, row);
      for (let pitch = this.low; pitch <= this.high; pitch += 1) {
        this.drawCover(pen, pitch, cell, row);
        this.drawRow(pen, pitch, cell, row);
      }
      if (this.drag) this.drawDrag(pen, cell, row);
      if (this.canDraw && this.canvas.matches(":focus-visible")) this.drawCursor(pen, cell, row);
      if (this.place >= 0) {
        pen.fillStyle = "#b4552d";
        pen.fillRect(this.place * cell - 1, 0, 2, height);
      }
    }

    drawGround(pen, width, height, cell, row) {
      for (let pitch = this.low; pitch <= this.high; pitch += 1) {
        const y = (this.high - pitch) * row;
        if (BLACK_KEYS.has(pitch % 12)) {
          pen.fillStyle = "#f5f2ec";
          pen.fillRect(0, y, width, row);
        }
        if (pitch % 12 === 0) {
          pen.fillStyle = "#e3ddd2";
          pen.fillRect(0, y + row - 0.5, width, 1);
        }
      }
      pen.font = "10px system-ui, sans-serif";
      this.bars.forEach((step, index) => {
        pen.fillStyle = "#ddd6c9";
        pen.fillRect(step * cell, 0, 1, height);
        pen.fillStyle = "#a59c8d";
        const every = Math.ceil(28 / (cell * 16));
        if (index % every === 0) pen.fillText(String(index + 1), step * cell + 4, 11);
      });
    }

    // Cells that look alike are one stroke: seams between them would show.
    drawRow(pen, pitch, cell, row) {
      const y = (this.high - pitch) * row;
      const start = pitch * this.steps;
      let [colour, from, onset, loudness] = ["", 0, false, 15];
      const stroke = (to) => {
        if (!colour) return;
        const gap = onset && cell > 2 ? 1 : 0;
        pen.fillStyle = colour;
        pen.fillRect(from * cell + gap, y + 0.5, (to - from) * cell - gap, Math.max(1, row - 1));
      };
      for (let step = 0; step < this.steps; step += 1) {
        const code = this.codes[start + step];
        const sounds = code > 0 && code < UNKNOWN;
        if (sounds && code > 1) loudness = code - 2;
        const hidden = this.mask[start + step] || code === UNKNOWN;
        const ink = `rgba(${INK.join(",")},${(0.42 + 0.58 * (loudness / 31)).toFixed(2)})`;
        const wanted = sounds ? (hidden ? "#d9a03f99" : ink) : "";
        if (wanted !== colour || (sounds && code > 1)) {
          stroke(step);
          [colour, from, onset] = [wanted, step, sounds && code > 1];
        }
      }
      stroke(this.steps);
    }

    // What is covered, or not painted yet, row by row.
    drawCover(pen, pitch, cell, row) {
      const y = (this.high - pitch) * row;
      const start = pitch * this.steps;
      pen.fillStyle = "#ecc98340";
      for (let step = 0, from = -1; step <= this.steps; step += 1) {
        const hidden = step < this.steps && (this.mask[start + step] || this.codes[start + step] === UNKNOWN);
        if (hidden && from < 0) from = step;
        if (!hidden && from >= 0) {
          pen.fillRect(from * cell, Math.round(y), (step - from) * cell, Math.round(y + row) - Math.round(y));
          from = -1;
        }
      }
    }

    drawDrag(pen, cell, row) {
      const { first, last, low, high } = this.dragged();
      const y = (this.high - high) * row;
      pen.fillStyle = this.erasing ? "#ffffff99" : "#e0a94466";
      pen.strokeStyle = this.erasing ? "#8b8172" : "#b98320";
      pen.fillRect(first * cell, y, (last - first + 1) * cell, (high - low + 1) * row);
      pen.strokeRect(first * cell, y, (last - first + 1) * cell, (high - low + 1) * row);
    }

    drawCursor(pen, cell, row) {
      const { first, last, low, high } = this.block();
      pen.strokeStyle = "#2f5d62";
      pen.lineWidth = 2;
      const y = (this.high - Math.min(high, this.high)) * row;
      pen.strokeRect(first * cell + 1, y, (last - first + 1) * cell - 2, (high - low + 1) * row);
      pen.lineWidth = 1;
    }

    // The bar and octave that the keyboard points at.
    block() {
      const first = this.bars[this.cursor.bar];
      const last = (this.bars[this.cursor.bar + 1] ?? this.steps) - 1;
      return { first, last, low: 12 * this.cursor.octave, high: Math.min(PITCHES - 1, 12 * this.cursor.octave + 11) };
    }

    dragged() {
      const { from, to } = this.drag;
      return {
        first: Math.min(from.step, to.step), last: Math.max(from.step, to.step),
        low: Math.min(from.pitch, to.pitch), high: Math.max(from.pitch, to.pitch),
      };
    }

    cellAt(event) {
      const { width, height, cell, row } = this.size();
      const bounds = this.canvas.getBoundingClientRect();
      const x = Math.min(Math.max(event.clientX - bounds.left, 0), width - 1);
      const y = Math.min(Math.max(event.clientY - bounds.top, 0), height - 1);
      return { step: Math.min(this.steps - 1, Math.floor(x / cell)), pitch: this.high - Math.floor(y / row) };
    }

    hide({ first, last, low, high }, value) {
      if (this.fromNothing) return;
      for (let pitch = low; pitch <= high; pitch += 1) {
        this.mask.fill(value, pitch * this.steps + first, pitch * this.steps + last + 1);
      }
      this.draw();
    }

    listen() {
      const canvas = this.canvas;
      this.find("play").addEventListener("click", () => this.toggle());
      canvas.addEventListener("focus", () => this.draw());
      canvas.addEventListener("blur", () => this.draw());
      if (!this.canDraw) return;
      canvas.addEventListener("pointerdown", (event) => {
        if (this.fromNothing) return;
        canvas.setPointerCapture(event.pointerId);
        const place = this.cellAt(event);
        this.drag = { from: place, to: place };
        this.draw();
      });
      canvas.addEventListener("pointermove", (event) => {
        if (!this.drag) return;
        this.drag.to = this.cellAt(event);
        this.draw();
      });
      canvas.addEventListener("pointercancel", () => { this.drag = null; this.draw(); });
      canvas.addEventListener("pointerup", () => {
        if (!this.drag) return;
        const area = this.dragged();
        this.drag = null;
        this.hide(area, this.erasing ? 0 : 1);
      });
      canvas.addEventListener("keydown", (event) => this.key(event));
      this.find("erase").addEventListener("click", (event) => {
        this.erasing = !this.erasing;
        event.currentTarget.setAttribute("aria-pressed", String(this.erasing));
      });
      this.find("clear").addEventListener("click", () => {
        if (!this.fromNothing) this.mask.fill(0);
        this.draw();
      });
    }

    key(event) {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      if (moves[event.key]) {
        const [bars, octaves] = moves[event.key];
        this.cursor.bar = Math.min(this.bars.length - 1, Math.max(0, this.cursor.bar + bars));
        const octave = this.cursor.octave + octaves;
        if (12 * octave <= this.high && 12 * octave + 11 >= this.low) this.cursor.octave = octave;
      } else if (event.key === " " || event.key === "Enter") {
        const area = this.block();
        this.hide(area, this.mask[area.low * this.steps + area.first] ? 0 : 1);
      } else return;
      event.preventDefault();
      this.draw();
    }

    // The mask as bits, low pitches first; nothing where all is to be painted.
    packed() {
      if (this.fromNothing) return "";
      const bits = new Uint8Array(Math.ceil(this.mask.length / 8));
      this.mask.forEach((value, place) => { if (value) bits[place >> 3] |= 128 >> (place & 7); });
      let text = "";
      for (const byte of bits) text += String.fromCharCode(byte);
      return btoa(text);
    }

    toggle() {
      if (this.player?.running) {
        this.pause();
        return;
      }
      if (!this.player) {
        const seconds = 60 / this.tempo / 4;
        const onStep = (step) => { this.place = step; this.root.dataset.step = step.toFixed(1); this.draw(); };
        const onEnd = () => { this.place = -1; this.face(false); this.draw(); };
        this.player = new Intermezzo.Player(this.notes, seconds, this.steps, onStep, onEnd);
      }
      this.player.play();
      Intermezzo.playing?.(this);
      this.face(true);
    }

    pause() {
      this.player?.pause();
      this.face(false);
    }

    stopPlaying() {
      if (this.player?.running) this.player.pause();
      this.player = null;
      this.face(false);
    }

    face(playing) {
      const button = this.find("play");
      button.classList.toggle("im-playing", playing);
      button.setAttribute("aria-label", playing ? button.dataset.pause : button.dataset.play);
    }
  }

  Intermezzo.roll = (id) => {
    const root = document.getElementById(id);
    let roll = rolls.get(id);
    if (!roll || roll.root !== root) rolls.set(id, (roll = new Roll(root)));
    return roll;
  };

  function links(id, files) {
    document.querySelectorAll(`#${id} [data-file]`).forEach((link) => {
      const file = files?.[link.dataset.file];
      link.hidden = !file;
      if (file) [link.href, link.download] = [file.data, file.name];
    });
  }

  // Called with what the server says; see `paint_tab.py`.
  Intermezzo.painted = async (id, payload) => {
    const answer = JSON.parse(payload || "{}");
    const roll = Intermezzo.roll(id);
    if (!answer.empty && !answer.codes && !answer.frames) return;
    links(id, answer.files);
    if (answer.empty) roll.empty(answer.empty);
    else if (answer.frames) await roll.grow(answer);
    else if (answer.codes) await roll.load(answer);
  };

  // Canvases are drawn once they are in the page.
  Intermezzo.start = () => {
    const scan = () => document.querySelectorAll(".im-roll").forEach((root) => Intermezzo.roll(root.id));
    new MutationObserver(scan).observe(document.body, { childList: true, subtree: true });
    scan();
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", Intermezzo.start);
  else Intermezzo.start();
})();
