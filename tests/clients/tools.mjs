// A loop of tools and a schema with the OpenAI SDK for Node and the AI SDK's providers. Says as
// JSON what tools_python.py says.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../examples/package.json", import.meta.url));
const OpenAI = require("openai");
const ai = require("ai");
const { createOpenAI } = require("@ai-sdk/openai");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");

const baseURL = `${process.env.LORE_URL}/v1`;
const apiKey = process.env.OPENAI_API_KEY;
const client = new OpenAI({ baseURL, maxRetries: 0 });
const { data: [{ id: model }] } = await client.models.list();
const question = "How is the weather in Oslo and Rome?";
const maxSteps = 5;
const maxTokens = 48;
const forcedSteps = Number(process.env.LORE_FORCED ?? 0);
const forced = (step) => (step < forcedSteps ? "required" : "none");
const object = (properties) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});
const parameters = object({ city: { type: "string", maxLength: 12 } });
const place = object({
  city: { type: "string", maxLength: 12 },
  degrees: { type: "integer", minimum: -90, maximum: 60 },
});
const weather = (city, cities) => {
  cities.push(city);
  return `${city} is cold.`;
};

async function nodeChat() {
  const cities = [];
  const runner = client.chat.completions.runTools({
    model,
    messages: [{ role: "user", content: question }],
    tools: [{
      type: "function",
      function: {
        name: "weather",
        parameters,
        parse: JSON.parse,
        function: ({ city }) => weather(city, cities),
      },
    }],
  });
  return { said: await runner.finalContent(), cities };
}

async function nodeResponses() {
  const cities = [];
  const input = [{ role: "user", content: question }];
  for (let step = 0; step < maxSteps; step++) {
    const tools = [{ type: "function", name: "weather", parameters, strict: true }];
    const asked = { model, input, tools, max_output_tokens: maxTokens };
    if (forcedSteps) Object.assign(asked, { tool_choice: forced(step), parallel_tool_calls: false });
    const answer = await client.responses.stream(asked).finalResponse();
    const calls = answer.output.filter(({ type }) => type === "function_call");
    if (!calls.length) return { cities, said: answer.output_text };
    input.push(...answer.output);
    for (const call of calls) {
      const output = weather(JSON.parse(call.arguments).city, cities);
      input.push({ type: "function_call_output", call_id: call.call_id, output });
    }
  }
  return { cities };
}

async function nodeSchema() {
  const answer = await client.chat.completions.parse({
    model,
    messages: [{ role: "user", content: question }],
    response_format: {
      type: "json_schema",
      json_schema: { name: "place", schema: place, strict: true },
    },
  });
  return { object: JSON.parse(answer.choices[0].message.content) };
}

function aiTools(languageModel, streamed) {
  return async () => {
    const cities = [];
    const asked = {
      model: languageModel,
      prompt: question,
      maxRetries: 0,
      maxOutputTokens: maxTokens,
      stopWhen: ai.stepCountIs(maxSteps),
      tools: {
        weather: ai.tool({
          inputSchema: ai.jsonSchema(parameters),
          execute: ({ city }) => weather(city, cities),
        }),
      },
    };
    if (forcedSteps) {
      asked.prepareStep = ({ stepNumber }) => ({ toolChoice: forced(stepNumber) });
      asked.providerOptions = { openai: { parallelToolCalls: false } };
    }
    if (!streamed) return { said: (await ai.generateText(asked)).text, cities };
    const result = ai.streamText(asked);
    await result.consumeStream();
    return { said: await result.text, cities };
  };
}

function aiObject(languageModel, streamed) {
  return async () => {
    const schema = ai.jsonSchema(place);
    const asked = { model: languageModel, prompt: question, maxRetries: 0, schema };
    if (!streamed) return { object: (await ai.generateObject(asked)).object };
    const result = ai.streamObject(asked);
    let last;
    for await (const partial of result.partialObjectStream) last = partial;
    return { object: last };
  };
}

// What generateObject is now called.
function aiOutput(languageModel) {
  return async () => {
    const output = ai.Output.object({ schema: ai.jsonSchema(place) });
    const asked = { model: languageModel, prompt: question, maxRetries: 0, output };
    return { object: (await ai.generateText(asked)).output };
  };
}

const openai = createOpenAI({ baseURL, apiKey });
const compatible = createOpenAICompatible({
  name: "lore",
  baseURL,
  apiKey,
  supportsStructuredOutputs: true,
});
const models = {
  "openai()": openai(model),
  "openai.chat()": openai.chat(model),
  "openai-compatible": compatible(model),
};
const ways = {
  "node chat, tools": nodeChat,
  "node responses, tools, streamed": nodeResponses,
  "node chat, schema": nodeSchema,
};
for (const [name, languageModel] of Object.entries(models)) {
  ways[`ai sdk ${name}, tools`] = aiTools(languageModel, false);
  ways[`ai sdk ${name}, tools, streamed`] = aiTools(languageModel, true);
  ways[`ai sdk ${name}, object`] = aiObject(languageModel, false);
  ways[`ai sdk ${name}, object, streamed`] = aiObject(languageModel, true);
  ways[`ai sdk ${name}, output`] = aiOutput(languageModel);
}
const told = {};
const chosen = process.argv.slice(2);
for (const way of chosen.length ? chosen : Object.keys(ways)) told[way] = await ways[way]();
console.log(JSON.stringify(told));
