// A long-lived process: one JSON job a line on stdin, one JSON answer a line on stdout, in the same order.
import readline from "node:readline";
import { alphaTab } from "./modules.mjs";
import { musicFontNames, textFontNames } from "./fonts.mjs";
import { renderJob } from "./picture.mjs";
import { drawSvg } from "./raster.mjs";
import { loadScore, readAlphaTex, writeScore } from "./score_files.mjs";

const HANDLERS = {
  hello: () => ({ alphatab: alphaTab.meta.version, text_fonts: textFontNames, music_fonts: musicFontNames }),
  verify: (job) => ({ diagnostics: readAlphaTex(job.text).diagnostics }),
  convert: (job) => ({ data: writeScore(loadScore(job), job.to).toString("base64") }),
  render: (job) => ({ pictures: renderJob(job) }),
  draw: (job) => ({ png: drawSvg(job.svg, job.side_px).toString("base64") }),
};

function answer(line) {
  let id = null;
  try {
    const job = JSON.parse(line);
    id = job.id;
    return { id, ok: true, ...HANDLERS[job.verb](job) };
  } catch (error) {
    const name = error.diagnostics ? error.name : "renderer_error";
    const message = String(error.message ?? error);
    return { id, ok: false, error: { name, message, diagnostics: error.diagnostics ?? [] } };
  }
}

// alphaTab logs to the console; stdout belongs to the answers.
for (const method of ["log", "info", "debug", "warn"]) console[method] = () => {};

readline.createInterface({ input: process.stdin, terminal: false }).on("line", (line) => {
  if (line.trim()) process.stdout.write(`${JSON.stringify(answer(line))}\n`);
});
