// One render job: settings, layout, drawing, boxes.
import { alphaTab } from "./modules.mjs";
import { drawing, ENGINE } from "./canvas.mjs";
import { engravingSettings } from "./fonts.mjs";
import { readGeometry, transformGeometry } from "./geometry.mjs";
import { encodePng, inkBox, rasterise } from "./raster.mjs";
import { loadScore, NamedError } from "./score_files.mjs";

const { LayoutMode, NotationElement, StaveProfile, TabRhythmMode } = alphaTab;
const { BarNumberDisplay, Color, Font } = alphaTab.model;

// Room in layout units kept around a system while it is drawn; the crop then follows the ink. When ink reaches the
// edge of the first, the second is used, so nothing is cut off. (Time goes by pixels: even white ones cost.)
const SLACKS = [12, 200];
const TITLE_ELEMENTS = [
  NotationElement.ScoreTitle, NotationElement.ScoreSubTitle, NotationElement.ScoreArtist, NotationElement.ScoreAlbum,
  NotationElement.ScoreWords, NotationElement.ScoreMusic, NotationElement.ScoreWordsAndMusic,
  NotationElement.ScoreCopyright, NotationElement.TrackNames,
];
const TUNING_ELEMENTS = [NotationElement.GuitarTuning, NotationElement.EffectCapo];
const RHYTHM = {
  auto: TabRhythmMode.Automatic, bars: TabRhythmMode.ShowWithBars, beams: TabRhythmMode.ShowWithBeams,
  hidden: TabRhythmMode.Hidden,
};
const TITLE_FIELDS = ["title", "subTitle", "artist", "album", "words", "music", "copyright", "tab"];

function setFonts(resources, job) {
  const swap = (font) => {
    const family = font.families[0] === "Arial" ? job.text_font : job.serif_font;
    return Font.withFamilyList([family], font.size, font.style, font.weight);
  };
  for (const [element, font] of resources.elementFonts) resources.elementFonts.set(element, swap(font));
  for (const name of ["tablatureFont", "graceFont", "fingeringFont", "inlineFingeringFont", "numberedNotationFont",
    "numberedNotationGraceFont"]) resources[name] = swap(resources[name]);
}

function grey(value) {
  return new Color(value, value, value, 255);
}

function setInk(resources, job) {
  if (job.line_gray !== null) resources.staffLineColor = grey(job.line_gray);
  if (job.second_voice_gray !== null) resources.secondaryGlyphColor = grey(job.second_voice_gray);
}

function makeSettings(job) {
  const settings = new alphaTab.Settings();
  settings.core.engine = ENGINE;
  settings.core.enableLazyLoading = false;
  settings.core.includeNoteBounds = true;
  const { display, notation } = settings;
  display.layoutMode = job.layout === "horizontal" ? LayoutMode.Horizontal : LayoutMode.Page;
  // Which staves show is set at each staff (prepareScore). The other profiles fail on a track they can not show at
  // all, such as tabs for a piano.
  display.staveProfile = StaveProfile.Default;
  display.stretchForce = job.stretch;
  display.startBar = job.first_bar + 1;
  display.barCount = job.bar_count ?? -1;
  display.barCountPerPartial = Number.MAX_SAFE_INTEGER;
  if (job.layout === "system") {
    display.barsPerRow = Number.MAX_SAFE_INTEGER;
    display.padding = [0, 0, 0, 0];
    display.firstSystemPaddingTop = 0;
    display.lastSystemPaddingBottom = 0;
  }
  // The horizontal layout paints without this padding but reports boxes with it.
  if (job.layout === "horizontal") display.firstSystemPaddingTop = 0;
  notation.rhythmMode = RHYTHM[job.rhythm];
  for (const element of TITLE_ELEMENTS) notation.elements.set(element, job.titles);
  for (const element of TUNING_ELEMENTS) notation.elements.set(element, job.tuning);
  notation.elements.set(NotationElement.EffectDynamics, job.dynamics);
  notation.elements.set(NotationElement.ChordDiagrams, job.chord_diagrams);
  if (job.bar_numbers === "none") notation.elements.set(NotationElement.BarNumber, false);
  const engraving = engravingSettings(job.music_font);
  if (engraving) display.resources.engravingSettings = engraving;
  setFonts(display.resources, job);
  setInk(display.resources, job);
  return settings;
}

function prepareScore(score, tracks, job) {
  if (job.bar_numbers === "first") score.stylesheet.barNumberDisplay = BarNumberDisplay.FirstOfSystem;
  if (job.bar_numbers === "all") score.stylesheet.barNumberDisplay = BarNumberDisplay.AllBars;
  if (!job.titles) {
    for (const field of TITLE_FIELDS) score[field] = "";
  }
  for (const track of tracks) {
    if (job.layout === "system") track.lineBreaks = undefined;
    if (job.staves === "auto") continue;
    for (const staff of track.staves) {
      const tabs = job.staves.includes("tabs") && staff.isStringed && !staff.isPercussion;
      staff.showTablature = tabs;
      staff.showStandardNotation = job.staves.includes("score") || !tabs;
      staff.showNumbered = false;
      staff.showSlash = false;
    }
  }
}

function pickTracks(score, wanted) {
  if (wanted === "all") return score.tracks;
  const missing = wanted.find((index) => !score.tracks[index]);
  if (missing !== undefined) {
    throw new NamedError("bad_option", `there is no track ${missing}; the score has ${score.tracks.length}`);
  }
  return wanted.map((index) => score.tracks[index]);
}

