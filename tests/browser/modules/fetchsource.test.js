/** The EventSource of Node against what the HTML standard says, and the types against the code. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { FetchSource } from "../../../clients/js/lib/fetchsource.js";
import * as lore from "../../../clients/js/lib/lore.js";

const STREAM =
  "\ufeff: a comment\nretry: 1\r\nid: 1\r\ndata: gr\u00fc\u00df \ud83d\udc4b\r\n\r\n" +
  "event: state\rdata: a\rdata:b\r\r" + "id: 2\nid: no\0\ndata\ndata\n\n" + "event: lost\ndata: cut";
const EVENTS = ["message 1 gr\u00fc\u00df \ud83d\udc4b", "state 1 a\nb", "message 2 \n"];

const NAMES = ["message", "state", "lost"];

/** A server of these answers, one for each call, and the headers that it was sent. */
function serving(...answers) {
  const sent = [];
  globalThis.fetch = async (_, { headers }) => {
    sent.push(headers);
    const answer = answers.shift();
    if (!(answer instanceof Response)) throw answer;
    return answer;
  };
  return sent;
}

function response(pieces, { status = 200, type = "text/event-stream; charset=utf-8" } = {}) {
  const body = new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
  return new Response(body, { status, headers: { "Content-Type": type } });
}

/** What a source says until it is closed for good. */
function heard() {
  const source = new FetchSource("http://a.example");
  const said = [];
  for (const name of NAMES) {
    source.addEventListener(name, (event) => said.push(`${name} ${event.lastEventId} ${event.data}`));
  }
  return new Promise((done) => {
    source.addEventListener("error", () => {
      if (source.readyState === FetchSource.CLOSED) done(said);
    });
  });
}

test("events come whole wherever the bytes are cut, and what a cut left is dropped", async () => {
  const bytes = new TextEncoder().encode(STREAM);
  for (let size = 1; size <= 7; size += 1) {
    const pieces = [];
    for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.slice(at, at + size));
    const sent = serving(response(pieces), response([], { status: 500 }));
    assert.deepEqual(await heard(), EVENTS);
    assert.deepEqual(sent.map((headers) => headers["Last-Event-ID"]), [undefined, "2"]);
  }
});

test("a connection that fails is made again; an answer that is no stream ends it", async () => {
  for (const last of [response([], { status: 503 }), response([], { type: "text/html" })]) {
    const sent = serving(response([new TextEncoder().encode("retry: 1\n\n")]), new TypeError("cut"), last);
    assert.deepEqual(await heard(), []);
    assert.equal(sent.length, 3);
  }
});

test("an event without an end is not taken for ever", async () => {
  serving(response([new TextEncoder().encode("data: ".padEnd(5_000_000, "x"))]));
  assert.deepEqual(await heard(), []);
});

test("the types name what there is, and nothing else", () => {
  const types = readFileSync(new URL("../../../clients/js/lib/lore.d.ts", import.meta.url), "utf8");
  const classes = [...types.matchAll(/export class (\w+)/g)].map(([, name]) => name);
  assert.deepEqual(classes.sort(), Object.keys(lore).sort());
  const [, body] = types.match(/export class LoreStream extends EventTarget \{(.*?)\n\}/s);
  const named = new Set([...body.matchAll(/^ {2}(?:get |readonly )?(\w+)[(:]/gm)].map(([, name]) => name));
  const own = Object.getOwnPropertyNames(lore.LoreStream.prototype);
  named.delete("addEventListener"); // an EventTarget's, with the types of these events
  assert.deepEqual([...named].sort(), [...own, "requestId"].sort());
});
