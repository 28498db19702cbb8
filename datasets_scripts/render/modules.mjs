// Finds the third-party modules. They may lie beside these files or, in a read-only installation, in another
// folder named by INTERMEZZO_NODE_MODULES, which plain `import "name"` would never look into.
import path from "node:path";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
export const nodeModules = process.env.INTERMEZZO_NODE_MODULES || path.join(here, "node_modules");

/** Absolute path of a file inside node_modules. */
export function modulePath(...parts) {
  return path.join(nodeModules, ...parts);
}

const require = createRequire(path.join(path.dirname(nodeModules), "anchor.cjs"));
const importFile = (...parts) => import(pathToFileURL(modulePath(...parts)).href);

// The unbundled ES module is used on purpose: its class fields keep their names, and geometry.mjs reads some.
export const alphaTab = await importFile("@coderline", "alphatab", "dist", "alphaTab.mjs");
export const { Resvg } = require(modulePath("@resvg", "resvg-js"));
export const opentype = await importFile("opentype.js", "dist", "opentype.mjs");

alphaTab.Logger.logLevel = alphaTab.LogLevel.None;
