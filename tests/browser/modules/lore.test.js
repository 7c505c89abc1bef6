/**
 * The browser's reader against edges that send what no edge should. EventSource, fetch and the
 * clock are stand-ins; the rest is the page's own code.
 */
import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { random } from "./random.js";

const sources = [];

class FakeEventSource extends EventTarget {
  static CLOSED = 2;
  readyState = 0;
  constructor(url) {
    super();
    this.url = url;
    sources.push(this);
  }
  close() {
    this.readyState = FakeEventSource.CLOSED;
  }
  /** An event as the browser gives it out; `data` is sent as it is. */
  say(type, data, lastEventId = "") {
    if (this.readyState === FakeEventSource.CLOSED) return;
    const event = new Event(type);
    this.dispatchEvent(Object.assign(event, data === undefined ? {} : { data, lastEventId }));
  }
}

globalThis.EventSource = FakeEventSource;
globalThis.addEventListener = () => {};
globalThis.document = new EventTarget();
globalThis.fetch = async () => new Response(null, { status: 204 });
const { LoreStream } = await import("../../../clients/js/lib/lore.js");

const REQUEST = "A".repeat(22);
const GARBAGE = [
  "", "{", "null", "0", "[]", '"text"', "{}", '{"seq": 1', '{"__proto__": {"seq": 1}}',
  '{"seq": null, "text": "no"}', '{"text": "no"}', '{"seq": "SEQ", "text": "no"}',
  '{"seq": SEQ.5, "text": "no"}', '{"seq": -1, "text": "no"}', '{"seq": 0, "text": "no"}',
  '{"seq": true, "text": "no"}', '{"seq": [SEQ], "text": "no"}', '{"seq": 1e400, "text": "no"}',
  '{"seq": 99999999999999999999, "text": "no"}', '{"seq": 9007199254740991, "text": "no"}',
  '{"seq": SEQ}', '{"seq": SEQ, "text": null}', '{"seq": SEQ, "text": 5}',
  '{"seq": SEQ, "text": ["no"]}', '{"seq": SEQ, "text": {"toString": 1}}',
  '{"status": "done"}', '{"status": "done", "last_seq": null}',
  '{"status": "done", "last_seq": "SEQ"}', '{"status": "done", "last_seq": -1}',
  '{"last_seq": 0}', '{"status": 5, "reason": "open"}', '{"reason": "drain"}',
  '{"error": null}', '{"error": "history_lost"}', '{"error": {"code": 5, "message": "no"}}',
  '{"error": {"code": "history_lost"}}', '{"error": {"code": "unheard_of", "message": "no"}}',
];
const IDS = ["", "x", ":", "1:", ":log", "1:log-1:more", "\u0000", "9".repeat(400)];

/** A reader with its clock, and what it has said. */
async function reader() {
  sources.length = 0;
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const stream = new LoreStream({ urls: ["http://a.example", "http://b.example"], requestId: REQUEST });
  const heard = { text: "", end: null, error: null };
  stream.addEventListener("text", ({ detail }) => (heard.text += detail.text));
  stream.addEventListener("end", ({ detail }) => (heard.end = detail));
  stream.addEventListener("error", ({ detail }) => (heard.error = detail));
  await stream.connect();
  return { stream, heard };
}

/** The connection in use, waited for as long as the reader backs off. */
function connection() {
  for (let i = 0; sources.at(-1).readyState === FakeEventSource.CLOSED; i += 1) {
    assert.ok(i < 100, "no new connection is opened");
    mock.timers.tick(200);
  }
  return sources.at(-1);
}

const after = (source) => Number(new URL(source.url).searchParams.get("after"));
const STATE = JSON.stringify({ status: "generating", reason: "open", log_id: "log-1" });
const END = (last_seq) => JSON.stringify({ status: "done", last_seq });

function open(source) {
  source.say("open");
  source.say("state", STATE);
}

async function scene(play) {
  const found = await reader();
  try {
    await play(found);
  } finally {
    found.stream.disconnect();
    mock.timers.reset();
  }
}

