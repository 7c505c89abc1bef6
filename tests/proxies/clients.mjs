// Node's clients ask and read behind a proxy, side by side, and each says, as JSON, the request's
// `id`, the `text`, and when the `first` of it came, in seconds after the question. `lore.js` also
// says how many `polls` it took.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../examples/package.json", import.meta.url));
const OpenAI = require("openai");
const { EventSource } = require("eventsource");

const [url, question] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
const { data: [{ id: model }] } = await client.models.list();

/** What a client says, which tells when it `took` text. */
async function timed(read) {
  const began = performance.now();
  let first = null;
  const said = await read(() => (first ??= (performance.now() - began) / 1000));
  return { ...said, first };
}

async function lore(took) {
  Object.assign(globalThis, { EventSource, addEventListener() {}, document: new EventTarget() });
  const { LoreStream } = await import("../../clients/js/lib/lore.js");
  const stream = new LoreStream({ urls: [url], create: { question } });
  let text = "";
  stream.addEventListener("text", ({ detail }) => {
    took();
    text += detail.text;
  });
  const over = new Promise((done, failed) => {
    stream.addEventListener("end", done);
    stream.addEventListener("error", ({ detail }) => failed(new Error(detail.code)));
  });
  await stream.connect();
  await over;
  return { id: stream.requestId, text, polls: stream.stats.polls };
}

async function chat(took) {
  const messages = [{ role: "user", content: question }];
  let id, text = "";
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
    id = chunk.id.replace("chatcmpl-", "");
    const piece = chunk.choices[0].delta.content;
    if (piece) took();
    text += piece ?? "";
  }
  return { id, text };
}

/** Leaves a stream after its first text, resumes it, and asks for the whole. */
async function responses(took) {
  const { id } = await client.responses.create({ model, input: question, background: true });
  let text = "", last;
  const read = async (query, isEnough) => {
    for await (const event of await client.responses.retrieve(id, { stream: true, ...query })) {
      last = event.sequence_number;
      if (event.type !== "response.output_text.delta") continue;
      took();
      text += event.delta;
      if (isEnough) break;
    }
  };
  await read({}, true);
  await read({ starting_after: last }, false);
  const whole = (await client.responses.retrieve(id)).output_text;
  if (whole !== text) throw new Error(`read ${text.length} of ${whole.length} characters`);
  return { id: id.replace("resp_", ""), text };
}

const ways = {
  "lore.js": lore,
  "OpenAI for Node, chat": chat,
  "OpenAI for Node, responses": responses,
};
const said = await Promise.all(
  Object.entries(ways).map(async ([name, read]) => [name, await timed(read)]),
);
console.log(JSON.stringify(Object.fromEntries(said)));
process.exit(0);
