// Asks and reads with the `openai` package in the way that is named, at two addresses by turns,
// and says as JSON: the answer's `id`, the text that was `read`, that of the final object
// (`whole`), and of a resumed stream the `numbers` of its events.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../examples/package.json", import.meta.url));
const OpenAI = require("openai");

const [way, ...urls] = process.argv.slice(2);
const [one, two] = urls.map((url) => new OpenAI({ baseURL: `${url}/v1`, maxRetries: 0 }));
const { data: [{ id: model }] } = await one.models.list();
const text = "What is a list?";

async function chat() {
  const messages = [{ role: "user", content: text }];
  let id;
  let read = "";
  for await (const chunk of await one.chat.completions.create({ model, messages, stream: true })) {
    id = chunk.id;
    read += chunk.choices[0].delta.content ?? "";
  }
  const whole = await two.chat.completions.retrieve(id);
  return { id, read, whole: whole.choices[0].message.content };
}

async function responses() {
  let read = "";
  let last;
  for await (const event of await one.responses.create({ model, input: text, stream: true })) {
    if (event.type === "response.output_text.delta") read += event.delta;
    last = event;
  }
  return { id: last.response.id, read, whole: last.response.output[0].content[0].text };
}

// `stream` says OpenAIError and names the cause; `retrieve` says the cause itself.
function isCut(error) {
  return [error, error.cause].some(
    (said) => said instanceof OpenAI.APIConnectionError || said instanceof TypeError,
  );
}

const again = {
  retrieve: (client, id, after) => client.responses.retrieve(id, { stream: true, ...after }),
  stream: (client, id, after) => client.responses.stream({ response_id: id, ...after }),
};

async function resumed() {
  const { id } = await one.responses.create({ model, input: text, background: true });
  const events = [];
  for (let turn = 0; events.at(-1)?.type !== "response.completed"; turn += 1) {
    const after = events.length ? { starting_after: events.at(-1).sequence_number } : {};
    try {
      const stream = await again[way](turn % 2 ? two : one, id, after);
      for await (const event of stream) events.push(event);
    } catch (error) {
      if (!isCut(error)) throw error;
    }
  }
  const deltas = events.filter(({ type }) => type === "response.output_text.delta");
  return {
    id,
    read: deltas.map(({ delta }) => delta).join(""),
    whole: events.at(-1).response.output[0].content[0].text,
    numbers: events.map((event) => event.sequence_number),
  };
}

console.log(JSON.stringify(await ({ chat, responses }[way] ?? resumed)()));
