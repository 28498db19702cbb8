// Scores in and out: alphaTex, Guitar Pro 3-8, MusicXML, MIDI.
import { alphaTab } from "./modules.mjs";

const { AlphaTexImporter, AlphaTexErrorWithDiagnostics, UnsupportedFormatError } = alphaTab.importer;
const SEVERITIES = ["hint", "warning", "error"];

/** A failure with a name that the Python side can tell apart. */
export class NamedError extends Error {
  constructor(name, message, diagnostics = []) {
    super(message);
    this.name = name;
    this.diagnostics = diagnostics;
  }
}

const LONGEST_MESSAGE = 240;

/** Some messages list all of a hundred words that may stand at a place. */
function shortened(message) {
  return message.length > LONGEST_MESSAGE ? `${message.slice(0, LONGEST_MESSAGE - 20)} …` : message;
}

function asDiagnostic(item) {
  return {
    code: `AT${String(item.code).padStart(3, "0")}`,
    severity: SEVERITIES[item.severity] ?? "error",
    message: shortened(item.message),
    line: item.start?.line ?? 0,
    column: item.start?.col ?? 0,
  };
}

function collect(importer) {
  const bags = [importer.lexerDiagnostics, importer.parserDiagnostics, importer.semanticDiagnostics];
  return bags.flatMap((bag) => (bag ? bag.items.map(asDiagnostic) : []));
}

const NO_MUSIC = { code: "AT000", severity: "error", message: "there is no music in this text", line: 1, column: 1 };

/** Reads alphaTex: `{score, diagnostics}`, where `score` is null when alphaTab refuses the text. */
export function readAlphaTex(text, settings = new alphaTab.Settings()) {
  if (!text.trim()) return { score: null, diagnostics: [NO_MUSIC] };
  const importer = new AlphaTexImporter();
  importer.initFromString(text, settings);
  try {
    const score = importer.readScore();
    return { score, diagnostics: collect(importer) };
  } catch (error) {
    const known = error instanceof UnsupportedFormatError || error instanceof AlphaTexErrorWithDiagnostics;
    if (!known) throw error;
    const diagnostics = collect(importer);
    if (!diagnostics.some((item) => item.severity === "error")) diagnostics.push(NO_MUSIC);
    return { score: null, diagnostics };
  }
}

function alphaTexScore(text, settings) {
  const { score, diagnostics } = readAlphaTex(text, settings);
  if (score) return score;
  const first = diagnostics.find((item) => item.severity === "error");
  throw new NamedError("parse_error", `${first.code}: ${first.message}`, diagnostics);
}

function isText(bytes) {
  const white = [9, 10, 12, 13];
  if (bytes.some((byte) => byte < 32 && !white.includes(byte))) return false;
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/**
 * Score of a file's bytes. alphaTab's own loader ends by reading anything as alphaTex, so noise becomes an empty
 * score; here only text is tried as alphaTex, and its mistakes keep their line and column.
 */
function fileScore(bytes, settings) {
  for (const importer of alphaTab.Environment.buildImporters()) {
    if (importer instanceof AlphaTexImporter) continue;
    try {
      importer.init(alphaTab.io.ByteBuffer.fromBuffer(bytes), settings);
      return importer.readScore();
    } catch (error) {
      if (error instanceof UnsupportedFormatError || isText(bytes)) continue;
      throw new NamedError("unreadable_file", `a damaged ${importer.name} file (${error.message || error.name})`);
    }
  }
  if (isText(bytes)) return alphaTexScore(new TextDecoder().decode(bytes), settings);
  throw new NamedError("unreadable_file", "not a score that alphaTab can read (Guitar Pro 3-8, MusicXML, alphaTex)");
}

/** Score of a job that carries `text` (alphaTex) or `data` (a file, base64). */
export function loadScore(job, settings = new alphaTab.Settings()) {
  if (typeof job.text === "string") return alphaTexScore(job.text, settings);
  return fileScore(new Uint8Array(Buffer.from(job.data, "base64")), settings);
}

function exportMidi(score, settings) {
  const file = new alphaTab.midi.MidiFile();
  const handler = new alphaTab.midi.AlphaSynthMidiFileHandler(file, true);
  new alphaTab.midi.MidiFileGenerator(score, settings, handler).generate();
  file.format = alphaTab.midi.MidiFileFormat.MultiTrack;
  return file.toBinary();
}

/** Bytes of the score in another format: "alphatex", "gp7" or "midi". */
export function writeScore(score, format, settings = new alphaTab.Settings()) {
  settings.exporter.comments = false;
  if (format === "alphatex") {
    return Buffer.from(new alphaTab.exporter.AlphaTexExporter().exportToString(score, settings), "utf8");
  }
  if (format === "gp7") return Buffer.from(new alphaTab.exporter.Gp7Exporter().export(score, settings));
  if (format === "midi") return Buffer.from(exportMidi(score, settings));
  throw new NamedError("unsupported_format", `can not write ${format}; choose alphatex, gp7 or midi`);
}