test("a chunk without a seq is not taken for the next one (P1)", () =>
  // It once was: undefined is neither behind nor ahead of any number.
  scene(({ heard }) => {
    open(connection());
    connection().say("message", '{"text": "no"}');
    const next = connection();
    assert.equal(heard.text, "");
    assert.equal(after(next), 0);
  }));

test("an end that does not say where is no end (P1)", () =>
  // It once was, and what was still to come was never shown.
  scene(({ heard }) => {
    open(connection());
    connection().say("message", '{"seq": 1, "text": "half "}', "1");
    connection().say("end", '{"status": "done"}');
    assert.equal(heard.end, null);
    open(connection());
    assert.equal(after(connection()), 1);
    connection().say("message", '{"seq": 2, "text": "of it"}', "2");
    connection().say("end", END(2));
    assert.equal(heard.text, "half of it");
    assert.equal(heard.end.status, "done");
  }));

test("what is malformed ends the connection, throws nothing, and is read again elsewhere", async () => {
  // Bad JSON once threw out of the listener, and the event was lost in silence.
  for (const type of ["message", "state", "end", "error"]) {
    for (const data of ["{", "null", "[]", "{}"]) {
      await scene(() => {
        const first = connection();
        open(first);
        first.say(type, data);
        assert.equal(first.readyState, FakeEventSource.CLOSED, `${type} ${data}`);
        assert.notEqual(new URL(connection().url).host, new URL(first.url).host);
      });
    }
  }
});

test("an event that is not known changes nothing", () =>
  scene(({ heard }) => {
    const source = connection();
    open(source);
    source.say("novelty", "{");
    source.say("message", '{"seq": 1, "text": "a", "novelty": {}}', "1");
    assert.equal(source.readyState, 0);
    assert.equal(heard.text, "a");
  }));

const SEEDS = process.env.LORE_SEED ? [Number(process.env.LORE_SEED)] : [...Array(150).keys()];

test("whatever else an edge says, the text is a prefix, and the end comes with all of it", async () => {
  for (const seed of SEEDS) {
    await scene(({ heard }) => {
      const { below, pick, chance } = random(seed);
      const chunks = Array.from({ length: 1 + below(30) }, (_, i) => `<${i + 1}>`);
      const whole = chunks.join("");
      for (let step = 0; heard.end === null; step += 1) {
        assert.ok(step < 500, `seed ${seed}: no end`);
        const source = connection();
        open(source);
        for (let seq = after(source) + 1; ; seq += 1) {
          if (chance(0.15)) {
            const data = pick(GARBAGE).replaceAll("SEQ", seq);
            source.say(pick(["message", "state", "end", "error", "novelty"]), data, pick(IDS));
          }
          assert.equal(heard.error, null, `seed ${seed}`);
          assert.ok(whole.startsWith(heard.text), `seed ${seed}: ${heard.text}`);
          if (source.readyState === FakeEventSource.CLOSED) break;
          if (seq > chunks.length) {
            source.say("end", END(chunks.length));
            break;
          }
          source.say("message", JSON.stringify({ seq, text: chunks[seq - 1] }), String(seq));
        }
        if (heard.end === null) mock.timers.tick(5000);
      }
      assert.equal(heard.text, whole, `seed ${seed}`);
    });
  }
});

test("a stream whose token has ended is opened again with another one", async () => {
  const calls = [];
  const before = globalThis.fetch;
  globalThis.fetch = async (url, { method, headers }) => {
    calls.push(`${method} ${new URL(url).pathname.split("/").at(-1)} ${headers.Authorization}`);
    if (method === "POST") return Response.json({ token: `token-${calls.length}` }, { status: 201 });
    return new Response("", { headers: { "Content-Type": "text/event-stream" } });
  };
  const credentials = { headers: async () => ({ Authorization: "Bearer key" }) };
  const settled = async () => {
    for (let i = 0; i < 20; i += 1) await null;
  };
  sources.length = 0;
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const stream = new LoreStream({ urls: ["http://a.example"], requestId: REQUEST, credentials });
  try {
    await stream.connect();
    await settled();
    const first = sources.at(-1);
    assert.equal(new URL(first.url).searchParams.get("token"), "token-1");
    open(first);
    first.close(); // as after a 401 to the browser's own reconnect
    first.dispatchEvent(new Event("error"));
    await settled();
    mock.timers.tick(1000);
    await settled();
    assert.equal(new URL(sources.at(-1).url).searchParams.get("token"), "token-3");
    assert.deepEqual(calls, [
      "POST token Bearer key",
      `GET ${REQUEST} Bearer key`,
      "POST token Bearer key",
    ]);
  } finally {
    stream.disconnect();
    mock.timers.reset();
    globalThis.fetch = before;
  }
});

