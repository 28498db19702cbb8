// A sheet of music that plays: alphaTab engraves a text, a cursor moves while it sounds, doubtful bars are coloured.
//
// A widget is what `widgets.py` wrote: <section class="im-score" id=...> with a toolbar, a sheet and an editor. It has
// one alphaTab, made at its first use. Nothing is loaded from elsewhere than the server that brought the page.
(() => {
  "use strict";
  const ASSETS = new URL("..", document.currentScript.src).href;
  const Intermezzo = (window.Intermezzo = window.Intermezzo || {});
  const widgets = new Map();
  const EDIT_PAUSE_MS = 450;

  let library = null;
  function alphaTabLibrary() {
    library ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${ASSETS}alphatab/alphaTab.min.js`;
      script.onload = () => resolve(window.alphaTab);
      script.onerror = () => reject(new Error("alphaTab could not be loaded"));
      document.head.append(script);
    });
    return library;
  }

  const clock = (ms) => `${Math.floor(ms / 60000)}:${String(Math.floor(ms / 1000) % 60).padStart(2, "0")}`;

  function settings(narrow) {
    return {
      core: {
        scriptFile: `${ASSETS}alphatab/alphaTab.min.js`,
        fontDirectory: `${ASSETS}alphatab/font/`,
        enableLazyLoading: false,
        logLevel: "none", // what is wrong with a text is said beside it
      },
      display: {
        layoutMode: "page",
        justifyLastSystem: true,
        scale: narrow ? 0.8 : 0.95,
        padding: narrow ? [4, 8] : [12, 12],
        resources: {
          staffLineColor: "#b9b2a6",
          barSeparatorColor: "#6d665c",
          mainGlyphColor: "#22201c",
          secondaryGlyphColor: "#22201c66",
          scoreInfoColor: "#22201c",
          barNumberColor: "#9a7b3f",
        },
      },
      player: {
        playerMode: "EnabledSynthesizer",
        soundFont: `${ASSETS}alphatab/soundfont/sonivox.sf3`,
        scrollMode: "OffScreen",
        scrollOffsetY: -140,
      },
    };
  }

  class Sheet {
    constructor(root) {
      this.root = root;
      this.find = (name) => root.querySelector(`.im-${name}`);
      this.doubtful = [];
      this.bars = null;
      this.timer = 0;
      this.find("play").addEventListener("click", () => this.api?.playPause());
      this.find("stop").addEventListener("click", () => this.api?.stop());
      this.find("loop").addEventListener("change", (event) => this.set("isLooping", event.target.checked));
      this.find("speed").addEventListener("input", (event) => {
        this.find("speed-value").textContent = `${event.target.value} %`;
        this.set("playbackSpeed", event.target.value / 100);
      });
      this.find("editor")?.addEventListener("input", () => {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.engrave(), EDIT_PAUSE_MS);
      });
      for (const button of root.querySelectorAll("[data-format]")) {
        button.addEventListener("click", () => this.download(button.dataset.format, button));
      }
    }

    set(name, value) {
      if (this.api) this.api[name] = value;
    }

    get text() {
      return this.find("editor")?.value ?? this.ownText ?? "";
    }

    async show(text, doubtful = [], name = "music") {
      this.name = name;
      this.doubtful = doubtful;
      this.bars = null; // how many bars the text had when it came; marks hold only for these
      this.ownText = text;
      const editor = this.find("editor");
      if (editor) editor.value = text;
      this.root.classList.toggle("im-empty", !text);
      if (text) await this.engrave();
      else this.api?.stop();
    }

    async engrave() {
      this.say("");
      try {
        const alphaTab = await alphaTabLibrary();
        if (!this.api) this.start(alphaTab);
        this.hideUnsaid(alphaTab);
        this.api.tex(this.text);
      } catch (error) {
        this.say(error.message);
      }
    }

    // What no picture shows: track, tuning (unless a sheet is to tell it), and the f under the first note of a text that says nothing of loudness.
    hideUnsaid(alphaTab) {
      const kinds = alphaTab.NotationElement;
      const hidden = this.api.settings.notation.elements;
      hidden.set(kinds.GuitarTuning, this.root.dataset.strings === "yes" && /\\tuning\b/.test(this.text));
      hidden.set(kinds.TrackNames, false);
      hidden.set(kinds.EffectDynamics, /\bdy\b/.test(this.text));
      this.api.updateSettings();
    }

    start(alphaTab) {
      this.api = new alphaTab.AlphaTabApi(this.find("engraving"), settings(this.root.clientWidth < 560));
      const api = this.api;
      const play = this.find("play");
      api.scoreLoaded.on((score) => {
        this.bars ??= score.masterBars.length;
        this.marked = this.bars === score.masterBars.length;
      });
      api.postRenderFinished.on(() => {
        this.mark();
        this.root.dataset.engraved = String(Number(this.root.dataset.engraved || 0) + 1);
      });
      api.playerReady.on(() => {
        for (const name of ["play", "stop"]) this.find(name).disabled = false;
        api.isLooping = this.find("loop").checked;
        api.playbackSpeed = this.find("speed").value / 100;
        this.root.dataset.ready = "yes";
      });
      api.playerStateChanged.on((event) => {
        const playing = event.state === 1;
        play.setAttribute("aria-label", playing ? play.dataset.pause : play.dataset.play);
        play.classList.toggle("im-playing", playing);
        if (playing) Intermezzo.playing?.(this);
      });
      api.playerPositionChanged.on((event) => {
        this.find("clock").textContent = `${clock(event.currentTime)} / ${clock(event.endTime)}`;
        this.root.dataset.tick = String(Math.round(event.currentTick));
      });
      api.error.on((error) => this.say(this.reason(error)));
    }

    pause() {
      this.api?.pause();
    }

    // AlphaTab's own message, without its list of all that it would have taken; where it names places, the first of them.
    reason(told) {
      const error = told.inner ?? told.innerException ?? told.cause ?? told;
      const found = [...(error.parserDiagnostics?.items ?? []), ...(error.lexerDiagnostics?.items ?? [])];
      const first = found.find((item) => item.severity === 2) ?? found[0];
      if (!first) return this.root.dataset.broken;
      const line = first.start?.line;
      const message = first.message.replace(/, expected: oneOf\(.*/s, "");
      return line ? `${this.root.dataset.line.replace("{n}", line)}: ${message}` : message;
    }

    say(message) {
      this.find("problem").textContent = message;
      this.find("editor")?.setAttribute("aria-invalid", String(Boolean(message)));
    }

    // Marks lie in a layer of their own: alphaTab draws its own elements anew as it likes.
    mark() {
      const layer = this.find("marks");
      layer.replaceChildren();
      const [lookup, surface] = [this.api.boundsLookup, this.find("engraving").querySelector(".at-surface")];
      if (!lookup || !surface || !this.marked) return;
      for (const number of this.doubtful) {
        const bounds = lookup.findMasterBarByIndex(number - 1)?.visualBounds;
        if (!bounds) continue;
        const mark = document.createElement("div");
        mark.className = "im-doubt";
        mark.title = this.root.dataset.told.replace("{n}", number);
        Object.assign(mark.style, {
          left: `${surface.offsetLeft + bounds.x}px`,
          top: `${surface.offsetTop + bounds.y}px`,
          width: `${bounds.w}px`,
          height: `${bounds.h}px`,
        });
        layer.append(mark);
      }
    }

    async download(format, button) {
      this.say("");
      button.setAttribute("aria-busy", "true");
      try {
        const answer = await fetch(`${ASSETS}../convert/${format}`, {
          method: "POST",
          headers: { "Content-Type": "text/plain", "Accept-Language": document.documentElement.lang },
          body: this.text,
        });
        if (!answer.ok) throw new Error((await answer.json()).problem);
        Intermezzo.save(await answer.blob(), `${this.name}.${format}`);
      } catch (error) {
        this.say(error.message || this.root.dataset.broken);
      } finally {
        button.removeAttribute("aria-busy");
      }
    }
  }

  Intermezzo.save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  // Only one thing sounds at a time.
  let sounding = null;
  Intermezzo.playing = (widget) => {
    if (sounding && sounding !== widget) sounding.pause();
    sounding = widget;
  };

  Intermezzo.sheet = (id) => {
    const root = document.getElementById(id);
    let widget = widgets.get(id);
    if (!widget || widget.root !== root) widgets.set(id, (widget = new Sheet(root)));
    return widget;
  };
})();