function draw(tracks, settings, width) {
  const renderer = new alphaTab.rendering.ScoreRenderer(settings);
  renderer.width = width;
  // Every layout ends with an advertising line, which no setting switches off.
  renderer.layout._layoutAndRenderAnnotation = (y) => y;
  const parts = [];
  renderer.partialRenderFinished.on((part) => parts.push(part));
  renderer.error.on((error) => { throw error; });
  renderer.renderTracks(tracks);
  return { renderer, parts };
}

/** Lays the music out as asked; a system is drawn at its own width, or stretched to `job.width_px`. */
function layOut(tracks, settings, job) {
  const asked = job.width_px === null ? null : job.width_px / job.scale;
  if (job.layout !== "system") return draw(tracks, settings, asked ?? 950);
  if (asked !== null) {
    settings.display.justifyLastSystem = true;
    const stretched = draw(tracks, settings, asked);
    if (stretched.renderer.layout._systems[0].computedWidth <= asked) return stretched;
    settings.display.justifyLastSystem = false; // squeezing would put notes on top of each other
  }
  return draw(tracks, settings, 1e6);
}

/** Groups the drawn parts into pages; a system is never split. Without a page height all is one page. */
function paginate(parts, geometry, pageHeight) {
  const pages = [];
  let system = 0;
  for (const part of parts) {
    let page = pages[pages.length - 1];
    if (!page || (pageHeight && part.y + part.height > page.top + pageHeight && page.parts.length > 0)) {
      page = { top: page ? part.y : 0, bottom: 0, parts: [], systems: new Set() };
      pages.push(page);
    }
    page.parts.push(part);
    page.bottom = Math.max(page.bottom, part.y + part.height);
    if (part.firstMasterBarIndex >= 0 && system < geometry.systems.length) page.systems.add(system++);
  }
  return pages;
}

function toSvg(parts, { x, y, width, height, scale }) {
  const place = (part) => `<g transform="translate(${part.x} ${part.y})">${part.renderResult}</g>`;
  const size = `width="${Math.ceil(width * scale)}" height="${Math.ceil(height * scale)}"`;
  const all = `<g transform="scale(${scale}) translate(${-x} ${-y})">${parts.map(place).join("\n")}</g>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size}>${all}</svg>`;
}

/** Pixels of a system or endless line and the box of its ink, with room enough that no ink is lost. */
function rasteriseWhole(page, layoutWidth, scale) {
  for (const slack of SLACKS) {
    const height = page.bottom - page.top + 2 * slack;
    const area = { x: -slack, y: page.top - slack, width: layoutWidth + 2 * slack, height, scale };
    const picture = rasterise(toSvg(page.parts, area), drawing.needsSystemFonts);
    const ink = inkBox(picture) ?? { x: 0, y: 0, w: picture.width, h: picture.height };
    const inside = ink.x > 0 && ink.y > 0 && ink.x + ink.w < picture.width && ink.y + ink.h < picture.height;
    if (inside || slack === SLACKS[SLACKS.length - 1]) return { area, picture, ink };
  }
}

/** The area of a page in layout units, its pixels when asked for, and the part of them that is the picture. */
function framePage(page, job, layoutWidth) {
  const { scale } = job;
  if (job.layout !== "page") {
    const { area, picture, ink } = rasteriseWhole(page, layoutWidth, scale);
    const margin = job.margin_px;
    const crop = { x: ink.x - margin, y: ink.y - margin, w: ink.w + 2 * margin, h: ink.h + 2 * margin };
    return { area, picture, crop };
  }
  const needed = page.bottom - page.top;
  // A system taller than the page makes its page longer: nothing is cut off.
  const height = job.page_height_px ? Math.max(job.page_height_px / scale, needed) : needed + 10;
  const area = { x: 0, y: page.top, width: layoutWidth, height, scale };
  const crop = { x: 0, y: 0, w: Math.ceil(area.width * scale), h: Math.ceil(area.height * scale) };
  const picture = job.format === "png" ? rasterise(toSvg(page.parts, area), drawing.needsSystemFonts) : null;
  return { area, picture, crop };
}

function finishPage(page, geometry, job, layoutWidth) {
  const { scale } = job;
  const { area, picture, crop } = framePage(page, job, layoutWidth);
  const origin = { x: area.x + crop.x / scale, y: area.y + crop.y / scale };
  const out = { width: crop.w, height: crop.h };
  Object.assign(out, transformGeometry(geometry, { ...origin, ...out, scale, keep: page.systems }));
  if (job.format === "svg") {
    out.svg = toSvg(page.parts, { ...origin, width: crop.w / scale, height: crop.h / scale, scale });
  } else {
    out.png = encodePng(picture, crop, job.color).toString("base64");
  }
  return out;
}

/** Pictures of a render job, one for each page. */
export function renderJob(job) {
  const settings = makeSettings(job);
  const score = loadScore(job, settings);
  const tracks = pickTracks(score, job.tracks);
  prepareScore(score, tracks, job);
  if (job.first_bar >= score.masterBars.length) {
    throw new NamedError("bad_option", `there is no bar ${job.first_bar}; the score has ${score.masterBars.length}`);
  }
  drawing.musicFont = job.music_font;
  drawing.needsSystemFonts = false;
  const { renderer, parts } = layOut(tracks, settings, job);
  const geometry = readGeometry(renderer);
  if (job.layout === "system" && geometry.systems.length !== 1) {
    throw new NamedError("layout_error", `asked for one system, alphaTab made ${geometry.systems.length}`);
  }
  const layoutWidth = job.layout === "page" ? renderer.width : Math.max(...geometry.systems.map((s) => s.x + s.w));
  const pageHeight = job.page_height_px && job.layout === "page" ? job.page_height_px / job.scale : null;
  return paginate(parts, geometry, pageHeight).map((page) => finishPage(page, geometry, job, layoutWidth));
}