test("a stream that was left while it waited for its token is not opened", async () => {
  let give;
  const before = globalThis.fetch;
  globalThis.fetch = () => new Promise((done) => (give = done));
  const credentials = { headers: async () => ({ Authorization: "Bearer key" }) };
  sources.length = 0;
  const stream = new LoreStream({ urls: ["http://a.example"], requestId: REQUEST, credentials });
  await stream.connect();
  stream.disconnect();
  give(Response.json({ token: "late" }, { status: 201 }));
  await new Promise((done) => setImmediate(done));
  globalThis.fetch = before;
  assert.equal(sources.length, 0);
});

const PATIENT = JSON.stringify({
  status: "generating", reason: "open", log_id: "log-1", silence_ms: 4000,
});

test("an edge that says nothing for longer than it promised is left for another", () =>
  scene(() => {
    const first = connection();
    assert.equal(new URL(first.url).searchParams.get("heartbeat"), "event");
    first.say("open");
    first.say("state", PATIENT);
    mock.timers.tick(3000);
    first.say("heartbeat", "{}");
    mock.timers.tick(3000);
    assert.equal(first.readyState, 0, "heartbeats are heard");
    mock.timers.tick(1500);
    assert.equal(first.readyState, FakeEventSource.CLOSED);
    const second = connection();
    assert.notEqual(new URL(second.url).host, new URL(first.url).host);
    second.say("open");
    second.say("state", PATIENT);
    mock.timers.tick(5000);
    assert.equal(second.readyState, 0, "the second silence in a row is borne for longer");
    mock.timers.tick(4000);
    assert.equal(second.readyState, FakeEventSource.CLOSED);
  }));

test("a word that the edge has lost its store moves the reader on at once", () =>
  scene(() => {
    const first = connection();
    open(first);
    first.say("state", JSON.stringify({ status: "generating", reason: "store_lost" }));
    assert.equal(first.readyState, FakeEventSource.CLOSED);
    assert.notEqual(new URL(connection().url).host, new URL(first.url).host);
  }));

// Streams that are held back on their way (P18)

const POLLED = (after, seq, text, end = null) => ({
  request_id: REQUEST, log_id: "log-1", after, seq, text, tokens: seq, end,
  state: { status: "generating", reason: "open", log_id: "log-1", window: 32 },
});

/** Edges whose polls are answered as `answers` say, one after the other, and what was asked. */
async function pollScene(answers, play) {
  const asked = [], acked = [];
  const before = globalThis.fetch;
  globalThis.fetch = async (url, { method, body }) => {
    if (method === "POST") acked.push(JSON.parse(body).seq);
    if (method !== "GET") return new Response(null, { status: 204 });
    asked.push(new URL(url).searchParams);
    const answer = answers.shift();
    if (answer instanceof Response) return answer;
    return answer ? Response.json(answer) : new Promise(() => {});
  };
  const settled = async () => {
    for (let i = 0; i < 40; i += 1) await null;
  };
  const pass = async (ms) => {
    for (let t = 0; t < ms; t += 50) {
      mock.timers.tick(50);
      await settled();
    }
  };
  const found = await reader();
  try {
    await play({ ...found, asked, acked, pass });
  } finally {
    found.stream.disconnect();
    mock.timers.reset();
    globalThis.fetch = before;
  }
}

