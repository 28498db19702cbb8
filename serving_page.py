"""The page of a server: forms that the browser makes out of `/openapi.json`; nothing comes from afar."""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>intermezzo serve</title><link rel="icon" href="data:,">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
section { border-top: 1px solid #bbb; margin-top: 2rem; } code, pre { font-family: ui-monospace, monospace; }
pre { background: #f4f4f4; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; }
label { display: grid; grid-template-columns: 9rem 1fr; gap: .2rem .8rem; margin: .5rem 0; }
small { grid-column: 2; color: #555; } button { font: inherit; padding: .3rem 1rem; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } pre { background: #2a2a2a; }
small { color: #aaa; } }
</style></head><body>
<h1>intermezzo serve</h1>
<p>Each form sends what a program would send. The whole description is in <a href="openapi.json">openapi.json</a>;
<a href="health">health</a> and <a href="metrics">metrics</a> are for machines.</p>
<main id="main"></main>
<script>
const make = (tag, text, parent) => {
  const found = document.createElement(tag); found.textContent = text ?? ""; parent?.append(found); return found;
};
const plain = (kind) => kind.anyOf ? {...kind.anyOf.find((part) => part.type !== "null"), ...kind} : kind;
function field(name, given, required, form) {
  const kind = plain(given), label = make("label", "", form), file = kind.contentMediaType || kind.format === "binary";
  make("span", name + (required ? " *" : ""), label);
  const input = make("input", "", label);
  input.name = name; input.required = required;
  input.type = file ? "file" : kind.type === "boolean" ? "checkbox" : "text";
  if (kind.type === "boolean") { input.value = "true"; } else if (kind.default != null) { input.value = kind.default; }
  if (kind.description) { make("small", kind.description, label); }
}
async function send(event, path, out, links) {
  event.preventDefault();
  const data = new FormData();
  for (const [name, value] of new FormData(event.target)) {
    if (value instanceof File ? value.size : value !== "") { data.append(name, value); }
  }
  out.textContent = "…"; links.replaceChildren();
  try {
    const answer = await fetch(path.slice(1), {method: "POST", body: data}), found = await answer.json();
    const parts = [found, ...(found.results ?? []), ...(found.songs ?? [])];
    const files = parts.flatMap((part) => part.files ?? []);
    for (const file of files) {
      const link = make("a", file.name, links);
      link.href = `data:${file.media_type};base64,${file.base64}`; link.download = file.name; links.append(" ");
      file.base64 = `(${file.base64.length} characters)`;
    }
    out.textContent = [found.text, found.report, ""].filter((part) => part != null).join("\\n");
    out.textContent += JSON.stringify(found, null, 1);
  } catch (error) { out.textContent = String(error); }
}
fetch("openapi.json").then((answer) => answer.json()).then((api) => {
  for (const [path, {post}] of Object.entries(api.paths)) {
    if (!post) { continue; }
    const section = make("section", "", document.getElementById("main"));
    make("h2", `POST ${path}`, section); make("p", post.description ?? post.summary, section);
    const form = make("form", "", section), body = Object.values(post.requestBody.content)[0].schema;
    const reference = body.$ref ?? body.allOf?.[0].$ref ?? body.anyOf?.[0].$ref;
    const shape = reference ? api.components.schemas[reference.split("/").pop()] : body;
    for (const [name, kind] of Object.entries(shape.properties)) {
      field(name, kind, (shape.required ?? []).includes(name), form);
    }
    make("button", "Send", form);
    const links = make("p", "", section), out = make("pre", "", section);
    out.setAttribute("aria-live", "polite");
    form.addEventListener("submit", (event) => send(event, path, out, links));
  }
});
</script></body></html>
"""

__all__ = ["PAGE"]
