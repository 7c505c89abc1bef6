// Asks in the background with the `openai` package, at two addresses by turns, and reads through cuts.
// Says as JSON the events of each answer. Arguments: the bodies as JSON, and the addresses.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../examples/package.json", import.meta.url));
const OpenAI = require("openai");

const [bodies, ...urls] = process.argv.slice(2);
const clients = urls.map(
  (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused", maxRetries: 0 }),
);

function isCut(error) {
  return error instanceof OpenAI.APIConnectionError || error instanceof TypeError;
}

async function resumed(body) {
  const { id } = await clients[0].responses.create({ ...body, background: true });
  const events = [];
  for (let turn = 0; events.at(-1)?.type !== "response.completed"; turn += 1) {
    const after = events.length ? { starting_after: events.at(-1).sequence_number } : {};
    try {
      const client = clients[turn % clients.length];
      const stream = await client.responses.retrieve(id, { stream: true, ...after });
      for await (const event of stream) events.push(event);
    } catch (error) {
      if (!isCut(error)) throw error;
    }
  }
  return events;
}

console.log(JSON.stringify(await Promise.all(JSON.parse(bodies).map(resumed))));
