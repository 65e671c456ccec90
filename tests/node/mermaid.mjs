// Mermaid draws each chart of a file with a JSON list; prints one JSON line for each: its SVG, or why it is refused.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { runInThisContext } from "node:vm";
import { parseHTML } from "linkedom";

// It expects the page of a browser. This one has no style sheets, and no layout: every text has the size 0.
const { window, document } = parseHTML("<html><head></head><body></body></html>");
class CSSStyleSheet {
  cssRules = [];
  insertRule() {}
}
Object.assign(globalThis, { window, document, CSSStyleSheet });
runInThisContext(readFileSync(createRequire(import.meta.url).resolve("@mermaid-js/tiny"), "utf8"));

for (const chart of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const { svg, error } = await mermaid.render("chart", chart).catch((error) => ({ error: String(error.message) }));
  console.log(JSON.stringify({ svg, error }));
}