test("a stream that says nothing while a poll does is left for polls, which are acknowledged", () => {
  const end = { status: "done", last_seq: 3, usage: {} };
  const answers = [POLLED(0, 1, "a"), POLLED(1, 2, "b"), POLLED(2, 3, "c", end)];
  return pollScene(answers, async ({ stream, heard, asked, acked, pass }) => {
    const told = [];
    stream.addEventListener("connection", ({ detail }) => told.push(detail.polling));
    const source = connection();
    await pass(950);
    assert.equal(asked.length, 0, "a second is given");
    await pass(100);
    assert.deepEqual([asked[0].get("after"), asked[0].get("wait")], ["0", "0"]);
    assert.equal(heard.text, "", "the stream may catch up");
    await pass(300);
    assert.equal(source.readyState, FakeEventSource.CLOSED);
    assert.equal(heard.text, "abc");
    assert.equal(heard.end.status, "done");
    assert.deepEqual(asked.map((query) => query.get("after")), ["0", "1", "2"]);
    assert.ok(asked.slice(1).every((query) => Number(query.get("wait")) > 0));
    assert.equal(acked.at(-1), 3);
    assert.ok(told.includes(true));
    assert.equal(stream.stats.polls, 3);
  });
});

test("a stream that catches up, or an edge that knows no polls, changes nothing", async () => {
  const view = Response.json({ request_id: REQUEST, status: "generating", text: "a" });
  for (const answer of [POLLED(0, 1, "a"), view, new Response(null, { status: 503 })]) {
    await pollScene([answer], async ({ heard, pass }) => {
      const source = connection();
      await pass(1050);
      open(source);
      source.say("message", '{"seq": 1, "text": "a"}', "1");
      await pass(500);
      assert.equal(source.readyState, 0);
      assert.equal(heard.text, "a");
    });
  }
});

test("a stream that has begun is asked about once its heartbeat is overdue", () =>
  pollScene([POLLED(0, 1, "a")], async ({ heard, asked, pass }) => {
    const source = connection();
    source.say("open");
    source.say("state", PATIENT);
    for (let i = 0; i < 3; i += 1) {
      await pass(2000);
      source.say("heartbeat", "{}");
    }
    assert.equal(asked.length, 0);
    await pass(2700);
    assert.equal(asked.length, 1);
    await pass(300);
    assert.equal(heard.text, "a");
    assert.equal(source.readyState, FakeEventSource.CLOSED);
  }));

test("a stream is tried again later, and polls again if it is held back still", () => {
  const answers = [POLLED(0, 1, "a")];
  answers.shift = () => (answers.length ? answers.pop() : POLLED(1, 1, ""));
  return pollScene(answers, async ({ heard, pass }) => {
    await pass(29_000);
    assert.equal(sources.length, 1);
    await pass(3000);
    assert.equal(sources.length, 2);
    assert.equal(after(sources[1]), 1);
    await pass(2000);
    assert.equal(sources[1].readyState, FakeEventSource.CLOSED);
    await pass(55_000);
    assert.equal(sources.length, 2, "twice as late");
    for (let i = 0; sources.length < 3 && i < 100; i += 1) await pass(100);
    open(connection());
    connection().say("message", '{"seq": 2, "text": "b"}', "2");
    assert.equal(heard.text, "ab");
  });
});

test("an edge that sends its polls away is left for another", () => {
  const away = POLLED(1, 1, "");
  away.state.reason = "drain";
  return pollScene([POLLED(0, 1, "a"), away, POLLED(1, 2, "b")], async ({ stream, heard, pass }) => {
    const { edge } = stream;
    await pass(2500);
    assert.equal(heard.text, "ab");
    assert.notEqual(stream.edge, edge);
  });
});

test("lost history is told by a poll as by a stream", () => {
  const lost = Response.json({ error: { code: "history_lost", message: "no" } }, { status: 410 });
  return pollScene([POLLED(0, 1, "a"), lost], async ({ heard, pass }) => {
    await pass(1500);
    assert.equal(heard.error.code, "history_lost");
  });
});
