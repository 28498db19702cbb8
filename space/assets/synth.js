// A small, soft instrument made of oscillators: enough to hear a piano roll, with nothing to load.
(() => {
  "use strict";
  const Intermezzo = (window.Intermezzo = window.Intermezzo || {});
  const AHEAD_S = 0.25;
  const TURN_MS = 60;
  let context = null;

  function output() {
    if (!context) {
      context = new AudioContext();
      const limiter = new DynamicsCompressorNode(context, { threshold: -18, ratio: 6, attack: 0.004, release: 0.2 });
      const volume = new GainNode(context, { gain: 0.5 });
      limiter.connect(volume).connect(context.destination);
      context.into = limiter;
    }
    return context;
  }

  // One note: a triangle with a quiet octave above, struck and let ring, darker the longer it sounds.
  function strike(into, start, seconds, pitch, loudness) {
    const audio = into.context;
    const frequency = 440 * 2 ** ((pitch - 69) / 12);
    const peak = 0.05 + 0.28 * (loudness / 31) ** 1.4;
    const end = start + Math.max(seconds, 0.08);
    const gain = new GainNode(audio, { gain: 0 });
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(peak, start + 0.008);
    gain.gain.setTargetAtTime(peak * 0.35, start + 0.01, 0.35);
    gain.gain.setTargetAtTime(0, end, 0.07);
    const filter = new BiquadFilterNode(audio, { type: "lowpass", Q: 0.4, frequency: Math.min(9000, frequency * 9) });
    filter.frequency.setTargetAtTime(Math.min(5000, frequency * 3), start, 0.5);
    filter.connect(gain).connect(into);
    for (const [type, ratio, level] of [["triangle", 1, 1], ["sine", 2, 0.22], ["sine", 0.998, 0.4]]) {
      const voice = new OscillatorNode(audio, { type, frequency: frequency * ratio });
      voice.connect(new GainNode(audio, { gain: level })).connect(filter);
      voice.start(start);
      voice.stop(end + 0.6);
    }
  }

  // Plays notes [step, steps, pitch, loudness] and tells the step that sounds now.
  class Player {
    constructor(notes, secondsPerStep, steps, onStep, onEnd) {
      Object.assign(this, { notes: [...notes].sort((a, b) => a[0] - b[0]), secondsPerStep, steps, onStep, onEnd });
      this.position = 0;
      this.running = false;
    }

    async play() {
      const audio = output();
      await audio.resume();
      this.bus = new GainNode(audio, { gain: 1 });
      this.bus.connect(audio.into);
      this.zero = audio.currentTime + 0.06 - this.position * this.secondsPerStep;
      this.next = this.notes.findIndex((note) => note[0] >= this.position);
      if (this.next < 0) this.next = this.notes.length;
      this.running = true;
      this.timer = setInterval(() => this.turn(), TURN_MS);
      this.turn();
    }

    turn() {
      const now = context.currentTime;
      const place = (now - this.zero) / this.secondsPerStep;
      while (this.next < this.notes.length) {
        const [step, length, pitch, loudness] = this.notes[this.next];
        const start = this.zero + step * this.secondsPerStep;
        if (start > now + AHEAD_S) break;
        strike(this.bus, Math.max(start, now), length * this.secondsPerStep, pitch, loudness);
        this.next += 1;
      }
      this.position = Math.max(0, place);
      this.onStep(this.position);
      if (place >= this.steps) {
        this.pause();
        this.position = 0;
        this.onEnd();
      }
    }

    pause() {
      clearInterval(this.timer);
      this.running = false;
      const bus = this.bus;
      if (!bus) return;
      bus.gain.setTargetAtTime(0, context.currentTime, 0.03);
      setTimeout(() => bus.disconnect(), 400);
    }
  }
  Intermezzo.Player = Player;
})();
