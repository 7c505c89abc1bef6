// Raw prompts with the OpenAI SDK for Node, also read on from the middle. Says as JSON what each
// way answered.
import { createRequire } from "node:module";

const require = createRequire(new URL("../../examples/package.json", import.meta.url));
const { default: OpenAI } = require("openai");

const client = new OpenAI({ baseURL: `${process.env.LORE_URL}/v1`, maxRetries: 0 });
const [model, prompt] = process.argv.slice(2);
const asked = { model, prompt, seed: 7, max_tokens: 90 };

const whole = await client.completions.create(asked);
let id = "";
const heard = [];
for await (const chunk of await client.completions.create({ ...asked, stream: true })) {
  id = chunk.id;
  heard.push(chunk.choices[0].text);
}
const text = heard.join("");
const rest = await client.get(`/completions/${id}`, {
  query: { stream: "true" },
  headers: { "Last-Event-ID": "3" },
  stream: true,
});
const later = [];
for await (const chunk of rest) later.push(chunk.choices[0].text);
const resumed = heard.slice(0, 3).join("") + later.join("");
console.log(
  JSON.stringify({ node: whole.choices[0].text, "node, streamed": text, "node, resumed": resumed }),
);
