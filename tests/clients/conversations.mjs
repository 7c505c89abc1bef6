// Conversations with the OpenAI SDK for Node and the AI SDK's providers; each way carries on as
// its users do. Says as JSON what openai_python.py says.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../examples/package.json", import.meta.url));
const OpenAI = require("openai");
const { generateText, streamText } = require("ai");
const { createOpenAI } = require("@ai-sdk/openai");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");

const baseURL = `${process.env.LORE_URL}/v1`;
const apiKey = process.env.OPENAI_API_KEY;
const client = new OpenAI({ baseURL, maxRetries: 0 });
const { data: [{ id: model }] } = await client.models.list();

class Failed extends Error {
  constructor(text, cause) {
    super(cause.message ?? String(cause), { cause });
    this.text = text;
  }
}

class Chat {
  history = [];
  add(question) {
    this.history.push({ role: "user", content: question });
  }
  keep(text) {
    this.history.push({ role: "assistant", content: text });
  }
  async ask(question) {
    this.add(question);
    const answer = await client.chat.completions.create({ model, messages: this.history });
    this.history.push(answer.choices[0].message);
    return answer.choices[0].message.content;
  }
}

class ChatStream extends Chat {
  async ask(question) {
    this.add(question);
    let text = "";
    const stream = client.chat.completions.stream({ model, messages: this.history });
    stream.on("content", (delta) => (text += delta));
    try {
      const { message } = (await stream.finalChatCompletion()).choices[0];
      this.history.push(message);
      return message.content ?? "";
    } catch (error) {
      throw new Failed(text, error);
    }
  }
}

class Responses extends Chat {
  async ask(question) {
    this.add(question);
    const answer = await client.responses.create({ model, input: this.history });
    return this.take(answer);
  }
  take({ output }) {
    this.history.push(...output);
    return output.length ? output[0].content[0].text : null;
  }
}

class ResponsesStream extends Responses {
  async ask(question) {
    this.add(question);
    const stream = client.responses.stream({ model, input: this.history });
    let last;
    for await (const event of stream) last = event;
    return this.take(last.response);
  }
}

class Previous extends Responses {
  async ask(question) {
    const asked = { model, input: question, previous_response_id: this.previous };
    const answer = await client.responses.create(asked);
    this.previous = answer.id;
    return answer.output_text;
  }
}

function aiSdk(languageModel, streamed) {
  return class extends Chat {
    async ask(question) {
      this.add(question);
      const asked = { model: languageModel, messages: this.history, maxRetries: 0 };
      if (!streamed) {
        const { text, response } = await generateText(asked);
        this.history.push(...response.messages);
        return response.messages.length ? text : null;
      }
      let failure;
      const result = streamText({ ...asked, onError: ({ error }) => (failure ??= error) });
      let text = "";
      try {
        for await (const delta of result.textStream) text += delta;
        const { messages } = await result.response;
        if (failure) throw failure;
        this.history.push(...messages);
        return messages.length ? text : null;
      } catch (error) {
        throw new Failed(text || null, failure ?? error);
      }
    }
  };
}

const openai = createOpenAI({ baseURL, apiKey });
const compatible = createOpenAICompatible({ name: "lore", baseURL, apiKey });
const ways = {
  "node chat": Chat,
  "node chat, streamed": ChatStream,
  "node responses": Responses,
  "node responses, streamed": ResponsesStream,
  "node responses, by previous_response_id": Previous,
  "ai sdk openai()": aiSdk(openai(model), false),
  "ai sdk openai(), streamed": aiSdk(openai(model), true),
  "ai sdk openai.chat()": aiSdk(openai.chat(model), false),
  "ai sdk openai.chat(), streamed": aiSdk(openai.chat(model), true),
  "ai sdk openai-compatible": aiSdk(compatible(model), false),
  "ai sdk openai-compatible, streamed": aiSdk(compatible(model), true),
};

async function converse(way, questions) {
  const conversation = new ways[way]();
  const turns = [];
  for (const question of questions) {
    try {
      turns.push({ said: await conversation.ask(`${question}, ${way}`) });
    } catch (error) {
      const text = error instanceof Failed ? error.text : null;
      if (text !== null) conversation.keep(text);
      turns.push({ said: text, error: error.message });
    }
  }
  return turns;
}

const told = {};
const conversations = JSON.parse(process.argv[2]);
for (const way of Object.keys(ways)) {
  told[way] = [];
  for (const questions of conversations) told[way].push(await converse(way, questions));
}
console.log(JSON.stringify(told));
