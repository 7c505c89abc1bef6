/** The page's API key: one question for all who wait, and a wrong key is asked for again. */
import assert from "node:assert/strict";
import { test } from "node:test";

const memory = new Map();
globalThis.sessionStorage = {
  getItem: (name) => memory.get(name) ?? null,
  setItem: (name, value) => memory.set(name, value),
  removeItem: (name) => memory.delete(name),
};
const { Credentials } = await import("../../../services/edge/lore_edge/web/credentials.js");
const { Edges } = await import("../../../clients/js/lib/edges.js");

/** Someone who is asked, and what they were told was wrong. */
function person(...keys) {
  const asked = [];
  const ask = async (problem) => {
    asked.push(problem);
    return keys[asked.length - 1] ?? null;
  };
  return { asked, credentials: new Credentials(ask) };
}

/** An edge that lets in who has this key, and what it was sent. */
function edge(right) {
  const calls = [];
  globalThis.fetch = async (url, { headers }) => {
    calls.push(headers.Authorization);
    if (headers.Authorization === `Bearer ${right}`) return Response.json({ token: "t" });
    const error = { code: "unauthorized", message: "no" };
    return Response.json({ error }, { status: 401 });
  };
  return calls;
}

test("all calls wait for one question, and the key is kept for this tab", async () => {
  memory.clear();
  const calls = edge("right");
  const { asked, credentials } = person("right");
  const edges = new Edges(["http://a.example"], credentials);
  await Promise.all([edges.json("GET", "/a"), edges.json("GET", "/b")]);
  assert.deepEqual(asked, [""]);
  assert.deepEqual(calls, ["Bearer right", "Bearer right"]);
  assert.deepEqual(await new Credentials(() => assert.fail("asked")).headers(), {
    Authorization: "Bearer right",
  });
});

test("a wrong key is asked for again with a word, once for all calls", async () => {
  memory.clear();
  const calls = edge("right");
  const { asked, credentials } = person("wrong", "right");
  const edges = new Edges(["http://a.example"], credentials);
  await Promise.all([edges.json("GET", "/a"), edges.json("GET", "/b")]);
  assert.equal(asked.length, 2);
  assert.match(asked[1], /^This key is not valid/);
  assert.deepEqual(calls.filter((sent) => sent === "Bearer right").length, 2);
  assert.equal(memory.get("lore.key"), "right");
});

test("who would rather not is not asked again until they do something anew", async () => {
  memory.clear();
  const calls = edge("right");
  const { asked, credentials } = person(null, null, "right");
  const edges = new Edges(["http://a.example"], credentials);
  for (const _ of [1, 2]) {
    await assert.rejects(edges.json("GET", "/a"), { code: "unauthorized" });
  }
  assert.equal(asked.length, 1);
  credentials.reconsider();
  await assert.rejects(edges.json("GET", "/a"), { code: "unauthorized" });
  credentials.reconsider();
  await edges.json("GET", "/a");
  assert.equal(asked.length, 3);
  assert.deepEqual(calls, [undefined, undefined, undefined, "Bearer right"]);
});

test("a key that the edge takes no more is forgotten", async () => {
  memory.clear();
  memory.set("lore.key", "old");
  edge("new");
  const { asked, credentials } = person();
  const edges = new Edges(["http://a.example"], credentials);
  await assert.rejects(edges.json("GET", "/a"), { code: "unauthorized" });
  assert.equal(asked.length, 1);
  assert.equal(memory.has("lore.key"), false);
});
