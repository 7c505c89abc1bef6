/** The page's formatting under answers that are hard to format (shapes.js, fuzz.js). */

import assert from "node:assert/strict";
import { test } from "node:test";

import { counter } from "./cost.js";
import { fuzz, shown } from "./fuzz.js";
import { SHAPES } from "./shapes.js";

const INPUTS = 3000;
/** Several windows, so that what is bounded by a window does not count as growth. */
const CHARS = 8_000;
const PIECE_CHARS = 500;
const MAX_GROWTH = 2.5;
/** V8 sometimes drops counts of code that it optimizes or throws away: what counts too little is counted again. */
const TRIES = 3;

test("generated answers are shown whole, whatever they are made of", () => {
  const said = [];
  const seed = Number(process.env.LORE_SEED ?? 1);
  const failed = fuzz({ inputs: INPUTS, seed, say: (line) => said.push(line) });
  assert.equal(failed, 0, said.join("\n"));
});

/** Texts, and an element of theirs that cannot be made. */
const BROKEN = [
  ["before\n\n*broken*\n\nafter", "em"],
  ["before\n\n> broken\n\nafter", "blockquote"],
  [`before\n\n\`\`\`\n${"code\n".repeat(2000)}\`\`\`\nafter`, "pre"],
  [`before\n\n|a|\n|-|\n${"|b|\n".repeat(2000)}\nafter`, "td"],
  [`before\n${"- item\n".repeat(2000)}\nafter`, "li"],
];

for (const [text, broken] of BROKEN) {
  test(`text around a broken <${broken}>, and in it, is shown as it is`, () => {
    const { createElement } = document;
    const { warn } = console;
    console.warn = () => {};
    document.createElement = (name) => {
      if (name === broken) throw new RangeError("Maximum call stack size exceeded");
      return createElement(name);
    };
    const letters = (of) => of.replace(/[^a-z]/g, "");
    try {
      for (const size of [7, text.length]) {
        assert.equal(letters(shown(text, size).textContent), letters(text));
      }
    } finally {
      document.createElement = createElement;
      console.warn = warn;
    }
  });
}

/** Long blocks, and what they are on the page. */
const LONG = [
  ["code", `\`\`\`py\n${"code\n".repeat(4000)}\`\`\``, /^DIV$/],
  ["a table of long cells", `|a|\n|-|\n${`|${"b ".repeat(300)}|\n`.repeat(40)}`, /^DIV$/],
  ["a list", "1. item\n".repeat(4000), /^(OL,)*OL$/],
];

for (const [name, text, tags] of LONG) {
  test(`${name} that is formatted in pieces stays one`, () => {
    const blocks = shown(text, text.length).childNodes.flatMap(({ childNodes }) => childNodes);
    assert.match(blocks.map(({ tagName }) => tagName).join(), tags);
  });
}

test("a list that is formatted in pieces counts on", () => {
  const text = "1. item\n".repeat(4000);
  const [part] = shown(text, 700).childNodes;
  let next = 1;
  for (const list of part.childNodes) {
    assert.equal(list.start, next);
    next += list.childNodes.length;
  }
  assert.equal(next, 4001);
});

test("twice the text costs twice the steps, at once and as it grows", async () => {
  const steps = await counter();
  const wrong = [];
  for (const [name, make] of Object.entries(SHAPES)) {
    for (const [how, size] of [["at once", Infinity], ["as it grows", PIECE_CHARS]]) {
      const cost = async (n) => {
        const text = make(n);
        return steps(() => shown(text, Math.min(size, text.length)));
      };
      let [one, two] = [0, Infinity];
      for (let tries = 0; tries < TRIES && two >= MAX_GROWTH * one; tries += 1) {
        [one, two] = [await cost(CHARS), await cost(2 * CHARS)];
      }
      if (two >= MAX_GROWTH * one) wrong.push(`${name}, ${how}: ${one} steps, then ${two}`);
    }
  }
  assert.deepEqual(wrong, []);
});
