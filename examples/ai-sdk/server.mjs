// A chat with the Vercel AI SDK whose answers outlive reloads, cuts and this server.
//
//   OPENAI_BASE_URL=http://localhost:8080/v1 OPENAI_API_KEY=lore_… node ai-sdk/server.mjs
//
// `useChat({ resume: true })` asks `GET /api/chat/:id/stream` for an answer that it has not seen
// the end of, and wants it from its beginning. Lore keeps every answer, so that this takes no
// Redis and no copy of the stream: only the id of the response that belongs to a chat.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";

import { createUIMessageStream, pipeUIMessageStreamToResponse } from "ai";
import { buildSync } from "esbuild";
import OpenAI from "openai";

import { everyEvent } from "../every_event.mjs";

const lore = new OpenAI();
const { data: [model] } = await lore.models.list(); // an edge serves one
const chats = new Map(); // { messages, responseId } by the chat's id: yours are in a database

const here = (name) => new URL(name, import.meta.url).pathname;
const bundle = { bundle: true, minify: true, format: "esm", jsx: "automatic", write: false };
const script = buildSync({ entryPoints: [here("app.jsx")], ...bundle }).outputFiles[0].contents;

const textOf = ({ parts }) => parts.map((part) => (part.type === "text" ? part.text : "")).join("");

async function ask(messages) {
  const input = messages.map((message) => ({ role: message.role, content: textOf(message) }));
  return (await lore.responses.create({ model: model.id, input, background: true })).id;
}

/** The answer as the AI SDK's pages read it: the same events each time, by the same ids. */
function tell(response, id) {
  const left = new AbortController();
  response.on("close", () => left.abort());
  const stream = createUIMessageStream({
    async execute({ writer }) {
      writer.write({ type: "start", messageId: id });
      writer.write({ type: "text-start", id });
      for await (const event of everyEvent(lore, id, { signal: left.signal })) {
        if (event.type === "response.output_text.delta") {
          writer.write({ type: "text-delta", id, delta: event.delta });
        }
      }
      writer.write({ type: "text-end", id });
      writer.write({ type: "finish" });
    },
  });
  pipeUIMessageStreamToResponse({ response, stream });
}

function answer(response, status, type, body) {
  response.writeHead(status, { "Content-Type": type }).end(body);
}

async function serve(request, response) {
  const [, api, , id, what] = request.url.split("/");
  if (request.url === "/") {
    answer(response, 200, "text/html; charset=utf-8", readFileSync(here("page.html")));
  } else if (request.url === "/app.js") {
    answer(response, 200, "text/javascript; charset=utf-8", script);
  } else if (api !== "api") {
    answer(response, 404, "text/plain", "not here\n");
  } else if (request.method === "POST") {
    const { id, messages } = await json(request);
    const responseId = await ask(messages);
    chats.set(id, { messages, responseId });
    tell(response, responseId);
  } else if (what !== "stream") {
    const { messages } = chats.get(id) ?? { messages: [] };
    answer(response, 200, "application/json", JSON.stringify(messages));
  } else if (chats.has(id)) {
    tell(response, chats.get(id).responseId);
  } else {
    response.writeHead(204).end(); // nothing was asked yet
  }
}

const server = createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error(error.message);
    if (response.headersSent) response.destroy();
    else answer(response, 502, "text/plain", "Lore could not be asked\n");
  });
});
server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(`http://localhost:${server.address().port}`);
});
