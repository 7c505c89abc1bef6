/** The transport for the AI SDK, under a real `Chat` of `@ai-sdk/react`, on an edge of fetch alone. */
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

import { LoreChatTransport } from "../../../clients/js/ai-sdk/transport.js";

const require = createRequire(new URL("../../../examples/package.json", import.meta.url));
const { Chat } = require("@ai-sdk/react");

const WORDS = ["One ", "two ", "three ", "vier."];
const QUESTION = { id: "q", role: "user", parts: [{ type: "text", text: "Count." }] };
const REQUEST = "R".repeat(22);
const encoder = new TextEncoder();

/** An edge that says `WORDS` up to `until`, and the rest to whoever comes when that was raised. */
function edge({ status = "done", until = WORDS.length } = {}) {
  const calls = [];
  const here = { calls, until };
  globalThis.fetch = async (url, { method = "GET", headers, body }) => {
    const { pathname, searchParams } = new URL(url);
    calls.push({ method, pathname, headers, body: body && JSON.parse(body) });
    if (method === "DELETE") return new Response(null, { status: 204 });
    if (pathname.endsWith("/ack")) return new Response(null, { status: 204 });
    if (method === "POST") return Response.json({ request_id: REQUEST, log_id: "log" });
    return stream(Number(searchParams.get("after")));
  };
  function stream(after) {
    const said = ['retry: 1\nevent: state\ndata: {"status": "generating", "reason": "open"}\n\n'];
    for (let seq = after + 1; seq <= here.until; seq += 1) {
      said.push(`id: ${seq}\ndata: ${JSON.stringify({ seq, text: WORDS[seq - 1] })}\n\n`);
    }
    const end = { status, finish_reason: "stop", error: null, last_seq: WORDS.length };
    const ended = here.until === WORDS.length;
    if (ended) said.push(`event: end\ndata: ${JSON.stringify(end)}\n\n`);
    const start = (controller) => {
      controller.enqueue(encoder.encode(said.join("")));
      if (ended) controller.close();
    };
    const headers = { "Content-Type": "text/event-stream" };
    return new Response(new ReadableStream({ start }), { headers });
  }
  return here;
}

function storage() {
  const items = new Map();
  return {
    items,
    getItem: (name) => items.get(name) ?? null,
    setItem: (name, value) => items.set(name, value),
    removeItem: (name) => items.delete(name),
  };
}

const chatWith = (transport, messages = []) => new Chat({ id: "c", transport, messages });
const textOf = ({ parts }) => parts.map(({ text }) => text ?? "").join("");

/** Resolves once the chat's last message is this. */
async function said(chat, text) {
  for (;;) {
    const last = chat.messages.at(-1);
    if (last?.role === "assistant" && textOf(last) === text) return;
    await new Promise((done) => chat["~registerMessagesCallback"](done));
  }
}

test("a question is asked with the messages before it, and its answer is a message", async () => {
  const { calls } = edge();
  const kept = storage();
  const more = { storage: kept, body: { max_tokens: 9 }, apiKey: "k" };
  const transport = new LoreChatTransport({ urls: ["http://a.example"], ...more });
  const answer = { id: "a", role: "assistant", parts: [{ type: "text", text: "One." }] };
  const chat = chatWith(transport, [QUESTION, answer]);
  await chat.sendMessage({ text: "On." });
  assert.equal(chat.status, "ready");
  assert.equal(textOf(chat.messages.at(-1)), WORDS.join(""));
  const contents = calls[0].body.messages.map(({ role, content }) => `${role}: ${content}`);
  assert.deepEqual(contents, ["user: Count.", "assistant: One.", "user: On."]);
  assert.equal(calls[0].body.max_tokens, 9);
  assert.equal(calls[0].headers.Authorization, "Bearer k");
  assert.equal(kept.items.size, 0, "there is nothing left to resume");
});

test("an answer goes on after a reload, from its beginning and once (P12)", async () => {
  const here = edge({ until: 2 });
  const kept = storage();
  const transport = () => new LoreChatTransport({ urls: ["http://a.example"], storage: kept });
  const before = chatWith(transport());
  const asking = before.sendMessage({ text: "Count." });
  await said(before, "One two ");
  before.stop();
  await asking;
  here.until = WORDS.length;
  // The page may have kept what it had shown of the answer; that is not doubled.
  for (const messages of [[QUESTION], before.messages]) {
    kept.setItem("lore.chat.c", REQUEST);
    const after = chatWith(transport(), messages);
    await after.resumeStream();
    assert.equal(after.messages.length, 2);
    assert.equal(textOf(after.messages.at(-1)), WORDS.join(""));
  }
  assert.ok(!here.calls.some(({ method }) => method === "DELETE"), "leaving is not stopping (P14)");
});

test("what was never asked is not resumed, and what is stopped is cancelled (P14)", async () => {
  const here = edge({ status: "cancelled", until: 1 });
  const transport = new LoreChatTransport({ urls: ["http://a.example"] });
  const chat = chatWith(transport);
  await chat.resumeStream();
  assert.deepEqual([chat.status, here.calls.length], ["ready", 0]);
  const asking = chat.sendMessage({ text: "Count." });
  await said(chat, "One ");
  here.until = WORDS.length;
  await transport.stop("c");
  assert.ok(here.calls.some(({ method }) => method === "DELETE"));
  chat.stop();
  await asking;
});

test("a failed answer is an error of the chat, and a file is refused", async () => {
  edge({ status: "failed" });
  const transport = new LoreChatTransport({ urls: ["http://a.example"] });
  const errors = [];
  const chat = new Chat({ id: "c", transport, onError: (error) => errors.push(error.message) });
  await chat.sendMessage({ text: "Count." });
  assert.deepEqual([chat.status, errors], ["error", ["The answer failed."]]);
  const file = { type: "file", mediaType: "image/png", url: "data:," };
  await chat.sendMessage({ parts: [file] });
  assert.match(errors[1], /text alone/);
});
