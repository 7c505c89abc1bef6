// The npm package under the conformance suite.

import { LoreStream } from "lore-stream";

const { LORE_EDGES, LORE_QUESTION: question, LORE_API_KEY: apiKey } = process.env;
const LOST = new Set(["history_lost", "given_up"]);

const said = { text: "", state: "" };
const stream = new LoreStream({ urls: LORE_EDGES.split(" "), create: { question }, apiKey });
stream.addEventListener("text", ({ detail }) => (said.text += detail.text));
stream.addEventListener("end", ({ detail }) => (said.state = detail.status));
stream.addEventListener("error", ({ detail }) => (said.state = LOST.has(detail.code) ? "lost" : "refused"));
stream.addEventListener("state", ({ detail }) => {
  if (detail.status === "reaped") stream.revive();
});
await stream.connect().catch(() => (said.state = "refused"));
// Node ends by itself once nothing is left to do: no timer and no connection stays behind.
process.on("exit", () => console.log(JSON.stringify(said)));
