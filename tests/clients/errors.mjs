// What the OpenAI SDK for Node and the AI SDK make of each fault, as errors_python.py says it.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../examples/package.json", import.meta.url));
const OpenAI = require("openai");
const { generateText, streamText } = require("ai");
const { createOpenAI } = require("@ai-sdk/openai");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");

const sdk = (ask) => (options) => ask({ ...options, client: new OpenAI({ ...options, maxRetries: 1 }) });

const ways = {
  "node chat": sdk(({ client, model, messages }) => client.chat.completions.create({ model, messages })),
  "node chat, streamed": sdk(async ({ client, model, messages }) => {
    for await (const _ of await client.chat.completions.create({ model, messages, stream: true }));
  }),
  "node responses": sdk(async ({ client, model, question }) =>
    (await client.responses.create({ model, input: question })).status),
  "node responses, streamed": sdk(async ({ client, model, question }) => {
    let last;
    for await (const event of await client.responses.create({ model, input: question, stream: true })) {
      last = event;
    }
    return last.response.status;
  }),
};
const providers = {
  "openai()": (options) => createOpenAI(options)(options.model),
  "openai.chat()": (options) => createOpenAI(options).chat(options.model),
  "openai-compatible": (options) => createOpenAICompatible({ name: "lore", ...options })(options.model),
};
for (const [name, provider] of Object.entries(providers)) {
  ways[`ai sdk ${name}`] = async (options) => {
    const { messages } = options;
    const { finishReason } = await generateText({ model: provider(options), messages, maxRetries: 1 });
    return finishReason;
  };
  ways[`ai sdk ${name}, streamed`] = async (options) => {
    const { messages } = options;
    let failure;
    const onError = ({ error }) => (failure ??= error);
    const result = streamText({ model: provider(options), messages, maxRetries: 1, onError });
    for await (const _ of result.textStream);
    if (failure) throw failure;
    return result.finishReason;
  };
}

async function ask(fault, url, way) {
  const question = `${fault} ${way}`;
  const model = fault === "wrong_model" ? "gpt-4" : "synthetic";
  const apiKey = way.replaceAll(" ", "_");
  try {
    const messages = [{ role: "user", content: question }];
    const said = await ways[way]({ baseURL: `${url}/v1`, apiKey, model, messages, question });
    return { ended: typeof said === "string" ? said : null };
  } catch (error) {
    const last = error.lastError ?? error; // of AI_RetryError
    const told = last.data?.error ?? last.error ?? last;
    return {
      error: last.name === "Error" ? last.constructor.name : last.name,
      status: last.status ?? last.statusCode ?? null,
      code: told.code ?? null,
    };
  }
}

const told = {};
const asking = [];
for (const [fault, url] of Object.entries(JSON.parse(process.argv[2]))) {
  for (const way of Object.keys(ways)) {
    asking.push(ask(fault, url, way).then((said) => (told[`${fault}/${way}`] = said)));
  }
}
await Promise.all(asking);
console.log(JSON.stringify(told));
process.exit(0);
