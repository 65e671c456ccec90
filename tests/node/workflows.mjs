// GitHub's own parser reads files of a repository, named relative to it; prints one JSON line for each finding.
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { resolve } from "node:path";

// It was written for bundlers and imports JSON without saying so.
registerHooks({
  load: (url, context, next) =>
    next(url, url.endsWith(".json") ? { ...context, importAttributes: { type: "json" } } : context),
});
const { registerLogger, validate } = await import("@actions/languageservice");

// A crash of its own is only logged, and would look like a file without findings.
const crash = (message) => {
  throw new Error(message);
};
registerLogger({ error: crash, warn: crash });

const [repository, ...paths] = process.argv.slice(2);
const read = (path) => readFileSync(resolve(repository, path), "utf8");
// The actions of the repository itself (`$/`) are looked up. Those from elsewhere are not at hand: actionlint knows them.
const fileProvider = { getFileContent: async ({ path }) => ({ name: path, content: read(path) }) };

for (const path of paths) {
  const document = { uri: `file:///${path}`, getText: () => read(path) };
  for (const { message, range } of await validate(document, { fileProvider }))
    console.log(JSON.stringify({ path, line: range.start.line + 1, message }));
}
