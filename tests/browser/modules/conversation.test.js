/** Conversations as messages and back, and what a model thought apart from its answer. */

import assert from "node:assert/strict";
import { test } from "node:test";

const WEB = "../../../services/edge/lore_edge/web";
const { bodyOf, messagesOf, titleOf, turnsOf } = await import(`${WEB}/conversation.js`);
const { apart } = await import(`${WEB}/thinking.js`);
const { canShare } = await import(`${WEB}/share.js`);

const user = (content) => ({ role: "user", content });
const assistant = (content) => ({ role: "assistant", content });

test("messages are turns, and turns the same messages", () => {
  const messages = [user("a"), assistant("b"), user("c")];
  const { earlier, question } = turnsOf(messages);
  assert.deepEqual([earlier, question], [[{ question: "a", answer: "b" }], "c"]);
  assert.deepEqual([...messagesOf(earlier), user(question)], messages);
});

test("messages of one role after each other are one, and an answer may come first", () => {
  assert.deepEqual(turnsOf([assistant("hi"), user("a"), user("b")]), {
    earlier: [{ question: "", answer: "hi" }],
    question: "a\n\nb",
  });
  assert.deepEqual(turnsOf([]), { earlier: [], question: "" });
});

test("a turn without an answer is not sent, and a first question goes alone", () => {
  assert.deepEqual(bodyOf("b", [{ question: "a", answer: "" }]), { question: "b" });
  assert.deepEqual(bodyOf("c", [{ question: "a", answer: "b" }]), {
    question: "c",
    messages: [user("a"), assistant("b")],
  });
});

test("a title is the first line, and fits one", () => {
  assert.equal(titleOf("  a\tb \nc"), "a b");
  assert.equal(titleOf("x".repeat(121)).length, 120);
});

const THOUGHTS = [
  ["a", "", "a", false],
  ["<think>a</think>b", "a", "b", false],
  ["\n<think>\na\n</think>\n\nb", "a", "b", false],
  ["<think>a</thi", "a", "", true],
  ["<th", "", "", true],
  ["<the", "", "<the", false],
  ["a\n</think>\n\nb", "a", "b", false],
  ["a </think> b", "", "a </think> b", false],
  ["```\n</think>\n```", "", "```\n</think>\n```", false],
];

for (const [text, thought, answer, isThinking] of THOUGHTS) {
  test(`takes the thinking out of ${JSON.stringify(text)}`, () => {
    assert.deepEqual(apart(text), { thought, answer, isThinking });
  });
}

test("a link is shared neither from this machine alone nor for answers that belong to a key", () => {
  for (const hostname of ["localhost", "a.localhost", "127.0.0.1", "[::1]"]) {
    assert.equal(canShare({ hostname }, false), false, hostname);
  }
  assert.equal(canShare({ hostname: "lore.example" }, false), true);
  assert.equal(canShare({ hostname: "lore.example" }, true), false);
});
