/**
 * Generated answers through the page's formatting: nothing raises, nothing is hidden, links lead
 * to the web alone, and a text drawn as it grew looks the same as one drawn at once.
 *
 * It runs in a browser as it is, and in node with a stand-in for the DOM.
 */

import { useDom } from "./dom.js";
import { random } from "./random.js";
import { SHAPES, TOKENS } from "./shapes.js";

useDom();
const { MarkdownView } = await import("../../../services/edge/lore_edge/web/render.js");

const TAIL = "THE END";
const SHAPE_NAMES = Object.keys(SHAPES);

/** The input of that number, and how it arrives. */
export function input(seed, number) {
  const chance = random(seed * 1_000_003 + number);
  const parts = [];
  if (number % 4 === 0) parts.push(SHAPES[chance.pick(SHAPE_NAMES)](1 + chance.below(600)));
  for (let left = chance.below(60); left > 0; left -= 1) parts.push(chance.pick(TOKENS));
  if (number % 4 === 1) {
    // One of the tokens many times over, between others.
    parts.splice(chance.below(parts.length + 1), 0, chance.pick(TOKENS).repeat(chance.below(200)));
  }
  if (number % 500 === 2) parts.push(SHAPES[chance.pick(SHAPE_NAMES)](4000 + chance.below(6000)));
  const text = `${parts.join("")}\n\n${TAIL}`;
  const size = number % 50 === 3 ? chance.below(4) : Math.ceil(text.length / (2 + chance.below(8)));
  return { text, size: 1 + size };
}

/** What is wrong with how `text` is shown, arriving in pieces of `size`; null when nothing is. */
export function check({ text, size }) {
  const warned = [];
  const warn = console.warn;
  console.warn = (...words) => warned.push(words.join(" "));
  try {
    const grown = shown(text, size);
    const whole = shown(text, text.length);
    if (warned.length) return warned[0];
    if (!grown.textContent.includes(TAIL)) return "the end of the text is not shown";
    const [one, other] = [grown, whole].map((root) => root.outerHTML);
    return one === other ? wrongLink(grown) : `grown:  ${one}\nwhole:  ${other}`;
  } catch (error) {
    return error.stack;
  } finally {
    console.warn = warn;
  }
}

export function shown(text, size) {
  const root = document.createElement("div");
  const view = new MarkdownView(root);
  for (let at = size; at < text.length; at += size) view.show(text.slice(0, at), true);
  while (!view.show(text, false));
  return root;
}

function wrongLink(node) {
  if (node.tagName === "A" && !/^https?:\/\//i.test(node.href)) return `a link to ${node.href}`;
  for (const child of node.childNodes ?? []) {
    const wrong = wrongLink(child);
    if (wrong) return wrong;
  }
  return null;
}

/** Runs the inputs; returns the number of those that failed, after saying which. */
export function fuzz({ inputs, seed, only = null, say = console.log }) {
  let failed = 0;
  const numbers = only === null ? Array(inputs).keys() : [only];
  for (const number of numbers) {
    const one = input(seed, number);
    const wrong = check(one);
    if (wrong) {
      failed += 1;
      say(`--seed ${seed} --only ${number}: ${JSON.stringify(one.text.slice(0, 400))}\n${wrong.slice(0, 1500)}`);
    }
    if (number % 100_000 === 99_999) say(`${number + 1} inputs, ${failed} failed`);
  }
  return failed;
}
