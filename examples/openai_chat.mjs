// A streamed chat with the OpenAI SDK as it is: only its two variables point to Lore.
//
//   OPENAI_BASE_URL=http://localhost:8080/v1 OPENAI_API_KEY=lore_… node openai_chat.mjs

import OpenAI from "openai";

const question = process.argv[2] ?? "What is a closure?";

const client = new OpenAI();
const { data: [model] } = await client.models.list(); // an edge serves one

const chunks = await client.chat.completions.create({
  model: model.id,
  messages: [{ role: "user", content: question }],
  stream: true,
});
let id;
for await (const chunk of chunks) {
  if (!id) console.error((id = chunk.id)); // client.chat.completions.retrieve() takes it
  process.stdout.write(chunk.choices[0].delta.content ?? "");
}
console.log();
