// An answer that is made to its end, read through any number of cuts with the OpenAI SDK.
//
//   OPENAI_BASE_URL=http://localhost:8080/v1 OPENAI_API_KEY=lore_… node openai_background.mjs
//
// Cut the network, kill the edge: it goes on where it was. Kill this program and start it again
// with the id that it printed instead of a question: it reads the same answer.

import OpenAI from "openai";

import { everyEvent } from "./every_event.mjs";

const question = process.argv[2] ?? "What is a closure?";

const client = new OpenAI();
const { data: [model] } = await client.models.list(); // an edge serves one

const id = question.startsWith("resp_")
  ? question
  : (await client.responses.create({ model: model.id, input: question, background: true })).id;
console.error(id);

let last;
for await (const event of everyEvent(client, id)) {
  if (event.type === "response.output_text.delta") process.stdout.write(event.delta);
  last = event.type;
}
console.log();
if (last !== "response.completed") {
  console.error(`the answer ended early: ${last}`);
  process.exitCode = 1;
}
