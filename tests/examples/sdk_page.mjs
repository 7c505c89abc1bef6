// Serves a page with the `openai` package in it, bundled as an application's would be.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const folder = new URL("../../examples/", import.meta.url).pathname;
const { buildSync } = createRequire(new URL("../../examples/package.json", import.meta.url))("esbuild");
const stdin = {
  contents: `import OpenAI from "openai"; globalThis.OpenAI = OpenAI; globalThis.isReady = true;`,
  resolveDir: folder,
};
const bundle = { bundle: true, format: "esm", platform: "browser", write: false };
const script = buildSync({ stdin, ...bundle }).outputFiles[0].contents;
const page = readFileSync(new URL("sdk_page.html", import.meta.url));

createServer((request, response) => {
  const isScript = request.url === "/sdk.js";
  const type = isScript ? "text/javascript; charset=utf-8" : "text/html; charset=utf-8";
  response.writeHead(200, { "Content-Type": type }).end(isScript ? script : page);
}).listen(0, "127.0.0.1", function listening() {
  console.log(`http://127.0.0.1:${this.address().port}`);
});
